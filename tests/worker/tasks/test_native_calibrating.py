"""Ranges by an engine's own calibrator: every sample in order, all that it wrote, and an engine that has none."""

import io
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.system.conftest import SIDE, write_model
from tests.worker.counting import Counting, Failing
from tests.worker.tasks.test_tasks import Bench

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.measured import BenchmarkResult
from quantfleet_domain.jobs.spec import FileRef, InputShape
from quantfleet_domain.jobs.task_results import QuantizeResult
from quantfleet_domain.jobs.work import BenchmarkWork, ModelForm, NativeWork, Slice, Variant
from quantfleet_domain.measurement.samples import decode
from quantfleet_worker.engines import registry
from quantfleet_worker.tasks import dispatch
from quantfleet_worker.tasks.affinity import pin_all_threads, pinned_cores
from quantfleet_worker.tasks.request import pack

SAMPLES = 3
CONFIGURATION = "numbers.yaml"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Counting:
    found = Counting()
    declare(found, monkeypatch)
    return found


def declare(engine: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the engine beside those of this installation."""
    monkeypatch.setitem(sys.modules, "counting_plugin", SimpleNamespace(ENGINE=engine))
    others = tuple(metadata.entry_points(group=registry.GROUP))
    entry = metadata.EntryPoint(engine.name, "counting_plugin", registry.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: (*others, entry))


def work_of(bench: Bench, engine: str = "counting") -> NativeWork:
    path = bench.cache / "net.onnx"
    write_model(path)
    rows = []
    for index in range(SAMPLES):
        content = io.BytesIO()
        np.save(content, np.full((3, SIDE, SIDE), index + 1, np.float32))
        ref = bench.put(f"{index}.npy", content.getvalue())
        rows.append(Sample(ref.name, ref.digest, ref.size, None))
    manifest = bench.put("manifest.json", Manifest(tuple(rows)).to_json())
    files = (bench.put("net.onnx", path.read_bytes()),)
    shapes = (InputShape("image", (1, 3, SIDE, SIDE)),)
    return NativeWork("net", engine, "tensorrt", files, shapes, Slice(manifest, 0, SAMPLES), None)


def read(bench: Bench, ref: FileRef) -> bytes:
    return (bench.outputs / ref.digest).read_bytes()


def test_the_calibrator_sees_every_sample_in_order_at_batch_1_and_its_files_become_the_form(
    bench: Bench, engine: Counting
) -> None:
    work = work_of(bench)
    found = bench.do(work)
    assert isinstance(found, QuantizeResult)
    (form,) = found.forms
    assert (found.runtime, form.form) == ("tensorrt", "native")
    assert [ref.name for ref in form.files] == ["model.onnx", "ranges/sums.txt"]
    volume = 3 * SIDE * SIDE
    expected = "".join(f"(1, 3, {SIDE}, {SIDE}) {volume * (index + 1):.3f}\n" for index in range(SAMPLES))
    assert read(bench, form.files[1]).decode() == expected
    assert read(bench, form.files[0]) == (bench.cache / work.files[0].digest).read_bytes()
    ((_, options),) = engine.calibrated
    assert (options.precision, options.form, options.shapes) == ("int8", "native", (("image", (1, 3, SIDE, SIDE)),))
    assert [(loaded.precision, loaded.form) for _, loaded in engine.loaded] == [("fp32", "")]


def test_the_models_own_configuration_stays_beside_what_was_found(bench: Bench, engine: Counting) -> None:
    text = (
        b"PreProcess:\n  transform_ops:\n    - DecodeImage: {to_rgb: true}\n"
        b"    - NormalizeImage: {scale: 1.0/255.0, mean: [0, 0, 0], std: [1, 1, 1], order: ''}\n    - ToCHWImage:\n"
    )
    found = bench.do(replace(work_of(bench), preprocess=bench.put(CONFIGURATION, text)))
    assert [ref.name for ref in found.forms[0].files] == ["model.onnx", "ranges/sums.txt", CONFIGURATION]


def test_how_far_it_is_is_told_sample_by_sample(bench: Bench, engine: Counting) -> None:
    told: list[tuple[float, str]] = []
    dispatch(pack(bench.here, work_of(bench)), lambda share, doing: told.append((share, doing)))
    assert told == [(index / SAMPLES, f"sample {index + 1} of {SAMPLES}") for index in range(SAMPLES)]


def test_an_engine_without_a_calibrator_refuses(bench: Bench) -> None:
    with pytest.raises(QuantfleetError, match="onnxruntime-cpu has no calibrator of its own") as caught:
        bench.do(work_of(bench, "onnxruntime-cpu"))
    assert caught.value.code is ErrorCode.ENGINE_FAILED
    assert "static" in caught.value.todo


def test_what_a_calibrator_wrote_before_it_failed_is_no_result(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(Failing(), monkeypatch)
    with pytest.raises(QuantfleetError, match="do not settle"):
        bench.do(work_of(bench))
    assert list(bench.outputs.iterdir()) == []


def test_a_gpu_has_one_feeding_core_so_that_more_threads_are_not_applicable(bench: Bench, engine: Counting) -> None:
    native = work_of(bench)
    variants = (Variant("fp32", "none", (ModelForm("", native.files),)),)
    cores = pinned_cores()
    try:
        found = bench.do(
            BenchmarkWork(
                "net", engine.name, variants, ("runtime",), (1, 2), (1,), 0, 1, False, native.input_shapes, None, None
            )
        )
    finally:
        pin_all_threads(cores)
    assert isinstance(found, BenchmarkResult)
    assert [row.threads for row in found.rows] == [1]
    (gap,) = found.absent
    assert (gap.threads, gap.applicable) == (2, False)


def test_the_parts_of_an_engines_runs_are_in_the_row_and_in_the_raw_samples(bench: Bench, engine: Counting) -> None:
    native = work_of(bench)
    variants = tuple(Variant(p, q, (ModelForm("", native.files),)) for p, q in (("fp32", "none"), ("int8", "native")))
    cores = pinned_cores()
    try:
        found = bench.do(
            BenchmarkWork(
                "net", "counting", variants, ("runtime",), (1,), (1,), 2, 40, False, native.input_shapes, None, None
            )
        )
    finally:
        pin_all_threads(cores)  # a benchmark pins its process, which is this one
    assert isinstance(found, BenchmarkResult)
    for row in found.rows:
        # 2 runs of warm-up, then runs 3 … 42.
        assert {part.name: round(part.mean_ms * 1e6, 3) for part in row.parts} == {
            "h2d": 225.0,
            "compute": 2250.0,
            "d2h": 22.5,
        }
    raw = decode(read(bench, found.samples)[1:-2])
    assert set(raw.parts) == {"fp32", "int8/native"}
    assert [len(block) for block in raw.parts["fp32"]["h2d"]] == list(raw.protocol.block_sizes)
