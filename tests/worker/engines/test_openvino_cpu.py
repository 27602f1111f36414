"""What only the engine `openvino-cpu` does, beside the contract: bf16, saturation, and keeping to itself."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tests.contract.engine_contract import FP32, INT8, EngineContract
from tests.worker.onnx_networks import NetworkBuilder, calibrated, classifier, pictures, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines import onnxruntime_cpu
from quantfleet_worker.engines.base import Engine, LoadOptions
from quantfleet_worker.engines.openvino_cpu import ENGINE, OpenVinoCpu
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.probes.cpu import cpu_facts
from quantfleet_worker.quantizers.onnx_qdq import quantize

BF16 = LoadOptions("bf16", threads=1)
ONE_RUN = """
import sys
from pathlib import Path
import numpy as np
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.openvino_cpu import ENGINE
precision, sample, *models = sys.argv[1:]
for model in models:
    result = ENGINE.load(Path(model), LoadOptions(precision, 1)).run({"image": np.load(sample)})
    np.save(Path(model).with_suffix(".npy"), next(iter(result.values())))
"""
needs_bf16 = pytest.mark.skipif(
    "bf16" not in ENGINE.precisions_on(cpu_facts(None, "").isa), reason="this processor has no bf16"
)


def run_apart(precision: str, sample: NDArray[np.float32], *models: Path, **environment: str) -> str:
    """Run models once in a process with an environment of its own, results beside them; returns its error output."""
    path = models[0].parent / "sample.npy"
    np.save(path, sample)
    command = [sys.executable, "-c", ONE_RUN, precision, str(path), *map(str, models)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return done.stderr


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    content, graph = inspect(saved(classifier(), folder), {})
    (folder / "fp32.onnx").write_bytes(content)
    table = calibrated(folder / "fp32.onnx", graph, pictures(10))
    quantize(folder / "fp32.onnx", table, "u8s8", folder / "u8s8.onnx")
    return folder


class TestOpenVinoCpu(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return ENGINE

    @pytest.fixture
    def fp32_model(self, models: Path) -> Path:
        return models / "fp32.onnx"

    @pytest.fixture
    def int8_model(self, models: Path) -> Path:
        return models / "u8s8.onnx"

    @pytest.fixture
    def unreadable_model(self, tmp_path: Path) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(b"no model")
        return path

    @pytest.fixture
    def sample(self) -> NDArray[np.float32]:
        return pictures(1, seed=9)[0]


def test_fp32_is_f32_even_on_a_cpu_with_bf16(models: Path) -> None:
    sample = {"image": pictures(1)[0]}
    session = ENGINE.load(models / "fp32.onnx", FP32)
    expected = onnxruntime_cpu.ENGINE.load(models / "fp32.onnx", FP32).run(sample)["probabilities"]
    np.testing.assert_allclose(session.run(sample)["probabilities"], expected, rtol=1e-4, atol=1e-6)
    assert session.settings_in_effect()["inference_precision_hint"] == "f32"
    assert ENGINE.load(models / "u8s8.onnx", INT8).settings_in_effect()["inference_precision_hint"] == "f32"


@needs_bf16
def test_bf16_is_in_effect_and_rounds(models: Path) -> None:
    sample = {"image": pictures(1)[0]}
    exact = ENGINE.load(models / "fp32.onnx", FP32).run(sample)["probabilities"]
    session = ENGINE.load(models / "fp32.onnx", BF16)
    rounded = session.run(sample)["probabilities"]
    assert 1e-5 < np.abs(rounded - exact).max() < 0.02
    assert session.settings_in_effect()["inference_precision_hint"] == "bf16"
    assert session.node_counts().int8 == 0


@needs_bf16
def test_a_model_with_nothing_to_compute_in_bf16_is_refused(tmp_path: Path) -> None:
    net = NetworkBuilder()
    with pytest.raises(QuantfleetError, match="no convolution and no matrix product") as caught:
        ENGINE.load(saved(net.model(net.node("Relu", ["image"], "positive")), tmp_path), BF16)
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_bf16_is_refused_where_openvino_would_emulate_it(models: Path) -> None:
    said = run_apart("bf16", pictures(1)[0], models / "fp32.onnx", ONEDNN_MAX_CPU_ISA="AVX512_CORE_VNNI")
    assert "this CPU lacks bf16" in said


def test_bf16_is_had_with_its_flags_alone() -> None:
    assert ENGINE.precisions_on(("avx512f", "avx512_vnni")) == ("fp32", "int8")
    for flag in ("avx512_bf16", "amx_bf16"):
        assert "bf16" in ENGINE.precisions_on((flag,))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 adds products in pairs")
def test_without_vnni_the_preferred_form_is_exact_where_the_other_saturates(tmp_path: Path) -> None:
    net = NetworkBuilder()
    model = net.model(net.convolution(net.node("Relu", ["image"], "positive"), "wide", 3, 8, bias=False))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "wide.w"))
    content, graph = inspect(saved(model, tmp_path), {})
    (tmp_path / "fp32.onnx").write_bytes(content)
    bright = np.full((1, 3, 32, 32), 2, np.float32)
    table = calibrated(tmp_path / "fp32.onnx", graph, [bright])
    forms = {form: tmp_path / f"{form}.onnx" for form in ("u8s8", ENGINE.preferred_form(("avx2",), "int8"))}
    for form, path in forms.items():
        quantize(tmp_path / "fp32.onnx", table, form, path)
    assert run_apart("int8", bright, *forms.values(), ONEDNN_MAX_CPU_ISA="AVX2") == ""
    off = {form: np.abs(np.load(path.with_suffix(".npy")) / 54 - 1)[0, 0, 16, 16] for form, path in forms.items()}
    assert off["u8s8"] > 0.2
    assert off["u8s8-paired"] < 0.02


def test_it_is_compiled_for_its_batch_until_another_comes(models: Path) -> None:
    session = ENGINE.load(models / "fp32.onnx", LoadOptions("fp32", threads=1, batch=2))
    session.run({"image": np.concatenate(pictures(2))})
    assert session.settings_in_effect()["shapes"] == "fixed"
    for count in (1, 3, 2):
        assert session.run({"image": np.concatenate(pictures(count))})["probabilities"].shape == (count, 10)
    assert session.settings_in_effect()["shapes"] == "as in the model"


def test_outputs_have_the_names_of_the_file_in_its_order(tmp_path: Path) -> None:
    net = NetworkBuilder()
    first = net.node("Relu", ["image"], "positive")
    model = net.model(net.node("Identity", [first], "same"))
    model.graph.output.append(onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, None))
    results = ENGINE.load(saved(model, tmp_path), FP32).run({"image": pictures(1)[0]})
    assert list(results) == ["same", "positive"]
    np.testing.assert_array_equal(results["same"], results["positive"])


def test_openvino_sends_nothing_home(models: Path, tmp_path: Path) -> None:
    assert run_apart("fp32", pictures(1)[0], models / "fp32.onnx", HOME=str(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == [], "its telemetry writes a client id there before it reports"


PINNED = """
import os, sys, numpy as np
from pathlib import Path
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.openvino_cpu import ENGINE
from quantfleet_worker.tasks.affinity import pin_all_threads, pinned_cores
cores = tuple(sorted(os.sched_getaffinity(0)))
{start}
for count in (1, 2):
    pin_all_threads(cores[:count])
    session = ENGINE.load(Path(sys.argv[1]), LoadOptions("fp32", count))
    session.run({{"image": np.zeros((1, 3, 32, 32), np.float32)}})
    assert pinned_cores() == cores[:count], pinned_cores()
    assert session.settings_in_effect()["inference_num_threads"] == str(count)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two threads need two cores")
def test_more_threads_than_at_first_really_run_and_stay_on_the_cores_of_the_process(models: Path) -> None:
    code = PINNED.format(start="ENGINE.start()")
    subprocess.run([sys.executable, "-c", code, str(models / "fp32.onnx")], check=True)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two threads need two cores")
def test_fewer_threads_than_asked_for_are_refused(models: Path) -> None:
    command = [sys.executable, "-c", PINNED.format(start=""), str(models / "fp32.onnx")]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stderr
    assert "openvino takes 1 threads where 2 are asked for" in said


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError) as caught:
        ENGINE.load(tmp_path / "absent.onnx", FP32)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


def test_a_wrong_dtype_and_a_wrong_name_are_refused(models: Path) -> None:
    session = ENGINE.load(models / "fp32.onnx", FP32)
    for feeds in ({"image": np.zeros((1, 3, 32, 32))}, {"picture": np.zeros((1, 3, 32, 32), np.float32)}):
        with pytest.raises(QuantfleetError, match="image"):
            session.bind(feeds)


def test_without_openvino_the_engine_is_missing_and_says_how_to_get_it() -> None:
    class NotInstalled(OpenVinoCpu):
        distribution = "a-runtime-that-nobody-has"

    with pytest.raises(QuantfleetError, match=r"pip install quantfleet\[openvino\]") as caught:
        NotInstalled().version()
    assert caught.value.code is ErrorCode.ENGINE_MISSING


def test_on_arm_it_warns_that_convolutions_are_not_in_int8() -> None:
    assert "onnxruntime-cpu has INT8" in ENGINE.int8_warning(("asimd", "asimddp"))
    assert ENGINE.int8_warning(("avx2", "avx512_vnni")) == ""
