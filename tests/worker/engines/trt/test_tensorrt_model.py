"""What a model's files are to TensorRT, and which shapes an engine is built for."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.worker.onnx_networks import NetworkBuilder, classifier, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.trt.model import open_model, prepared, shapes_for
from quantfleet_worker.engines.trt.plan import Quantization, plan

CACHE = b"TRT-0-EntropyCalibration2\nimage: 3c010a14\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path)


def test_a_float_file_is_not_quantized_and_a_cache_beside_it_counts_only_in_its_form(model: Path) -> None:
    (model.parent / "calibration.cache").write_bytes(CACHE)
    assert open_model(model, "").quantization is Quantization.NONE
    for form in ("cache", "native"):
        opened = open_model(model, form)
        assert (opened.quantization, opened.cache) == (Quantization.CACHE, CACHE)


def test_a_cache_that_is_not_there_is_an_error_and_so_is_a_file_that_is_none(model: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError, match=r"no calibration\.cache beside the model"):
        open_model(model, "cache")
    (tmp_path / "text.onnx").write_bytes(b"this is no model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    unreadable = [(name, ErrorCode.MODEL_UNREADABLE) for name in ("text", "empty")]
    for name, code in (("gone", ErrorCode.MODEL_NOT_FOUND), *unreadable):
        with pytest.raises(QuantfleetError) as caught:
            open_model(tmp_path / f"{name}.onnx", "")
        assert caught.value.code is code


def test_the_digest_follows_the_graph_the_external_weights_and_the_cache(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "external"
    folder.mkdir()
    content = onnx.load(model)
    onnx.save(content, folder / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (folder / "calibration.cache").write_bytes(CACHE)
    first = {form: open_model(folder / "model.onnx", form).digest for form in ("", "cache")}
    assert len({*first.values(), open_model(model, "").digest}) == 3
    weights = bytearray((folder / "weights").read_bytes())
    weights[0] ^= 1
    (folder / "weights").write_bytes(weights)
    assert open_model(folder / "model.onnx", "").digest != first[""]
    (folder / "calibration.cache").write_bytes(CACHE.replace(b"3c", b"3d"))
    assert open_model(folder / "model.onnx", "cache").digest != first["cache"]


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "gone"])
def test_weights_outside_the_models_folder_or_nowhere_are_refused_before_anything_reads_them(
    model: Path, location: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"0" * 4096)
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save(onnx.load(model), folder / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    content = onnx.load(folder / "m.onnx", load_external_data=False)
    for tensor in content.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "m.onnx").write_bytes(content.SerializeToString())
    with pytest.raises(QuantfleetError, match=r"outside the model.s folder|is missing") as caught:
        open_model(folder / "m.onnx", "")
    assert caught.value.code is ErrorCode.MODEL_UNREADABLE


def test_inputs_are_the_files_with_open_dimensions_as_none(model: Path) -> None:
    assert open_model(model, "").inputs == {"image": ((None, 3, 32, 32), np.dtype(np.float32))}


def test_an_engine_is_built_for_known_shapes_else_for_the_batch_else_when_fed() -> None:
    float32 = np.dtype(np.float32)
    open_batch = {"image": ((None, 3, 32, 32), float32)}
    open_size = {"image": ((None, 3, None, None), float32)}
    assert shapes_for(open_batch, 4, ()) == {"image": (4, 3, 32, 32)}
    assert shapes_for(open_size, 4, ()) is None
    assert shapes_for(open_size, 4, (("image", (4, 3, 64, 64)),)) == {"image": (4, 3, 64, 64)}
    assert shapes_for({"image": ((2, 3), float32)}, 4, ()) == {"image": (2, 3)}


def test_the_file_that_is_parsed_is_the_models_own_unless_something_has_to_change(model: Path, tmp_path: Path) -> None:
    opened = open_model(model, "")
    assert prepared(opened, plan((11, 4, 0), "fp32", Quantization.NONE), tmp_path) == model
    assert prepared(opened, plan((10, 16, 1), "fp16", Quantization.NONE), tmp_path) == model
    half = prepared(opened, plan((11, 4, 0), "fp16", Quantization.NONE), tmp_path)
    kinds = {item.data_type for item in onnx.load(half).graph.initializer if item.name == "deep.w"}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_nodes_without_names_get_them_because_accounts_are_by_name(tmp_path: Path) -> None:
    net = NetworkBuilder()
    content = net.model(net.node("Relu", [net.convolution("image", "stem", 3, 4)], "out"))
    for node in content.graph.node:
        node.name = ""
    opened = open_model(saved(content, tmp_path), "")
    path = prepared(opened, plan((10, 16, 1), "fp32", Quantization.NONE), tmp_path)
    assert all(node.name for node in onnx.load(path).graph.node)
