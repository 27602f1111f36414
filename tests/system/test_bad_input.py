"""Bad input: one clear error that says what, where and what to do, the documented exit code, nothing half-written."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from tests.system.conftest import SIDE, write_job, write_model, write_samples
from tests.system.fleet import RunningFleet, quantfleet

BAD_INPUT, FAILED, REFUSED = 2, 1, 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good model and good samples, to be spoilt."""
    write_model(tmp_path / "net.onnx")
    write_samples(tmp_path / "samples", 8)
    return tmp_path


def missing_model(folder: Path) -> tuple[Path, list[str]]:
    (folder / "net.onnx").unlink()
    return write_job(folder, "job"), ["net.onnx", "job.yaml:4"]


def empty_directory(folder: Path) -> tuple[Path, list[str]]:
    for sample in (folder / "samples").iterdir():
        sample.unlink()
    return write_job(folder, "job"), ["samples", "no sample"]


def unknown_key(folder: Path) -> tuple[Path, list[str]]:
    job = write_job(folder, "job")
    job.write_text(job.read_text().replace("calibrator:", "calibrater:"))
    return job, ["job.yaml:5", "calibrater", "calibrator"]


def unknown_pool(folder: Path) -> tuple[Path, list[str]]:
    return write_job(folder, "job", targets="[{pool: xeon-vni, engines: [onnxruntime-cpu]}]"), ["xeon-vni"]


def unknown_engine(folder: Path) -> tuple[Path, list[str]]:
    return write_job(folder, "job", targets="[{engines: [onnxruntime-cpux]}]"), ["onnxruntime-cpux", "onnxruntime-cpu"]


@pytest.mark.parametrize("spoil", [missing_model, empty_directory, unknown_key, unknown_pool, unknown_engine])
def test_what_can_be_seen_at_once_is_refused_before_any_work(
    fleet: RunningFleet, folder: Path, spoil: Callable[[Path], tuple[Path, list[str]]]
) -> None:
    job, words = spoil(folder)
    before = quantfleet("job", "list", "--json", *fleet.admin).stdout
    done = quantfleet("job", "submit", str(job), *fleet.admin, check=False)
    assert done.returncode == BAD_INPUT, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert quantfleet("job", "list", "--json", *fleet.admin).stdout == before


def truncated_model(folder: Path) -> tuple[Path, list[str]]:
    whole = (folder / "net.onnx").read_bytes()
    (folder / "net.onnx").write_bytes(whole[: len(whole) // 2])
    return write_job(folder, "job"), ["net.onnx"]


def open_axis(folder: Path) -> tuple[Path, list[str]]:
    model = onnx.load(folder / "net.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, folder / "net.onnx")
    return write_job(folder, "job"), ["image", "input_shapes"]


def unreadable_picture(folder: Path) -> tuple[Path, list[str]]:
    for sample in (folder / "samples").iterdir():
        sample.unlink()
    for index in range(6):
        cv2.imwrite(str(folder / f"samples/{index}.png"), np.full((SIDE, SIDE, 3), 40 * index, np.uint8))
    (folder / "samples/3.png").write_bytes(b"no picture")
    (folder / "inference_cls.yaml").write_text(
        "PreProcess:\n  transform_ops:\n    - DecodeImage: {to_rgb: true}\n"
        "    - NormalizeImage: {scale: 1.0/255.0, mean: [0, 0, 0], std: [1, 1, 1], order: ''}\n    - ToCHWImage:\n"
    )
    return write_job(folder, "job"), ["3.png"]


def not_a_number(folder: Path) -> tuple[Path, list[str]]:
    spoilt = np.load(folder / "samples/0004.npy")
    spoilt[0, 0, 0] = np.nan
    np.save(folder / "samples/0004.npy", spoilt)
    return write_job(folder, "job", shards=2), ["0004.npy", "NaN"]


@pytest.mark.parametrize("spoil", [truncated_model, open_axis, unreadable_picture, not_a_number])
def test_what_only_the_work_shows_ends_the_job_with_one_error(
    fleet: RunningFleet, folder: Path, material: Path, spoil: Callable[[Path], tuple[Path, list[str]]]
) -> None:
    job, words = spoil(folder)
    out = folder / "out"
    done = quantfleet("job", "submit", str(job), "--watch", "--out", str(out), *fleet.admin, check=False)
    assert done.returncode == FAILED, done.stdout + done.stderr
    assert all(word in done.stdout + done.stderr for word in words), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in out.rglob("*") if path.name.endswith((".partial", ".tmp")) or path.stat().st_size == 0]
    good = write_job(material, "good")
    assert fleet.wait_ended(fleet.submit(good)) == "succeeded", "the fleet goes on serving"


def test_a_target_that_nothing_here_serves_waits_with_its_reason_and_is_then_absent(
    fleet: RunningFleet, folder: Path
) -> None:
    targets = "[{pool: t4, engines: [onnxruntime-cpu], precisions: [fp32]}]"
    job = write_job(folder, "job", targets=targets, benchmark="{modes: [runtime]}", extra="patience: 3s\n")
    identifier = fleet.submit(job)
    assert fleet.wait_ended(identifier) in ("partial", "failed")
    absent = fleet.report(identifier)["absent"]
    assert [(cell["engine"], cell["precision"]) for cell in absent] == [("onnxruntime-cpu", "fp32")]
    assert "kind == cuda" in absent[0]["reason"]


def test_embedded_mode_refuses_such_a_target_before_any_work(folder: Path) -> None:
    job = write_job(folder, "job", targets="[{pool: t4, engines: [onnxruntime-cpu]}]", benchmark="{modes: [runtime]}")
    done = quantfleet("run", str(job), "--workers", "1", "--out", str(folder / "out"), check=False)
    assert done.returncode == BAD_INPUT, done.stderr
    assert "kind == cuda" in done.stderr
    assert not (folder / "out").exists()


def test_a_full_disk_on_upload_is_one_error_and_the_coordinator_goes_on_serving(folder: Path, tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 1024, 512 * 1024))

    state = tmp_path / "coordinator"
    ports = [f"127.0.0.1:{port}" for port in RunningFleet(tmp_path).ports]
    command = [
        "coordinator",
        "serve",
        "--state",
        str(state),
        "--listen",
        ports[0],
        "--enrol-listen",
        ports[1],
        "--json",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "quantfleet", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=little_room,
    ) as coordinator:
        try:
            assert coordinator.stdout is not None
            assert json.loads(coordinator.stdout.readline())
            np.save(folder / "samples/large.npy", np.zeros((3, 400, 400), np.float32))
            admin = ["--credentials", str(state / "admin")]
            done = quantfleet("job", "submit", str(write_job(folder, "job")), *admin, check=False)
            assert done.returncode == REFUSED, done.stderr
            assert "Traceback" not in done.stderr
            assert json.loads(quantfleet("job", "list", "--json", *admin).stdout) == []
        finally:
            coordinator.terminate()
