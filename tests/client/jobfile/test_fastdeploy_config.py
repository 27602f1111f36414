"""A configuration of FastDeploy's benchmark tool: every key is done, noted or refused, and none is passed over."""

from pathlib import Path

import pytest

from quantfleet.jobfile import fastdeploy
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES

SHIPPED = """\
device: cpu
device_id: 0
cpu_thread_nums: 8
warmup: 20
repeat: 100
backend: ort
profile_mode: runtime
include_h2d_d2h: false
use_fp16: false
collect_memory_info: true
sampling_interval: 1
precision_compare: false
xpu_l3_cache: 0
result_path: benchmark_x86.txt
"""


def config(folder: Path, text: str) -> Path:
    path = folder / "config.txt"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        fastdeploy.read(config(folder, text))
    assert caught.value.code is ErrorCode.JOB_INVALID
    return caught.value


def test_a_configuration_is_read_key_by_key(tmp_path: Path) -> None:
    found = fastdeploy.read(config(tmp_path, SHIPPED))
    assert found.engines == ("onnxruntime-cpu",)
    assert (found.threads, found.warmup, found.repeat) == ((8,), 20, 100)
    assert (found.mode, found.memory) == ("runtime", True)
    assert [note.partition(":")[0] for note in found.notes] == ["include_h2d_d2h", "result_path", "sampling_interval"]


def test_what_is_left_out_is_left_open(tmp_path: Path) -> None:
    found = fastdeploy.read(config(tmp_path, "device: cpu\n"))
    assert found == fastdeploy.FastDeployConfig()


def test_the_default_backend_is_any_engine(tmp_path: Path) -> None:
    assert fastdeploy.read(config(tmp_path, "backend: default\n")).engines == ()


@pytest.mark.parametrize(("backend", "engine"), [("ort", "onnxruntime-cpu"), ("paddle", "paddle-cpu")])
def test_a_backend_is_an_engine(tmp_path: Path, backend: str, engine: str) -> None:
    assert fastdeploy.read(config(tmp_path, f"backend: {backend}\n")).engines == (engine,)


@pytest.mark.parametrize("backend", ["ov", "openvino"])
def test_openvino_is_an_engine_where_this_version_has_it(tmp_path: Path, backend: str) -> None:
    text = f"backend: {backend}\n"
    if "openvino-cpu" in ENGINES:
        assert fastdeploy.read(config(tmp_path, text)).engines == ("openvino-cpu",)
    else:
        assert all(engine in refusal(tmp_path, text).todo for engine in ENGINES)


def test_a_gpu_is_the_pool_of_gpus_and_fp16_is_measured_there(tmp_path: Path) -> None:
    found = fastdeploy.read(config(tmp_path, "device: gpu\nbackend: trt\nuse_fp16: true\n"))
    assert (found.engines, found.pool, found.fp16) == (("tensorrt",), "cuda", True)
    assert fastdeploy.read(config(tmp_path, "device: cpu\n")).pool == ""


def test_copies_are_noted_only_where_fastdeploy_reads_the_key(tmp_path: Path) -> None:
    text = "profile_mode: {}\ninclude_h2d_d2h: {}\n"
    assert len(fastdeploy.read(config(tmp_path, text.format("runtime", "false"))).notes) == 1
    assert fastdeploy.read(config(tmp_path, text.format("runtime", "true"))).notes == ()
    assert fastdeploy.read(config(tmp_path, text.format("end2end", "false"))).notes == ()


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("device: cpu\nbackend: trt\n", "2:10", "backend trt on a cpu"),
        ("device: xpu\n", "1:9", "no engine of this version runs on a xpu"),
        ("device: gpu\nbackend: ov\n", "2:10", "backend ov on a gpu"),
        ("device: tpu\n", "1:9", "there is no device 'tpu'"),
        ("backend: ort\nuse_fp16: true\n", "2:11", "onnxruntime-cpu measure no fp16"),
        ("precision_compare: true\n", "1:20", "not compared"),
        ("profile_mode: runtmie\n", "1:15", "'runtmie'"),
        ("warmpu: 20\n", "1:1", "config has no key 'warmpu'"),
        ("repeat: 100\nrepeat: 10\n", "2:1", "a second time"),
        ("repeat: many\n", "1:9", "config.repeat is 'many'"),
        ("cpu_thread_nums: 0\n", "1:18", "config.cpu_thread_nums"),
        ("collect_memory_info: 1\n", "1:22", "config.collect_memory_info"),
    ],
)
def test_what_cannot_be_had_is_an_error_with_its_place(tmp_path: Path, text: str, place: str, said: str) -> None:
    error = refusal(tmp_path, text)
    assert error.what.startswith(f"{tmp_path / 'config.txt'}:{place}: ")
    assert said in error.what


def test_a_misspelt_key_gets_the_nearest_right_one(tmp_path: Path) -> None:
    assert "did you mean 'warmup'?" in refusal(tmp_path, "warmpu: 20\n").todo


def test_engines_that_were_chosen_come_before_the_backend(tmp_path: Path) -> None:
    path = config(tmp_path, "backend: trt\n")
    assert fastdeploy.read(path, ("onnxruntime-cpu",)).engines == ("onnxruntime-cpu",)


def test_options_come_before_the_configuration_where_they_are_given(tmp_path: Path) -> None:
    found = fastdeploy.read(config(tmp_path, SHIPPED))
    assert found.under(threads=(), warmup=None, repeat=None) == found
    under = found.under(threads=(1, 2), warmup=0, repeat=7)
    assert (under.threads, under.warmup, under.repeat) == ((1, 2), 0, 7)
    assert (under.engines, under.memory) == (found.engines, found.memory)


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError, match=r"nowhere\.txt cannot be read"):
        fastdeploy.read(tmp_path / "nowhere.txt")
