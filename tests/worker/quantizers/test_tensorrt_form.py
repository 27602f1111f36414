"""The form `s8s8` is what TensorRT's ONNX parser takes, with the scales of the table, and computes nearly the network.

What the parser asks for is in onnx-tensorrt 10.1, onnxOpImporters.cpp, `QuantDequantLinearHelper`: zero points of int8
that are all 0 and as many as the scales, scales above 0, and as many of them as the axis has channels.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from tests.worker.models.test_simulated_run import SAMPLES, branched, summed
from tests.worker.onnx_networks import NetworkBuilder, calibrated, classifier, pictures, saved

from quantfleet_domain.calibration.correction import (
    CHECKPOINTS,
    Corrections,
    FormCorrections,
    LayerCorrection,
    checkpoint,
    quantity,
)
from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.simulated_run import first_stage, later_stage
from quantfleet_worker.quantizers.onnx_qdq import SYMMETRIC, magnitudes, quantize
from quantfleet_worker.quantizers.qdq_plan import plan, quantized_under

SHAPE = {"image": (1, 3, 32, 32)}
BOUND = 0.06
"""The mean of absolute differences as a part of that of absolute values, for 8 bits through up to six layers.

Seen are 0.04, 0.02 and 0.01; in the form u8s8 0.03, 0.02 and 0.01.
"""


@dataclass(frozen=True)
class Ready:
    reference: Path
    graph: CalibrationGraph
    table: ScaleTable

    def written(self, folder: Path, table: ScaleTable | None = None, form: str = SYMMETRIC) -> ModelProto:
        quantize(self.reference, table or self.table, form, folder / f"{form}.onnx")
        return onnx.load(folder / f"{form}.onnx")


def with_constants() -> ModelProto:
    """Constants that are added and multiplied between convolutions, a MatMul, and a tensor that is read twice."""
    net = NetworkBuilder(seed=4)
    first = net.node("LeakyRelu", [net.convolution("image", "first", 3, 8)], "first.leaky", alpha=0.1)
    shift = net.constant("shift", np.linspace(0.5, 3, 8, dtype=np.float32).reshape(1, 8, 1, 1))
    factor = net.constant("factor", np.linspace(0.2, 2, 8, dtype=np.float32).reshape(1, 8, 1, 1))
    scaled = net.node("Mul", [net.node("Add", [first, shift], "shifted"), factor], "scaled")
    rows = net.node("Flatten", [net.node("GlobalAveragePool", [scaled], "averaged")], "rows")
    weight = net.constant("product.w", net.generator.standard_normal((8, 6)).astype(np.float32))
    product = net.node("Relu", [net.node("MatMul", [rows, weight], "product")], "product.relu")
    last = net.constant("last.w", net.generator.standard_normal((6, 5)).astype(np.float32))
    return net.model(net.node("Gemm", [product, last, net.constant("last.b", np.ones(5, np.float32))], "last"))


NETWORKS = {"classifier": classifier, "branched": branched, "constants": with_constants}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ready]:
    found = {}
    for name, build in NETWORKS.items():
        folder = tmp_path_factory.mktemp(name)
        content, graph = inspect(saved(build(), folder), SHAPE)
        reference = folder / "reference.onnx"
        reference.write_bytes(content)
        found[name] = Ready(reference, graph, calibrated(reference, graph, pictures(8)))
    return found


@pytest.fixture(params=list(NETWORKS))
def ready(request: pytest.FixtureRequest, networks: dict[str, Ready]) -> Ready:
    return networks[request.param]


def nodes(model: ModelProto, *kinds: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type in kinds]


def constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def outputs(model: Path, sample: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """What the file says: ONNX Runtime's own kernels for bytes saturate on some processors, and so are left out."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, {"image": sample})]


def test_every_zero_point_is_int8_and_0_and_every_scale_is_above_0(ready: Ready, tmp_path: Path) -> None:
    model = ready.written(tmp_path)
    found = constants(model)
    pairs = nodes(model, "QuantizeLinear", "DequantizeLinear")
    assert pairs
    for node in pairs:
        scale, point = found[node.input[1]], found[node.input[2]]
        assert (point.dtype, point.size) == (np.dtype(np.int8), scale.size), node.name
        assert not point.any()
        assert (scale > 0).all()


def test_weights_are_bytes_dequantized_along_the_axis_of_their_outputs(ready: Ready, tmp_path: Path) -> None:
    model = ready.written(tmp_path)
    found, made = constants(model), {node.output[0]: node for node in model.graph.node}
    rows = {row.tensor: row for row in ready.table.weights}
    for node in nodes(model, "Conv", "Gemm", "MatMul"):
        (axis,) = {item.i for item in made[node.input[1]].attribute if item.name == "axis"}
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        assert axis == (0 if node.op_type == "Conv" or transposed else 1)
        codes, scale = (found[name] for name in made[node.input[1]].input[:2])
        assert codes.dtype == np.int8
        assert scale.shape == (codes.shape[axis],)
        row = rows[made[node.input[1]].input[0].removesuffix("_quantized")]
        np.testing.assert_array_equal(scale, weight_scales(row.absmax))


def test_biases_stay_in_float_and_nothing_is_dequantized_from_more_than_bytes(ready: Ready, tmp_path: Path) -> None:
    model = ready.written(tmp_path)
    found = constants(model)
    biases = [found[node.input[2]] for node in nodes(model, "Conv", "Gemm") if len(node.input) > 2]
    assert biases
    assert {bias.dtype for bias in biases} == {np.dtype(np.float32)}
    assert not any(item.data_type == TensorProto.INT32 for item in model.graph.initializer)


def test_relu_and_clip_are_kept_and_nothing_rounds_between_them_and_what_they_limit(
    networks: dict[str, Ready], tmp_path: Path
) -> None:
    for name, ready in networks.items():
        model, dropped = ready.written(tmp_path), ready.written(tmp_path, form="u8s8")
        kept = nodes(model, "Relu", "Clip")
        assert len(kept) == len(nodes(onnx.load(ready.reference), "Relu", "Clip"))
        assert len(nodes(dropped, "Relu", "Clip")) < len(kept), name
        made = {node.output[0]: node.op_type for node in model.graph.node}
        assert {made[node.input[0]] for node in kept} <= {"Conv", "Gemm", "MatMul", "Add"}


def test_an_addition_reads_one_addend_in_float_and_the_other_as_bytes(
    networks: dict[str, Ready], tmp_path: Path
) -> None:
    model = networks["branched"].written(tmp_path)
    made = {node.output[0]: node.op_type for node in model.graph.node}
    (addition,) = nodes(model, "Add")
    assert [made[name] for name in addition.input] == ["Conv", "DequantizeLinear"]


def test_each_reader_of_an_activation_has_a_pair_of_its_own(ready: Ready, tmp_path: Path) -> None:
    model = ready.written(tmp_path)
    weights = constants(model)
    dequantized = {node.output[0] for node in nodes(model, "DequantizeLinear") if node.input[0] not in weights}
    readers = [name for node in model.graph.node for name in node.input if name in dequantized]
    assert len(readers) == len(set(readers))


def test_the_model_is_a_valid_one_of_an_operator_set_that_has_scales_per_channel(ready: Ready, tmp_path: Path) -> None:
    model = ready.written(tmp_path)
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version >= 13) for item in model.opset_import] == [("", True)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(list(NETWORKS)), data=st.data())
def test_scales_are_those_of_any_table_to_the_bit(
    networks: dict[str, Ready], tmp_path: Path, name: str, data: st.DataObject
) -> None:
    ready = networks[name]
    ends = st.floats(0, 2.0**60, width=32) | st.just(0.0)
    rows = tuple(replace(r, lo=-data.draw(ends), hi=data.draw(ends)) for r in ready.table.activations)
    model = ready.written(tmp_path, replace(ready.table, activations=rows))
    found = constants(model)
    ranges = {row.tensor: rows[[r.tensor for r in rows].index(row.tied_to or row.tensor)] for row in rows}
    # A tensor that only moves values has the scale of another: under its name.
    scales = {node.input[1].removesuffix("_scale") for node in nodes(model, "QuantizeLinear")}
    assert scales
    for tensor in scales:
        wanted = activation_parameters(ActivationForm.S8_SYMMETRIC, ranges[tensor].lo, ranges[tensor].hi)
        assert found[f"{tensor}_scale"].tobytes() == wanted.scale.tobytes()


def test_the_same_table_gives_the_same_bytes(ready: Ready, tmp_path: Path) -> None:
    first, again = (quantize(ready.reference, ready.table, SYMMETRIC, tmp_path / name) for name in ("a", "b"))
    assert first.sha256 == again.sha256
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_it_computes_nearly_what_the_reference_computes(ready: Ready, tmp_path: Path) -> None:
    info = quantize(ready.reference, ready.table, SYMMETRIC, tmp_path / "int8.onnx")
    assert info.form == SYMMETRIC
    assert info.float_nodes == ()
    off, size = 0.0, 0.0
    for sample in pictures(8, seed=8):
        pairs = zip(outputs(ready.reference, sample), outputs(tmp_path / "int8.onnx", sample), strict=True)
        for exact, approximate in pairs:
            assert not np.array_equal(exact, approximate)
            off += float(np.abs(exact - approximate).mean())
            size += float(np.abs(exact).mean())
    assert off < BOUND * size


def test_a_corrected_bias_and_a_layer_left_in_float_are_in_the_form(networks: dict[str, Ready], tmp_path: Path) -> None:
    ready = networks["classifier"]
    delta = tuple(float(value) for value in range(8))
    corrections = FormCorrections(
        SYMMETRIC, (LayerCorrection("side", "side.w", delta, 20.0),), (LayerCorrection("wide", "wide.w", (), 7.5),)
    )
    info = quantize(ready.reference, ready.table, SYMMETRIC, tmp_path / "int8.onnx", corrections)
    before, after = constants(onnx.load(ready.reference)), constants(onnx.load(tmp_path / "int8.onnx"))
    side, wide = (
        next(node for node in onnx.load(tmp_path / "int8.onnx").graph.node if node.name == name)
        for name in ("side_node", "wide_node")
    )
    np.testing.assert_allclose(after[side.input[2]] - before["side.b"], delta, atol=1e-6)
    np.testing.assert_array_equal(after[wide.input[1]], before["wide.w"])
    assert info.float_nodes == ("wide_node: excluded: its own SQNR of 7.5 dB is below the limit",)


def test_biases_are_corrected_for_what_the_form_computes(networks: dict[str, Ready], tmp_path: Path) -> None:
    """The network that is simulated is the one that is written, or the corrections would be another's."""
    ready, forms = networks["branched"], (SYMMETRIC,)
    reference = onnx.load(ready.reference)
    observed = summed(first_stage(reference, ready.graph, ready.table, forms), range(SAMPLES))
    found = Corrections.first(observed, ready.graph, forms, ready.table.sha256, None)
    for stage in range(1, CHECKPOINTS + 1):
        run = later_stage(reference, ready.graph, ready.table, forms, found, stage)
        found = found.refined(summed(run, range(SAMPLES)))
    quantize(ready.reference, ready.table, SYMMETRIC, tmp_path / "int8.onnx", found.of(SYMMETRIC))
    run = later_stage(reference, ready.graph, ready.table, forms, found, CHECKPOINTS)
    assert "scores" in [layer.output for layer in checkpoint(ready.graph, CHECKPOINTS)]
    for sample in pictures(SAMPLES):
        simulated = run.quantities({"image": sample})[quantity("mean", SYMMETRIC, "scores")]
        computed = outputs(tmp_path / "int8.onnx", sample)[0][0]
        # A sum that lies between two codes may be rounded to either.
        assert np.abs(simulated - computed).max() < 0.01 * np.abs(computed).max()


def test_a_cache_has_the_magnitude_of_every_tensor_between_the_int8_layers(ready: Ready) -> None:
    """TensorRT leaves in float what touches a tensor without a scale: a MaxPool's output, say."""
    model = onnx.load(ready.reference)
    owners = quantized_under(model, plan(model.graph), symmetric=False).owners
    rows = {row.tensor: row for row in ready.table.activations}
    found = magnitudes(ready.reference, ready.table)
    assert found == {name: max(-rows[owner].lo, rows[owner].hi) for name, owner in owners.items()}
    weighted = {node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    assert weighted <= set(found)
    assert set(rows) <= set(found)
