from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.contract.engine_contract import FP32, INT8, EngineContract
from tests.worker.onnx_networks import NetworkBuilder, calibrated, classifier, pictures, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library
from quantfleet_worker.engines.base import Engine, LoadOptions
from quantfleet_worker.engines.onnxruntime_cpu import ENGINE, OnnxRuntimeSession
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.probes.cpu import cpu_facts
from quantfleet_worker.quantizers.onnx_qdq import quantize


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    content, graph = inspect(saved(classifier(), folder), {})
    (folder / "fp32.onnx").write_bytes(content)
    table = calibrated(folder / "fp32.onnx", graph, pictures(10))
    for form in ("u8s8", "u8s8-paired"):
        quantize(folder / "fp32.onnx", table, form, folder / f"{form}.onnx")
    return folder


@pytest.fixture
def fp32_model(models: Path) -> Path:
    return models / "fp32.onnx"


class TestOnnxRuntimeCpu(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return ENGINE

    @pytest.fixture
    def int8_model(self, models: Path) -> Path:
        return models / f"{ENGINE.preferred_form(('avx2',), 'int8')}.onnx"

    @pytest.fixture
    def unreadable_model(self, tmp_path: Path) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(b"no model")
        return path

    @pytest.fixture
    def sample(self) -> NDArray[np.float32]:
        return pictures(1, seed=9)[0]


def test_int8_is_run_precisely_only_where_it_would_saturate(models: Path) -> None:
    saturating = ENGINE.preferred_form(cpu_facts(None, "").isa, "int8") == "u8s8-paired"
    settings = ENGINE.load(models / "u8s8.onnx", INT8).settings_in_effect()
    assert settings["x64quantprecision"] == ("1" if saturating else "0")


def test_of_forms_that_could_saturate_the_paired_one_needs_no_help(models: Path) -> None:
    for form, precise in (("u8s8", "1"), ("u8s8-paired", "0")):
        session = OnnxRuntimeSession(onnxruntime_library.load(), models / f"{form}.onnx", INT8, saturating=True)
        assert session.settings_in_effect()["x64quantprecision"] == precise
        assert session.node_counts().int8 == 5


def test_the_form_follows_the_dot_product_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert ENGINE.preferred_form(("avx2", "avx512f"), "int8") == "u8s8-paired"
    assert ENGINE.preferred_form(("avx2", "avx_vnni"), "int8") == "u8s8"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert ENGINE.preferred_form(("asimd",), "int8") == "u8s8"


def test_outputs_whose_shape_depends_on_the_data_are_returned_whole(tmp_path: Path) -> None:
    net = NetworkBuilder()
    where = net.node("NonZero", [net.node("Relu", ["image"], "positive")], "where")
    session = ENGINE.load(saved(net.model(where, output_shape=["axes", "found"]), tmp_path), FP32)
    for batch in (1, 2):
        image = np.full((batch, 3, 32, 32), -1, np.float32)
        image[:, 0, 0, :4] = 1
        assert session.run({"image": image})["where"].shape == (4, 4 * batch)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError) as caught:
        ENGINE.load(tmp_path / "absent.onnx", LoadOptions("fp32", 1))
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


def test_a_wrong_dtype_and_a_wrong_name_are_refused(fp32_model: Path) -> None:
    session = ENGINE.load(fp32_model, FP32)
    for feeds in ({"image": np.zeros((1, 3, 32, 32))}, {"picture": np.zeros((1, 3, 32, 32), np.float32)}):
        with pytest.raises(QuantfleetError, match="image"):
            session.bind(feeds)
