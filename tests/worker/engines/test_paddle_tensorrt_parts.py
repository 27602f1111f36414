"""What is pure of the engine `paddle-tensorrt`: plans, the programs that Paddle leaves, tables, and accounts."""

import json
from typing import Any

import pytest
from paddle.base.proto import framework_pb2 as messages

from quantfleet_domain.calibration.tensorrt_cache import CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.paddle_cuda.counts import count, engine_shares, read_engine_info
from quantfleet_worker.engines.paddle_cuda.plan import PRECISIONS, Form, Plan, plan, precisions_of, why_not
from quantfleet_worker.engines.paddle_cuda.program import behind_biases, original, read_optimized
from quantfleet_worker.engines.paddle_cuda.summary import read_summary
from quantfleet_worker.engines.paddle_cuda.tables import tables_for, without_table
from quantfleet_worker.models.paddle_quantization import Quantization, QuantizedLayers

TEXT, TEXTS, FLAG = 2, 5, 6  # framework.proto, AttrType

SUMMARY = """
+-------------------------------+---------------------------------+
| Option                        | Value                           |
+-------------------------------+---------------------------------+
| model_file                    | /models/inference.pdmodel       |
+-------------------------------+---------------------------------+
| use_gpu                       | true                            |
| gpu_device_id                 | 0                               |
| mixed_precision_mode          | fp32                            |
| use_external_stream           | false                           |
| use_tensorrt                  | true                            |
| trt_compile_version           | 8.5.3                           |
| trt_runtime_version           | 8.5.3                           |
| tensorrt_precision_mode       | int8                            |
| tensorrt_workspace_size       | 1073741824                      |
| tensorrt_max_batch_size       | 1                               |
| tensorrt_min_subgraph_size    | 5                               |
| tensorrt_use_static_engine    | true                            |
| tensorrt_use_calib_mode       | true                            |
| tensorrt_transformer_posid    |                                 |
+-------------------------------+---------------------------------+
"""
"""What Paddle 2.6.2 for GPUs printed of a configuration on a machine without one, some of its lines."""


def operator(into: Any, kind: str, inputs: dict[str, list[str]], outputs: dict[str, list[str]]) -> Any:
    item = into.add(type=kind)
    for slots, given in ((item.inputs, inputs), (item.outputs, outputs)):
        for name, arguments in given.items():
            slots.add(parameter=name, arguments=arguments)
    return item


def attribute(item: Any, name: str, value: str | bytes | list[str] | bool) -> None:
    if isinstance(value, bool):
        item.attrs.add(name=name, type=FLAG, b=value)
    elif isinstance(value, list):
        item.attrs.add(name=name, type=TEXTS, strings=value)
    else:
        added = messages.OpDesc.Attr(name=name, type=TEXT)
        # Paddle keeps a serialised block in a field of text, which Python does not let one do.
        text = value.encode() if isinstance(value, str) else value
        item.attrs.append(
            messages.OpDesc.Attr.FromString(added.SerializeToString() + b"\x2a" + varint(len(text)) + text)
        )


def varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def optimized(table: str = "") -> bytes:
    """A program as tensorrt_subgraph_pass.cc of Paddle 2.6 leaves it: one engine of two convolutions, each with its
    bias in it and the second after a rectifier, and a product and a softmax outside."""
    block = messages.BlockDesc(idx=0, parent_idx=-1)
    operator(
        block.ops,
        "fused_conv2d_add_act",
        {"Input": ["x"], "Filter": ["conv_0.w"], "Bias": ["conv_0.b"]},
        {"Output": ["conv_0.sum_subgraph_11"]},
    )
    operator(block.ops, "relu", {"X": ["conv_0.sum_subgraph_11"]}, {"Out": ["relu_0.out_subgraph_12"]})
    operator(
        block.ops,
        "fused_conv2d_add_act",
        {"Input": ["relu_0.out_subgraph_12"], "Filter": ["conv_1.w"], "Bias": ["conv_1.b"]},
        {"Output": ["conv_1.sum_subgraph_20"]},
    )
    program = messages.ProgramDesc()
    main = program.blocks.add(idx=0, parent_idx=-1)
    operator(main.ops, "feed", {"X": ["feed"]}, {"Out": ["x"]})
    engine = operator(main.ops, "tensorrt_engine", {"Xs": ["conv_0.w", "x"]}, {"Ys": ["conv_1.sum"]})
    attribute(engine, "subgraph", block.SerializeToString())
    attribute(engine, "engine_key", "123")
    attribute(engine, "calibration_engine_key", "456")
    attribute(engine, "calibration_data", table)
    attribute(engine, "parameters", ["conv_0.w", "conv_0.b", "conv_1.w", "conv_1.b"])
    operator(main.ops, "matmul_v2", {"X": ["conv_1.sum"], "Y": ["fc.w"]}, {"Out": ["fc.out"]})
    operator(main.ops, "softmax", {"X": ["fc.out"]}, {"Out": ["probabilities"]})
    operator(main.ops, "fetch", {"X": ["probabilities"]}, {"Out": ["fetch"]})
    return bytes(program.SerializeToString())


def float_program() -> bytes:
    program = messages.ProgramDesc()
    main = program.blocks.add(idx=0, parent_idx=-1)
    for name, constant in (("x", False), ("conv_0.w", True), ("conv_0.b", True), ("other", False)):
        main.vars.add(name=name, persistable=constant, type=messages.VarType(type=7))
    operator(main.ops, "conv2d", {"Input": ["x"], "Filter": ["conv_0.w"]}, {"Output": ["conv_0.out"]})
    operator(main.ops, "elementwise_add", {"X": ["conv_0.out"], "Y": ["conv_0.b"]}, {"Out": ["conv_0.sum"]})
    operator(main.ops, "elementwise_add", {"X": ["conv_0.sum"], "Y": ["other"]}, {"Out": ["total"]})
    return bytes(program.SerializeToString())


@pytest.mark.parametrize(
    ("precision", "form", "wanted"),
    [
        ("fp32", Form.FLOAT, Plan("Float32", calibrated=False, pinned=False)),
        ("fp16", Form.FLOAT, Plan("Half", calibrated=False, pinned=False)),
        ("int8+fp16", Form.QDQ, Plan("Int8", calibrated=False, pinned=False)),
        ("int8+fp16", Form.TABLE, Plan("Int8", calibrated=True, pinned=False)),
        ("int8+fp16", Form.NATIVE, Plan("Int8", calibrated=True, pinned=False)),
        ("int8+fp16+pinned", Form.QDQ, Plan("Int8", calibrated=False, pinned=True)),
    ],
)
def test_a_precision_and_a_form_make_a_plan(precision: str, form: Form, wanted: Plan) -> None:
    assert plan(precision, form) == wanted


@pytest.mark.parametrize(
    ("precision", "form", "told"),
    [
        ("int8", Form.QDQ, "int8[+]fp16"),
        ("bf16", Form.FLOAT, "bf16"),
        ("int8+fp16", Form.FLOAT, "needs scales"),
        ("fp16", Form.QDQ, "quantized"),
        ("fp32", Form.TABLE, "quantized"),
    ],
)
def test_what_paddle_tensorrt_cannot_do_is_refused_with_the_reason(precision: str, form: Form, told: str) -> None:
    with pytest.raises(QuantfleetError, match=told) as caught:
        plan(precision, form)
    assert caught.value.code is ErrorCode.ENGINE_FAILED


@pytest.mark.parametrize(
    ("capability", "wanted"),
    [
        (None, ()),
        ((6, 0), ("fp32", "fp16")),
        ((6, 1), ("fp32",)),
        ((7, 5), PRECISIONS),
        ((9, 0), PRECISIONS),
    ],
)
def test_a_gpu_has_the_precisions_that_it_has_arithmetic_for(
    capability: tuple[int, int] | None, wanted: tuple[str, ...]
) -> None:
    assert precisions_of(capability) == wanted


def test_only_programs_with_scales_of_activations_go_to_tensorrt() -> None:
    assert {how for how in Quantization if not why_not(how)} == {Quantization.NONE, Quantization.STATIC}


def test_what_went_into_tensorrt_is_read_with_its_keys_and_names() -> None:
    program = read_optimized(optimized())
    (subgraph,) = program.subgraphs
    assert (subgraph.engine_key, subgraph.table_key, subgraph.has_table) == ("123", "456", False)
    assert [item.type for item in subgraph.operators] == ["fused_conv2d_add_act", "relu", "fused_conv2d_add_act"]
    assert subgraph.tensors() == ("x", "conv_0.sum_subgraph_11", "relu_0.out_subgraph_12", "conv_1.sum_subgraph_20")
    assert [original(name) for name in subgraph.tensors()] == ["x", "conv_0.sum", "relu_0.out", "conv_1.sum"]
    assert [item.type for item in program.outside] == ["matmul_v2", "softmax"]


def test_what_is_no_program_is_an_error() -> None:
    for content in (b"", b"\x00not a program"):
        with pytest.raises(ValueError, match="no Paddle program"):
            read_optimized(content)


def test_a_program_that_tensorrt_takes_no_part_of_has_no_engines() -> None:
    program = read_optimized(float_program())
    assert program.subgraphs == ()
    assert len(program.outside) == 3


def test_a_sum_with_a_constant_is_known_by_what_it_is_added_to() -> None:
    assert behind_biases(float_program()) == {"conv_0.out": "conv_0.sum"}


def test_each_engine_gets_the_scales_of_its_tensors_by_the_names_that_tensorrt_knows() -> None:
    table = CalibrationCache(
        "0", "EntropyCalibration2", {"x": 0.5, "relu_0.out": 0.25, "conv_1.sum": 1.0, "fc.out": 2.0}
    )
    made = tables_for(read_optimized(optimized()), table, 8503)
    ((name, text),) = made.files.items()
    assert name == "trt_calib_456"
    assert text == (
        b"TRT-8503-EntropyCalibration2\n"
        b"x: 3f000000\nrelu_0.out_subgraph_12: 3e800000\nconv_1.sum_subgraph_20: 3f800000\n"
    )
    assert made.unscaled == ("conv_0.sum_subgraph_11",)


def test_an_engine_whose_table_paddle_did_not_find_is_noticed() -> None:
    assert without_table(read_optimized(optimized())) == 1
    assert without_table(read_optimized(optimized(table="TRT-8503-EntropyCalibration2\n"))) == 0


def layer(name: str, kind: str, weights: str, first: str) -> dict[str, Any]:
    """A layer as TensorRT's inspector describes it in detail (NVIDIA's trt-engine-explorer has examples)."""
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [{"Name": "in", "Format/Datatype": first}],
        "Outputs": [{"Name": "out", "Format/Datatype": first}],
        "Weights": {"Type": weights, "Count": 9},
    }


def engine_info(*layers: dict[str, Any]) -> str:
    """The file as `TensorRTEngine::GetEngineInfo` writes it, line breaks included."""
    return "[" + "\n,".join(json.dumps(item) for item in layers) + "\n]"


FIRST = layer(
    "fused_conv2d_add_act (Output: conv_0.sum_subgraph_11) + relu (Output: relu_0.out_subgraph_12)",
    "CaskConvolution",
    "Int8",
    "Four wide channel vectorized row major Int8 format",
)
SECOND = layer(
    "fused_conv2d_add_act (Output: conv_1.sum_subgraph_20)", "CaskConvolution", "Half", "Row major linear FP16 format"
)
MEANT = QuantizedLayers(
    Quantization.STATIC,
    (("conv_0.out", "conv2d"), ("conv_1.out", "conv2d"), ("conv_2.out", "conv2d")),
    (("fc.out", "matmul_v2"),),
)
BIASED = {"conv_0.out": "conv_0.sum", "conv_1.out": "conv_1.sum"}


def test_layers_that_run_in_int8_are_counted_by_the_names_of_the_model() -> None:
    counts = count(read_optimized(optimized()), read_engine_info(engine_info(FIRST, SECOND)), MEANT, BIASED)
    assert (counts.int8, counts.quantizable) == (1, 4)
    assert counts.ran == ("conv_0.out (conv2d)",)
    assert counts.fallbacks == (
        "conv_1.out (conv2d): TensorRT chose a kernel in fp16",
        "conv_2.out (conv2d): Paddle left it out of TensorRT",
        "fc.out (matmul_v2): the quantizer left its weight in float",
    )


def test_a_layer_that_the_inspector_does_not_name_is_not_taken_for_int8() -> None:
    counts = count(read_optimized(optimized()), read_engine_info(engine_info(FIRST)), MEANT, BIASED)
    assert counts.int8 == 1
    assert counts.fallbacks[0] == (
        "conv_1.out (conv2d): TensorRT has no layer of that name, so its precision is unknown"
    )


def test_an_engine_info_that_is_none_is_an_error() -> None:
    for text in ("", "[", '{"Layers"'):
        with pytest.raises(ValueError, match=r".+"):
            read_engine_info(text)


def test_what_went_in_and_what_stayed_out_is_shown() -> None:
    assert engine_shares(read_optimized(optimized())) == {
        "tensorrt_engines": "1",
        "operators_in_tensorrt": "3",
        "operators_outside": "2 (matmul_v2, softmax)",
    }


def test_settings_are_read_from_paddles_own_summary() -> None:
    assert read_summary(SUMMARY) == {
        "gpu_device_id": "0",
        "mixed_precision": "fp32",
        "external_stream": "false",
        "tensorrt_built_with": "8.5.3",
        "tensorrt": "8.5.3",
        "precision_mode": "int8",
        "workspace_bytes": "1073741824",
        "max_batch_size": "1",
        "min_subgraph_size": "5",
        "use_static": "true",
        "use_calib_mode": "true",
    }
