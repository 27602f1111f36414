from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.worker.onnx_networks import NetworkBuilder, classifier, pictures, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.reference_run import ReferenceRun


def refusal(path: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        inspect(path, shapes or {})
    return caught.value


def outputs(model: bytes, feed: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"image": feed})[0]
    return result


def open_model(shape: list[str | int]) -> onnx.ModelProto:
    net = NetworkBuilder()
    return net.model(net.convolution("image", "conv", 3, 4), shape)


def test_the_reference_graph_computes_what_the_model_computes(tmp_path: Path) -> None:
    model = classifier()
    reference, _ = inspect(saved(model, tmp_path), {})
    for sample in pictures(3):
        np.testing.assert_allclose(outputs(reference, sample), outputs(model.SerializeToString(), sample), atol=1e-6)


def test_batch_normalization_disappears_and_activations_stay(tmp_path: Path) -> None:
    reference, _ = inspect(saved(classifier(), tmp_path), {})
    kinds = [node.op_type for node in onnx.load_from_string(reference).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Relu") == 3
    assert kinds.count("Clip") == 1


def test_the_activations_are_those_that_get_a_scale_of_their_own_in_graph_order(tmp_path: Path) -> None:
    _, graph = inspect(saved(classifier(), tmp_path), {})
    # The pools and Flatten share their input's scale; the last product and the head stay in float.
    assert graph.activations == (
        "image", "stem.relu", "deep.relu6", "wide", "sum.relu", "side.relu", "joined", "averaged",
    )  # fmt: skip
    assert graph.outputs == ("probabilities",)
    assert graph.inputs[0].shape == (1, 3, 32, 32)
    assert graph.inputs[0].dtype == "float32"


def test_weights_are_listed_with_their_axis_and_the_peak_of_every_channel(tmp_path: Path) -> None:
    reference, graph = inspect(saved(classifier(), tmp_path), {})
    values = {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(reference).graph.initializer}
    assert [weight.name for weight in graph.weights] == ["stem.w", "deep.w", "wide.w", "side.w", "fc.w"]
    for weight in graph.weights:
        assert weight.axis == 0
        peaks = np.abs(values[weight.name]).reshape(values[weight.name].shape[0], -1).max(axis=1)
        np.testing.assert_array_equal(np.array(weight.absmax, np.float32), peaks)


def test_a_matrix_product_has_its_channels_in_the_last_axis(tmp_path: Path) -> None:
    net = NetworkBuilder()
    flat = net.node("Flatten", [net.convolution("image", "conv", 3, 2)], "flat")
    weight = net.generator.standard_normal((2 * 32 * 32, 5)).astype(np.float32)
    model = net.model(net.node("MatMul", [flat, net.constant("fc", weight)], "out"))
    _, graph = inspect(saved(model, tmp_path), {})
    assert [(item.name, item.axis, len(item.absmax)) for item in graph.weights] == [("conv.w", 0, 2), ("fc", 1, 5)]


def test_inspecting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path)
    assert inspect(path, {}) == inspect(path, {})


def test_another_tensor_list_is_another_recipe(tmp_path: Path) -> None:
    _, one = inspect(saved(classifier(), tmp_path), {})
    _, other = inspect(saved(open_model(["N", 3, 32, 32]), tmp_path, "other.onnx"), {})
    assert one.recipe != other.recipe


def test_constants_and_a_bias_added_afterwards_are_folded(tmp_path: Path) -> None:
    net = NetworkBuilder()
    conv = net.convolution("image", "conv", 3, 4, bias=False)
    tensor = numpy_helper.from_array(np.arange(4, dtype=np.float32))
    net.nodes.append(helper.make_node("Constant", [], ["raw"], name="raw_node", value=tensor))
    shaped = net.node("Reshape", ["raw", net.constant("shape", np.array([1, 4, 1, 1]))], "shaped")
    model = net.model(net.node("Relu", [net.node("Add", [conv, shaped], "sum")], "out"))
    reference, _ = inspect(saved(model, tmp_path), {})
    assert [node.op_type for node in onnx.load_from_string(reference).graph.node] == ["Conv", "Relu"]
    sample = pictures(1)[0]
    np.testing.assert_allclose(outputs(reference, sample), outputs(model.SerializeToString(), sample), atol=1e-6)


def test_a_weight_that_two_convolutions_share_is_not_folded_into_both(tmp_path: Path) -> None:
    net = NetworkBuilder()
    first = net.convolution("image", "conv", 3, 3, bias=False)
    left = net.normalization(first, "bn", 3)
    right = net.node("Conv", ["image", "conv.w"], "again", kernel_shape=[3, 3], pads=[1] * 4)
    model = net.model(net.node("Add", [left, right], "out"))
    reference, _ = inspect(saved(model, tmp_path), {})
    sample = pictures(1)[0]
    np.testing.assert_allclose(outputs(reference, sample), outputs(model.SerializeToString(), sample), atol=1e-5)


def test_an_old_operator_set_is_raised(tmp_path: Path) -> None:
    net = NetworkBuilder()
    pooled = net.node("MaxPool", [net.convolution("image", "conv", 3, 4)], "out", kernel_shape=[2, 2], strides=[2, 2])
    model = net.model(pooled, opset=9)
    reference, _ = inspect(saved(model, tmp_path), {})
    assert onnx.load_from_string(reference).opset_import[0].version == 13
    sample = pictures(1)[0]
    np.testing.assert_array_equal(outputs(reference, sample), outputs(model.SerializeToString(), sample))


def test_an_open_axis_needs_a_shape_and_the_error_says_what_to_write(tmp_path: Path) -> None:
    path = saved(open_model(["N", 3, "height", 32]), tmp_path)
    error = refusal(path)
    assert error.code is ErrorCode.SHAPE_MISSING
    assert "input image: the extent of axis 2 (height)" in error.what
    assert "input_shapes: {image: [1, 3, 224, 32]}" in error.todo
    reference, graph = inspect(path, {"image": (1, 3, 40, 32)})
    assert graph.inputs[0].shape == (1, 3, 40, 32)
    session = ort.InferenceSession(reference, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["N", 3, 40, 32]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"picture": (1, 3, 8, 8)}, "input_shapes.picture: the model has no such input (its inputs are: image)"),
        ({"image": (1, 3, 8)}, "input_shapes.image: has 3 axes, the model's input has 4"),
        ({"image": (1, 4, 8, 8)}, "input_shapes.image: says 4 for axis 1, where the model has 3"),
    ],
)
def test_a_shape_that_does_not_fit_is_the_jobs_mistake(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], said: str
) -> None:
    error = refusal(saved(open_model(["N", 3, "h", "w"]), tmp_path), shapes)
    assert error.code is ErrorCode.JOB_INVALID
    assert said in str(error)


def test_a_missing_an_empty_and_a_truncated_file_are_told_apart_from_a_model(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.onnx").code is ErrorCode.MODEL_NOT_FOUND
    whole = classifier().SerializeToString()
    for name, content in (("empty", b""), ("cut", whole[: len(whole) // 2]), ("text", b"hello, world")):
        path = tmp_path / name
        path.write_bytes(content)
        assert refusal(path).code is ErrorCode.MODEL_UNREADABLE


def test_external_data_stays_within_the_models_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "model", tmp_path / "secret.bin"
    inside.mkdir()
    model = open_model(["N", 3, 8, 8])
    weight = model.graph.initializer[0]
    outside.write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    error = refusal(saved(model, inside))
    assert error.code is ErrorCode.MODEL_UNREADABLE
    assert "outside the model's folder" in error.what
    (inside / "weights.bin").write_bytes(outside.read_bytes())
    entry.value = "weights.bin"
    _, graph = inspect(saved(model, inside), {})
    assert graph.weights[0].name == "conv.w"
    (inside / "weights.bin").unlink()
    assert refusal(inside / "model.onnx").code is ErrorCode.MODEL_UNREADABLE


def test_what_is_quantized_or_has_nothing_to_quantize_is_unsupported(tmp_path: Path) -> None:
    net = NetworkBuilder()
    plain = net.model(net.node("Relu", ["image"], "out"))
    assert refusal(saved(plain, tmp_path)).code is ErrorCode.MODEL_UNSUPPORTED
    net = NetworkBuilder()
    scale = [net.constant("s", np.float32(0.1)), net.constant("z", np.uint8(3))]
    whole = net.node("DequantizeLinear", [net.node("QuantizeLinear", ["image", *scale], "q"), *scale], "out")
    assert "quantized already" in refusal(saved(net.model(whole), tmp_path)).what


def test_two_reference_runs_give_the_same_bits_for_every_tensor_of_the_recipe(tmp_path: Path) -> None:
    reference, graph = inspect(saved(classifier(), tmp_path), {})
    path = tmp_path / "reference.onnx"
    path.write_bytes(reference)
    sample = pictures(1)[0]
    first = dict(ReferenceRun(path, graph).activations({"image": sample}))
    second = dict(ReferenceRun(path, graph).activations({"image": sample}))
    assert tuple(first) == graph.activations
    for name, values in first.items():
        assert values.dtype == np.float32
        assert values.tobytes() == second[name].tobytes()
    np.testing.assert_array_equal(first["image"], sample)
    assert first["stem.relu"].min() >= 0


def test_a_feed_that_does_not_fit_is_an_engine_failure(tmp_path: Path) -> None:
    reference, graph = inspect(saved(classifier(), tmp_path), {})
    path = tmp_path / "reference.onnx"
    path.write_bytes(reference)
    with pytest.raises(QuantfleetError) as caught:
        list(ReferenceRun(path, graph).activations({"image": np.zeros((1, 3, 5, 5), np.float32)}))
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_the_job_may_choose_another_resolution_than_the_model_states(tmp_path: Path) -> None:
    net = NetworkBuilder()
    model = net.model(net.node("GlobalAveragePool", [net.convolution("image", "conv", 3, 4)], "out"), ("N", 3, 8, 8))
    reference, graph = inspect(saved(model, tmp_path), {"image": (1, 3, 12, 16)})
    assert graph.inputs[0].shape == (1, 3, 12, 16)
    assert outputs(reference, np.zeros((1, 3, 12, 16), np.float32)).shape == (1, 4, 1, 1)


def test_a_model_that_the_reference_engine_cannot_load_is_found_out_at_once(tmp_path: Path) -> None:
    net = NetworkBuilder()
    flat = net.node("Reshape", [net.convolution("image", "conv", 3, 4), net.constant("to", np.array([0, 64]))], "flat")
    weight = net.constant("fc", np.ones((64, 5), np.float32))
    model = net.model(net.node("MatMul", [flat, weight], "out"), ("N", 3, 4, 4))
    model.graph.initializer[-1].dims[0] = 32
    model.graph.initializer[-1].dims[1] = 10
    error = refusal(saved(model, tmp_path))
    assert error.code is ErrorCode.MODEL_UNSUPPORTED
    assert "reference engine" in error.what


def test_a_graph_that_another_converter_made_is_another_recipe(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path)
    recipes = {inspect(path, {}, converter)[1].recipe for converter in ("", "paddle2onnx-1", "paddle2onnx-2")}
    assert len(recipes) == 3
