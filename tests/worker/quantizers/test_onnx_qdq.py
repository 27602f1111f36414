import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tests.worker.onnx_networks import NetworkBuilder, calibrated, classifier, pictures, saved

from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.quantizers.onnx_qdq import FORMS, quantize
from quantfleet_worker.quantizers.paired_weights import paired_scales


@dataclass(frozen=True)
class Calibrated:
    reference: Path
    graph: CalibrationGraph
    table: ScaleTable


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    folder = tmp_path_factory.mktemp("classifier")
    content, graph = inspect(saved(classifier(), folder), {})
    reference = folder / "reference.onnx"
    reference.write_bytes(content)
    return Calibrated(reference, graph, calibrated(reference, graph, pictures(20)))


def session(model: Path, *, precise: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1" if precise else "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def probabilities(model: Path, *, precise: bool = True) -> NDArray[np.float32]:
    loaded = session(model, precise=precise)
    rows = [np.asarray(loaded.run(None, {"image": sample})[0]) for sample in pictures(20, seed=8)]
    return np.concatenate(rows)


def initializers(model: Path) -> dict[str, NDArray[np.generic]]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(model).graph.initializer}


@pytest.mark.parametrize("form", FORMS)
def test_the_int8_model_computes_nearly_what_the_reference_computes(
    ready: Calibrated, form: str, tmp_path: Path
) -> None:
    quantize(ready.reference, ready.table, form, tmp_path / "int8.onnx")
    exact, approximate = probabilities(ready.reference), probabilities(tmp_path / "int8.onnx")
    assert np.abs(exact - approximate).mean() < 0.01
    assert (exact.argmax(1) == approximate.argmax(1)).mean() >= 0.9
    assert not np.array_equal(exact, approximate)


def test_scales_and_zero_points_are_the_tables_to_the_bit(ready: Calibrated, tmp_path: Path) -> None:
    quantize(ready.reference, ready.table, "u8s8", tmp_path / "int8.onnx")
    stored = initializers(tmp_path / "int8.onnx")
    for row in ready.table.activations:
        wanted = activation_parameters(ActivationForm.U8_AFFINE, row.lo, row.hi)
        assert stored[f"{row.tensor}_scale"] == wanted.scale
        assert stored[f"{row.tensor}_zero_point"] == wanted.zero_point
        assert stored[f"{row.tensor}_zero_point"].dtype == np.uint8
    for weight in ready.table.weights:
        np.testing.assert_array_equal(stored[f"{weight.tensor}_scale"], weight_scales(weight.absmax))
        assert stored[f"{weight.tensor}_quantized"].dtype == np.int8
        assert not np.asarray(stored[f"{weight.tensor}_zero_point"]).any()


def test_another_range_in_the_table_moves_the_result(ready: Calibrated, tmp_path: Path) -> None:
    rows = tuple(replace(row, hi=row.hi / 8) if row.tensor == "wide" else row for row in ready.table.activations)
    quantize(ready.reference, ready.table, "u8s8", tmp_path / "right.onnx")
    quantize(ready.reference, replace(ready.table, activations=rows), "u8s8", tmp_path / "clipped.onnx")
    assert not np.array_equal(probabilities(tmp_path / "right.onnx"), probabilities(tmp_path / "clipped.onnx"))


def test_every_weighted_node_and_what_lies_between_really_runs_in_int8(ready: Calibrated, tmp_path: Path) -> None:
    info = quantize(ready.reference, ready.table, "u8s8", tmp_path / "int8.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(tmp_path / "int8.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 4
    assert kinds.count("QGemm") == 1
    assert {"QLinearAdd", "QLinearConcat", "QLinearGlobalAveragePool"} <= set(kinds)
    assert not {"Conv", "FusedConv", "Gemm", "Add", "Relu", "Clip"} & set(kinds)
    assert kinds.count("QuantizeLinear") == 1
    assert len(info.int8_nodes) == 5
    assert info.float_nodes == ()


def test_the_head_stays_in_float(ready: Calibrated, tmp_path: Path) -> None:
    quantize(ready.reference, ready.table, "u8s8", tmp_path / "int8.onnx")
    graph = onnx.load(tmp_path / "int8.onnx").graph
    quantized = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert not {"logits", "probabilities"} & quantized
    assert len(np.unique(probabilities(tmp_path / "int8.onnx")[0])) == 10


def test_the_same_input_gives_the_same_bytes_in_any_process(ready: Calibrated, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(ready.table.to_json())
    code = (
        "import sys; from pathlib import Path\n"
        "from quantfleet_domain.calibration.scales import ScaleTable\n"
        "from quantfleet_worker.quantizers.onnx_qdq import quantize\n"
        "table = ScaleTable.from_json(Path(sys.argv[2]).read_bytes())\n"
        "print(quantize(Path(sys.argv[1]), table, 'u8s8', Path(sys.argv[3])).sha256)\n"
    )
    arguments = [str(ready.reference), str(tmp_path / "table.json"), str(tmp_path / "int8.onnx")]
    digests = set()
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout.strip())
    assert digests == {hashlib.sha256((tmp_path / "int8.onnx").read_bytes()).hexdigest()}


def test_paired_weights_cannot_saturate_without_vnni(ready: Calibrated, tmp_path: Path) -> None:
    quantize(ready.reference, ready.table, "u8s8-paired", tmp_path / "int8.onnx")
    fast = probabilities(tmp_path / "int8.onnx", precise=False)
    np.testing.assert_array_equal(fast, probabilities(tmp_path / "int8.onnx", precise=True))


@pytest.mark.parametrize(("shape", "axis"), [((6, 7, 3, 3), 0), ((6, 8, 1, 1), 0), ((9, 6), 1), ((6, 9), 0)])
def test_paired_scales_bound_the_neighbours_and_stay_below_seven_bits(shape: tuple[int, ...], axis: int) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    rows = np.moveaxis(weight, axis, 0).reshape(shape[axis], -1)
    absmax = [float(peak) for peak in np.abs(rows).max(axis=1)]
    plain = weight_scales(absmax)
    halved = plain * np.float32(127 / 64)  # seven bits: codes end at 64
    scales = paired_scales(weight, axis, plain, 1)
    assert (scales >= plain).all()
    assert (scales <= halved * 1.02).all()
    integers = np.rint(rows / scales[:, None]).astype(int)
    even = integers[:, : integers.shape[1] // 2 * 2]
    assert np.abs(even[:, 0::2] + even[:, 1::2]).max() <= 128


def test_a_depthwise_weight_keeps_its_scales() -> None:
    weight = np.ones((4, 1, 3, 3), np.float32)
    plain = weight_scales([1.0] * 4)
    np.testing.assert_array_equal(paired_scales(weight, 0, plain, 4), plain)
    assert (paired_scales(weight, 0, plain, 1) > plain).all()


def test_a_tied_activation_takes_the_range_of_its_master(ready: Calibrated, tmp_path: Path) -> None:
    rows = tuple(
        replace(row, tied_to="joined") if row.tensor in ("sum.relu", "side.relu") else row
        for row in ready.table.activations
    )
    quantize(ready.reference, replace(ready.table, activations=rows), "u8s8", tmp_path / "int8.onnx")
    stored = initializers(tmp_path / "int8.onnx")
    assert stored["sum.relu_scale"] == stored["side.relu_scale"] == stored["joined_scale"]


def test_the_factors_of_an_enlargement_are_no_activation(tmp_path: Path) -> None:
    net = NetworkBuilder()
    batch_and_channels, factor = net.constant("ones", np.ones(2, np.float32)), net.constant("f", np.float32([1, 2]))
    factors = net.node("Concat", [batch_and_channels, net.node("Abs", [factor], "factor")], "factors", axis=0)
    small = net.convolution("image", "small", 3, 4)
    large = net.node("Resize", [small, "", factors], "large", mode="nearest")
    content, graph = inspect(saved(net.model(net.convolution(large, "last", 4, 2)), tmp_path), {})
    assert set(graph.activations) == {"image", "small", "last"}
    (tmp_path / "reference.onnx").write_bytes(content)
    table = calibrated(tmp_path / "reference.onnx", graph, pictures(3))
    quantize(tmp_path / "reference.onnx", table, "u8s8", tmp_path / "int8.onnx")
    assert session(tmp_path / "int8.onnx", precise=True).run(None, {"image": pictures(1)[0]})[0].shape[2:] == (32, 64)


def test_a_convolution_of_the_head_stays_in_float_only_after_the_last_weight(tmp_path: Path) -> None:
    net = NetworkBuilder()
    first = net.node("Sigmoid", [net.convolution("image", "first", 3, 4)], "gate")
    last = net.convolution(first, "last", 4, 2)
    model = net.model(net.node("Mul", [last, net.constant("two", np.float32(2))], "out"))
    content, graph = inspect(saved(model, tmp_path), {})
    assert graph.activations == ("image", "first", "gate", "last")
    (tmp_path / "reference.onnx").write_bytes(content)
    table = calibrated(tmp_path / "reference.onnx", graph, pictures(3))
    info = quantize(tmp_path / "reference.onnx", table, "u8s8", tmp_path / "int8.onnx")
    assert info.int8_nodes == ("first_node", "last_node")


@pytest.mark.parametrize("part", ["activations", "weights"])
def test_a_table_that_lacks_a_row_is_refused_by_name(ready: Calibrated, part: str, tmp_path: Path) -> None:
    rows = getattr(ready.table, part)
    broken = replace(ready.table, **{part: rows[1:]})
    with pytest.raises(QuantfleetError, match=rows[0].tensor) as caught:
        quantize(ready.reference, broken, "u8s8", tmp_path / "int8.onnx")
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_an_unknown_form_is_refused(ready: Calibrated, tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError, match="u4u4"):
        quantize(ready.reference, ready.table, "u4u4", tmp_path / "int8.onnx")
