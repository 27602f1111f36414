"""The real onnxruntime-gpu where there is no GPU: it falls back to the CPU in silence, and the engines refuse that.

Run by `make test-onnxruntime-gpu`, in an environment of its own: onnxruntime and onnxruntime-gpu are one module.
"""

from importlib import metadata
from pathlib import Path

import pytest
from tests.worker.onnx_networks import classifier, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library
from quantfleet_worker.engines import onnxruntime_cpu, onnxruntime_cuda, onnxruntime_session, onnxruntime_tensorrt
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.onnxruntime_gpu import Provider, load, require_provider

PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path)


def test_all_engines_of_onnxruntime_have_the_version_of_the_distribution_for_gpus() -> None:
    version = metadata.version("onnxruntime-gpu")
    assert onnxruntime_library.installed() == onnxruntime_library.Installed("onnxruntime-gpu", version)
    assert {engine.version() for engine in (onnxruntime_cpu.ENGINE, onnxruntime_cuda.ENGINE)} == {version}
    with pytest.raises(QuantfleetError, match="tensorrt is not installed here") as caught:
        onnxruntime_tensorrt.ENGINE.version()
    assert caught.value.code is ErrorCode.ENGINE_MISSING


def test_the_cpus_engine_runs_with_it(model: Path) -> None:
    session = onnxruntime_cpu.ENGINE.load(model, LoadOptions("fp32", threads=1))
    assert session.settings_in_effect()["providers"] == "CPUExecutionProvider"


def test_without_a_gpu_an_engine_says_what_cuda_says(model: Path) -> None:
    with pytest.raises(QuantfleetError, match="driver") as caught:
        onnxruntime_cuda.ENGINE.load(model, LoadOptions("fp32", threads=1))
    assert caught.value.code is ErrorCode.ENGINE_FAILED


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_that_does_not_start_is_refused(name: str, model: Path) -> None:
    ort = load()
    assert name in ort.get_available_providers()
    options = onnxruntime_session.options_with(ort, 1, {})
    wanted = Provider(name, {}).on_stream(0)
    with pytest.raises(QuantfleetError, match=f"{name} did not start|onnxruntime cannot load"):
        require_provider(
            name,
            onnxruntime_session.opened(ort, model, options, [wanted, "CPUExecutionProvider"]).get_providers(),
            model,
        )
