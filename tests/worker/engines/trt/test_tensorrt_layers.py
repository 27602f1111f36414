"""What is read out of an engine's inspector.

The layers are written for these tests, in the format and with the words of real engines: those that NVIDIA published
with its engine explorer (NVIDIA/TensorRT at 8fe05393, tools/experimental/trt-engine-explorer, tests/inputs and
examples; older kernels with `Weights` and long format names) and the fields that its layer_info.py of 11.1 names
(`kgen`, short type names, `Metadata`).
"""

import json
from typing import Any

import pytest

from quantfleet_domain.jobs.measured import Conversion
from quantfleet_worker.engines.trt.layers import (
    Layer,
    conversions,
    int8_nodes,
    precision_of,
    precisions,
    read_layers,
)

WIDE8 = "Thirty-two wide channel vectorized row major Int8 format"


def tensor(form: str) -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 8, 4, 4], "Format/Datatype": form}


def layer(name: str, kind: str, takes: str, gives: str, **more: Any) -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Inputs": [tensor(takes)], "Outputs": [tensor(gives)], **more}


def read(*layers: dict[str, Any] | str) -> tuple[Layer, ...]:
    return read_layers(json.dumps({"Layers": list(layers), "Bindings": ["image"]}))


QUANTIZE = layer("quantize_image", "Reformat", "Row major linear FP32", WIDE8, Origin="QDQ")
INT8 = layer(
    "stem.w + quantize_stem + stem_node + PWN(relu_a, relu_b)",
    "CaskConvolution",
    WIDE8,
    "Channel major FP16 format where channel % 8 == 0",
    Weights={"Type": "Int8", "Count": 216},
    TacticName="sm75_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs",
)
HALF = layer(
    "deep_node", "CaskConvolution", WIDE8, "Row major linear FP16 format", Weights={"Type": "Half", "Count": 9}
)
KGEN = layer(
    "__myl_Fc_myl0_3", "gemm", "Int8", "Half",
    TacticName="sm80_xmma_gemm_i8i8_i8i32_f32_tn_n",
    Metadata="[ONNX Layer: logits_node]\u001e[ONNX Layer: bias_node]",
)  # fmt: skip


def test_nodes_are_found_in_names_and_in_metadata() -> None:
    stem, fused = read(INT8, KGEN)
    assert {"stem_node", "quantize_stem", "relu_a", "relu_b"} <= stem.covers
    assert {"logits_node", "bias_node"} <= fused.covers


def test_int8_is_what_multiplies_integers_and_not_what_only_reads_or_writes_them() -> None:
    layers = read(QUANTIZE, INT8, HALF, KGEN)
    assert [item.in_int8 for item in layers] == [False, True, False, True]
    assert {"stem_node", "logits_node"} <= int8_nodes(layers)
    assert not {"deep_node", "quantize_image"} & int8_nodes(layers)


def test_a_layer_without_weights_is_judged_by_its_kernel_and_then_by_its_first_input() -> None:
    kernel = layer("a", "CaskGemmConvolution", "FP16", "FP16", TacticName="turing_int8_i8816cudnn_int8_128x128")
    joined = {**layer("b", "ElementWise", "Int8", "Int8"), "Inputs": [tensor("Int8"), tensor("Half")]}
    mixed = {**joined, "Name": "c", "Inputs": [tensor("Half"), tensor("Int8")]}
    assert [item.in_int8 for item in read(kernel, joined, mixed)] == [True, True, False]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (WIDE8, "int8"),
        ("Channel major INT8 format where channel % 16 == 0", "int8"),
        ("Row major linear FP32", "fp32"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("Int32", "int32"),
        ("Unknown format", ""),
    ],
)
def test_types_are_read_from_old_and_new_names(form: str, expected: str) -> None:
    assert read(layer("a", "NoOp", form, form))[0].inputs == (expected,)


def test_the_precision_of_a_node_is_that_of_its_layer() -> None:
    layers = read(INT8, HALF)
    assert [precision_of(layers, name) for name in ("stem_node", "deep_node", "gone_node")] == ["int8", "fp16", ""]
    assert precisions(read(QUANTIZE, INT8, INT8, HALF)) == "int8 2, fp16 1"


def test_inserted_reformats_are_counted_with_their_share_of_the_time() -> None:
    layers = read(QUANTIZE, INT8, HALF)
    assert conversions(layers, {"quantize_image": 1.0, INT8["Name"]: 2.0, "deep_node": 1.0}) == (
        Conversion("Reformat", 1, 0.25),
    )
    assert conversions(layers, {}) == (Conversion("Reformat", 1, None),)
    assert conversions(read(INT8), {}) == ()


def test_an_engine_that_shows_names_alone_claims_nothing() -> None:
    layers = read("stem_node", "Reformatting CopyNode for Input Tensor 0 to deep_node")
    assert int8_nodes(layers) == frozenset()
    assert precisions(layers) == "unknown 2"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "no json"])
def test_what_is_no_engine_information_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own error, or ours
        read_layers(text)
