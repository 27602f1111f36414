"""ONNX Runtime's engines for GPUs where there is no GPU: options, accounts, and what they refuse."""

from pathlib import Path

import onnxruntime
import pytest
from tests.worker.onnx_networks import classifier, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines import onnxruntime_cuda, onnxruntime_tensorrt
from quantfleet_worker.engines.base import Engine, LoadOptions
from quantfleet_worker.engines.onnxruntime_gpu import Placed, placed, require_products_on_gpu, require_provider
from quantfleet_worker.engines.onnxruntime_tensorrt import provider_options, require_linked
from quantfleet_worker.engines.trt.plan import Quantization, plan

both = pytest.mark.parametrize(
    "engine", [onnxruntime_cuda.ENGINE, onnxruntime_tensorrt.ENGINE], ids=lambda engine: engine.name
)
TEN = (10, 0, 0)


@both
def test_the_distribution_for_cpus_is_not_taken_for_the_one_for_gpus(engine: Engine, tmp_path: Path) -> None:
    model = saved(classifier(), tmp_path)
    for attempt in (engine.version, lambda: engine.load(model, LoadOptions("fp32", threads=1))):
        with pytest.raises(QuantfleetError, match="is onnxruntime, which has no providers for GPUs") as caught:
            attempt()
        assert caught.value.code is ErrorCode.ENGINE_MISSING
        assert caught.value.todo == "pip uninstall onnxruntime; pip install quantfleet[gpu]"


@both
def test_gpus_that_the_distribution_has_no_kernels_for_have_no_precisions(engine: Engine) -> None:
    assert engine.precisions_on(("sm_75",)) == engine.precisions
    assert engine.precisions_on(("sm_70",)) == ()
    assert engine.precisions_on(("avx2",)) == ()


def test_cuda_is_offered_in_float_only() -> None:
    assert onnxruntime_cuda.ENGINE.precisions == ("fp32", "fp16")


@pytest.mark.parametrize(
    ("precision", "quantization", "half", "int8", "table"),
    [
        ("fp32", Quantization.NONE, "False", "False", False),
        ("fp16", Quantization.NONE, "True", "False", False),
        ("int8", Quantization.QDQ, "False", "True", False),
        ("int8", Quantization.CACHE, "False", "True", True),
        ("int8+fp16+pinned", Quantization.QDQ, "True", "True", False),
    ],
)
def test_tensorrts_options_follow_the_plan(
    precision: str, quantization: Quantization, half: str, int8: str, table: bool, tmp_path: Path
) -> None:
    options = provider_options(plan(TEN, precision, quantization), tmp_path)
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (half, int8)
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)
    assert ("trt_int8_calibration_table_name" in options) is table
    if table:
        assert options["trt_int8_calibration_table_name"] == "calibration.cache"
        assert options["trt_int8_use_native_calibration_table"] == "True"


def test_only_the_tensorrt_that_the_provider_is_linked_against_is_taken() -> None:
    require_linked("10.16.1.11")
    with pytest.raises(QuantfleetError, match=r"linked against TensorRT 10, and 11\.4\.0\.106 is installed") as caught:
        require_linked("11.4.0.106")
    assert caught.value.code is ErrorCode.ENGINE_MISSING


def test_a_session_without_the_wanted_provider_is_refused() -> None:
    model = Path("model.onnx")
    require_provider("CUDAExecutionProvider", ["CUDAExecutionProvider", "CPUExecutionProvider"], model)
    for present in (["CPUExecutionProvider"], ["CPUExecutionProvider", "CUDAExecutionProvider"], []):
        with pytest.raises(QuantfleetError, match="CUDAExecutionProvider did not start") as caught:
            require_provider("CUDAExecutionProvider", present, model)
        assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_every_node_of_a_real_session_is_told_with_its_provider(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    path = str(saved(classifier(), tmp_path))
    nodes = placed(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
    assert Placed("stem_node", "Conv", "CPUExecutionProvider") in nodes
    assert Placed("logits_node", "Gemm", "CPUExecutionProvider") in nodes
    with pytest.raises(QuantfleetError, match=r"leaves 5 products of model\.onnx to the CPU"):
        require_products_on_gpu(nodes, Path("model.onnx"))


def test_shapes_may_be_computed_on_the_cpu_and_products_may_not() -> None:
    shape = Placed("shape", "Shape", "CPUExecutionProvider")
    conv = Placed("conv", "Conv", "CUDAExecutionProvider")
    require_products_on_gpu([shape, conv], Path("model.onnx"))
    with pytest.raises(QuantfleetError, match="'fc'"):
        require_products_on_gpu([shape, conv, Placed("fc", "Gemm", "CPUExecutionProvider")], Path("model.onnx"))
