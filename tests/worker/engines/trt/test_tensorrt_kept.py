"""A kept engine is used for exactly what it was built for, and for nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from quantfleet_worker.engines.cuda.device import CudaDevice
from quantfleet_worker.engines.trt import kept
from quantfleet_worker.engines.trt.kept import EngineKey

KEY = EngineKey(gpu="Tesla T4", capability="7.5", tensorrt="10.16.1.11", model="ab" * 32, options='{"flags": ["INT8"]}')
CHANGES = {
    "gpu": "NVIDIA A100-SXM4-40GB",
    "capability": "8.0",
    "tensorrt": "11.4.0.106",
    "model": "cd" * 32,
    "options": '{"flags": ["FP16", "INT8"]}',
}


def test_an_engine_comes_back_for_the_same_key(tmp_path: Path) -> None:
    kept.keep(tmp_path, KEY, b"an engine\nof two lines")
    found = kept.find(tmp_path, KEY)
    assert (found.engine, found.note) == (b"an engine\nof two lines", "")


def test_nothing_is_found_and_nothing_said_where_nothing_was_kept(tmp_path: Path) -> None:
    found = kept.find(tmp_path / "not-there", KEY)
    assert (found.engine, found.note) == (None, "")


@pytest.mark.parametrize("changed", CHANGES)
def test_any_change_of_the_key_is_another_engine(tmp_path: Path, changed: str) -> None:
    kept.keep(tmp_path, KEY, b"an engine")
    other = replace(KEY, **{changed: CHANGES[changed]})
    assert other.path(tmp_path) != KEY.path(tmp_path)
    assert kept.find(tmp_path, other).engine is None


@pytest.mark.parametrize("changed", ["gpu", "capability", "tensorrt"])
def test_an_engine_of_another_gpu_or_version_is_built_anew_with_a_note(tmp_path: Path, changed: str) -> None:
    kept.keep(tmp_path, KEY, b"an engine")
    found = kept.find(tmp_path, replace(KEY, **{changed: CHANGES[changed]}))
    was, now = getattr(KEY, changed), CHANGES[changed]
    assert found.note == f"built anew: the kept engine is not used, for it was made for {changed} {was}, here {now}"


def test_an_engine_that_was_copied_from_another_machine_is_not_loaded(tmp_path: Path) -> None:
    other = replace(KEY, gpu=CHANGES["gpu"], capability=CHANGES["capability"])
    kept.keep(tmp_path, other, b"an engine")
    other.path(tmp_path).rename(KEY.path(tmp_path))
    found = kept.find(tmp_path, KEY)
    assert found.engine is None
    assert "made for capability 8.0, here 7.5; gpu NVIDIA A100-SXM4-40GB, here Tesla T4" in found.note


@pytest.mark.parametrize("damage", [b"", b"{", b"[]\n", b"no json\nengine"])
def test_a_damaged_file_is_built_anew_with_a_note(tmp_path: Path, damage: bytes) -> None:
    KEY.path(tmp_path).write_bytes(damage)
    found = kept.find(tmp_path, KEY)
    assert (found.engine, found.note) == (None, "built anew: the kept engine is not used, for it is damaged")


def test_one_changed_or_missing_byte_is_damage(tmp_path: Path) -> None:
    kept.keep(tmp_path, KEY, b"an engine")
    path = KEY.path(tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"E"):
        path.write_bytes(damaged)
        assert kept.find(tmp_path, KEY).engine is None
    kept.keep(tmp_path, KEY, b"a new engine")
    assert kept.find(tmp_path, KEY).engine == b"a new engine"


def test_writing_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    kept.keep(tmp_path, KEY, b"an engine")
    assert [path.name for path in tmp_path.iterdir()] == [KEY.path(tmp_path).name]


def test_timings_are_of_one_kind_of_gpu_and_one_version(tmp_path: Path) -> None:
    t4, twin = CudaDevice("Tesla T4", (7, 5), "GPU-1"), CudaDevice("Tesla T4", (7, 5), "GPU-2")
    kept.keep_timings(tmp_path, t4, "10.16.1.11", b"timings")
    assert kept.find_timings(tmp_path, twin, "10.16.1.11") == b"timings"
    assert kept.find_timings(tmp_path, t4, "11.4.0.106") == b""
    assert kept.find_timings(tmp_path, CudaDevice("NVIDIA L4", (8, 9), "GPU-3"), "10.16.1.11") == b""
