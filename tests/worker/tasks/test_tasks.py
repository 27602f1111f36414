"""Every task as its child process does it, one after another over one small model: what goes in, what comes out."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.system.conftest import SIDE, write_model

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.partial import Partial, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import numerics_isa
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    ClassOutcome,
    EvaluateResult,
)
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    InspectResult,
    QuantizeResult,
    Result,
)
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    EvaluateWork,
    InspectWork,
    ModelForm,
    QuantizeWork,
    Slice,
    Variant,
    Work,
)
from quantfleet_domain.measurement.protocol import Protocol
from quantfleet_protos.v1 import task_pb2
from quantfleet_wire.codec import decode_union
from quantfleet_wire.content import digest_bytes
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.onnxruntime_cpu import ENGINE
from quantfleet_worker.probes.cpu import cpu_facts, usable_cores
from quantfleet_worker.tasks import dispatch
from quantfleet_worker.tasks.affinity import pin_all_threads, pinned_cores
from quantfleet_worker.tasks.contenders import Inputs
from quantfleet_worker.tasks.request import Surroundings, pack
from quantfleet_worker.tasks.workspace import Workspace

SAMPLES = 6


class Bench:
    """A node's directories, and what this machine is."""

    def __init__(self, directory: Path) -> None:
        self.cache = directory / "cache"
        self.outputs = directory / "outputs"
        self.cache.mkdir()
        self.outputs.mkdir()
        facts = cpu_facts(None, "")
        cores = usable_cores(frozenset(range(1024)))[:1]
        isa = numerics_isa(facts.architecture, facts.isa)
        self.here = Surroundings(str(self.cache), str(self.outputs), "cpu:0", cores, facts.isa, isa, ())

    def put(self, name: str, content: bytes) -> FileRef:
        digest = digest_bytes(content)
        (self.cache / digest).write_bytes(content)
        return FileRef(name, digest, len(content))

    def do(self, work: Work) -> Any:
        """Do a task; its outputs are inputs of those to come."""
        result: Result = decode_union(task_pb2.Result.FromString(dispatch(pack(self.here, work), _ignore)), Result)
        for path in self.outputs.iterdir():
            (self.cache / path.name).write_bytes(path.read_bytes())
        return result


def _ignore(share: float, doing: str) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def affinity() -> Iterator[None]:
    """A benchmark pins its process, which is this one here: what runs later gets all cores back."""
    cores = os.sched_getaffinity(0)
    yield
    pin_all_threads(cores)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def model(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> FileRef:
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    write_model(path)
    return bench.put("net.onnx", path.read_bytes())


@pytest.fixture(scope="module")
def manifest(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> FileRef:
    random, rows = np.random.default_rng(5), []
    for index in range(SAMPLES):
        path = tmp_path_factory.mktemp("samples") / f"{index}.npy"
        np.save(path, random.standard_normal((3, SIDE, SIDE)).astype(np.float32))
        ref = bench.put(path.name, path.read_bytes())
        rows.append(Sample(ref.name, ref.digest, ref.size, index % 10))
    return bench.put("manifest.json", Manifest(tuple(rows)).to_json())


@pytest.fixture(scope="module")
def inspected(bench: Bench, model: FileRef) -> InspectResult:
    found = bench.do(InspectWork("net", "onnx", (model,), (), None))
    assert isinstance(found, InspectResult)
    return found


@pytest.fixture(scope="module")
def quantized(bench: Bench, model: FileRef, manifest: FileRef, inspected: InspectResult) -> QuantizeResult:
    parts = []
    for first, count in ((0, 4), (4, 2)):
        data = Slice(manifest, first, count)
        done = bench.do(CalibrateWork("net", inspected.reference, inspected.graph, data, None, inspected.numerics))
        assert isinstance(done, CalibrateResult)
        assert done.samples == count
        assert done.collector == "native-tap"
        parts += [Partial.decode((bench.cache / ref.digest).read_bytes()) for ref in done.partials]
    graph = CalibrationGraph.from_json((bench.cache / inspected.graph.digest).read_bytes())
    table = ScaleTable.build(
        merge_partials(parts),
        graph,
        calibrator_named("absmax"),
        manifest=manifest.digest,
        preprocessing=inspected.numerics.preprocessing,
    )
    scales = bench.put("scales.json", table.to_json())
    work = QuantizeWork("net", "onnx", "static", "onnx", (model,), inspected.reference, scales, None)
    found = bench.do(work)
    assert isinstance(found, QuantizeResult)
    assert bench.do(work) == found, "the same work gives the same files"
    return found


@pytest.fixture(scope="module")
def measuring(model: FileRef, manifest: FileRef, inspected: InspectResult, quantized: QuantizeResult) -> BenchmarkWork:
    return BenchmarkWork(
        model="net",
        engine="onnxruntime-cpu",
        variants=(Variant("fp32", "none", (ModelForm("", (model,)),)), Variant("int8", "static", quantized.forms)),
        modes=("runtime", "end2end"),
        threads=(1,),
        batch_sizes=(1, 3),
        warmup=2,
        repeat=40,
        require_quiet=False,
        input_shapes=inspected.input_shapes,
        data=Slice(manifest, 0, SAMPLES),
        preprocess=None,
    )


def cells(result: BenchmarkResult) -> set[tuple[str, str, int, int]]:
    return {(row.precision, row.mode, row.threads, row.batch) for row in result.rows}


def test_a_benchmark_measures_every_cell_with_its_evidence(bench: Bench, measuring: BenchmarkWork) -> None:
    result = bench.do(measuring)
    assert cells(result) == {(p, m, 1, b) for p in ("fp32", "int8") for m in ("runtime", "end2end") for b in (1, 3)}
    assert result.absent == ()
    for row in result.rows:
        assert row.latency.runs == 40
        assert row.input_shapes[0].dims == (row.batch, 3, SIDE, SIDE)
        assert {setting.name for setting in row.settings} >= {"cores", "intra_op_num_threads"}
        assert (row.speedup is None) == (row.precision == "fp32")
        assert row.memory_mb is None
        assert row.quiet == (row.noise == ())
    int8 = next(row for row in result.rows if row.precision == "int8")
    assert int8.int8_nodes == int8.quantizable_nodes - len(int8.fallbacks)
    assert int8.int8_nodes >= 4
    assert (bench.cache / result.samples.digest).read_bytes().count(b"quantfleet/samples/v1") == 4


def test_memory_is_measured_only_where_it_is_asked_for_and_apart(bench: Bench, measuring: BenchmarkWork) -> None:
    work = replace(measuring, memory=True, modes=("runtime",), batch_sizes=(1,))
    peaks = [row.memory_mb for row in bench.do(work).rows]
    assert all(peak is not None and 20 < peak < 2000 for peak in peaks)


def test_more_threads_than_cores_is_absent_with_the_reason(bench: Bench, measuring: BenchmarkWork) -> None:
    result = bench.do(replace(measuring, threads=(1, 64), modes=("runtime",), batch_sizes=(1,)))
    assert {row.threads for row in result.rows} == {1}
    assert {(gap.threads, gap.applicable) for gap in result.absent} == {(64, True)}
    assert "64 threads" in result.absent[0].reason


def test_end_to_end_without_samples_does_not_apply_and_runtime_is_fed_noise(
    bench: Bench, measuring: BenchmarkWork
) -> None:
    result = bench.do(replace(measuring, data=None, batch_sizes=(1,)))
    assert {row.mode for row in result.rows} == {"runtime"}
    assert {(gap.mode, gap.applicable) for gap in result.absent} == {("end2end", False)}


def test_an_evaluation_predicts_every_sample_of_its_slice(
    bench: Bench, model: FileRef, manifest: FileRef, inspected: InspectResult, quantized: QuantizeResult
) -> None:
    for variant in (Variant("fp32", "none", (ModelForm("", (model,)),)), Variant("int8", "static", quantized.forms)):
        data = Slice(manifest, 2, 3)
        found = bench.do(EvaluateWork("net", "onnxruntime-cpu", variant, inspected.input_shapes, data, None))
        assert isinstance(found, EvaluateResult)
        assert isinstance(found.outcome, ClassOutcome)
        assert (found.first, found.outcome.labels) == (2, (2, 3, 4))
        assert (len(found.outcome.predicted), len(found.outcome.in_top5)) == (3, 3)


def test_another_numerics_class_is_refused(bench: Bench, manifest: FileRef, inspected: InspectResult) -> None:
    other = replace(inspected.numerics, isa="x86_64/another")
    work = CalibrateWork("net", inspected.reference, inspected.graph, Slice(manifest, 0, 1), None, other)
    with pytest.raises(QuantfleetError) as refused:
        bench.do(work)
    assert refused.value.code is ErrorCode.NUMERICS_MISMATCH


def test_a_file_name_that_leaves_the_model_is_refused(bench: Bench, model: FileRef) -> None:
    with pytest.raises(QuantfleetError) as refused:
        bench.do(InspectWork("net", "onnx", (replace(model, name="../net.onnx"),), (), None))
    assert refused.value.code is ErrorCode.MODEL_UNREADABLE


def test_a_batch_that_the_model_does_not_take_costs_that_cell_alone(
    bench: Bench, model: FileRef, measuring: BenchmarkWork
) -> None:
    fixed = onnx.load_from_string((bench.cache / model.digest).read_bytes())
    for item in (*fixed.graph.input, *fixed.graph.output):
        item.type.tensor_type.shape.dim[0].dim_value = 1
    form = ModelForm("", (bench.put("fixed.onnx", fixed.SerializeToString()),))
    result = bench.do(replace(measuring, variants=(Variant("fp32", "none", (form,)),)))
    assert {row.batch for row in result.rows} == {1}
    assert {(gap.batch, gap.applicable) for gap in result.absent} == {(3, True)}
    assert "batch 3" in result.absent[0].reason


def test_a_variant_that_the_engine_refuses_is_absent_and_the_others_are_measured(
    bench: Bench, measuring: BenchmarkWork
) -> None:
    broken = Variant("int8", "given", (ModelForm("", (bench.put("broken.onnx", b"no model"),)),))
    result = bench.do(replace(measuring, variants=(*measuring.variants, broken), modes=("runtime",), batch_sizes=(1,)))
    assert [(row.precision, row.quantization) for row in result.rows] == [("fp32", "none"), ("int8", "static")]
    (gap,) = result.absent
    assert (gap.quantization, gap.mode, gap.applicable) == ("given", "runtime", True)
    assert "broken.onnx" in gap.reason
    with pytest.raises(QuantfleetError, match=r"broken\.onnx"):
        bench.do(replace(measuring, variants=(broken,)))


def test_a_given_model_with_other_inputs_is_refused_by_their_names(
    bench: Bench, model: FileRef, measuring: BenchmarkWork
) -> None:
    other = onnx.load_from_string((bench.cache / model.digest).read_bytes())
    other.graph.input[0].name = other.graph.node[0].input[0] = "picture"
    form = ModelForm("", (bench.put("other.onnx", other.SerializeToString()),))
    given = Variant("int8", "given", (form,))
    result = bench.do(replace(measuring, variants=(*measuring.variants, given), modes=("runtime",), batch_sizes=(1,)))
    (gap,) = result.absent
    assert "takes 'picture'" in gap.reason
    assert "input 'image'" in gap.reason
    assert len(result.rows) == 2


def test_what_is_timed_end_to_end_is_counted_on_its_own_batch(bench: Bench, measuring: BenchmarkWork) -> None:
    (form,) = measuring.variants[0].forms
    workspace = Workspace(bench.cache, bench.outputs, bench.outputs)
    session = ENGINE.load(bench.cache / form.files[0].digest, LoadOptions("fp32", threads=1))
    Inputs(measuring, workspace).contender(session, form, Protocol("end2end", batch=3))
    session.run_bound()
    assert next(iter(session.outputs().values())).shape[0] == 3


def test_the_cores_reported_are_those_that_the_kernel_says() -> None:
    before = os.sched_getaffinity(0)
    try:
        pin_all_threads([min(before)])
        assert pinned_cores() == (min(before),)
        os.sched_setaffinity(0, before)  # one thread that escaped
        assert pinned_cores() == tuple(sorted(before))
    finally:
        pin_all_threads(before)
