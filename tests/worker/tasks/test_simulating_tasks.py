"""The tasks `correct` and `score` as their child process does them, and what quantizing makes of corrections."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.worker.onnx_networks import calibrated, classifier, pictures
from tests.worker.tasks.test_tasks import Bench

from quantfleet_domain.calibration.correction import CHECKPOINTS, FP32, Corrections, forms_in, quantity
from quantfleet_domain.calibration.graph import MIXED, CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.sums import Sums, merge_sums
from quantfleet_domain.calibration.tensorrt_cache import CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.task_results import (
    InspectResult,
    QuantizeResult,
    SumsResult,
)
from quantfleet_domain.jobs.work import (
    CorrectWork,
    InspectWork,
    QuantizeWork,
    ScoreWork,
    Slice,
)
from quantfleet_worker.tasks import dispatch
from quantfleet_worker.tasks.request import pack

SAMPLES = 6


@dataclass(frozen=True)
class Ready:
    bench: Bench
    model: FileRef
    inspected: InspectResult
    graph: CalibrationGraph
    scales: FileRef
    clipped: FileRef
    manifest: FileRef

    def read(self, ref: FileRef) -> bytes:
        return (self.bench.cache / ref.digest).read_bytes()

    def correct(self, first: int, count: int, stage: int = 0, corrections: FileRef | None = None) -> CorrectWork:
        return CorrectWork(
            model="net",
            reference=self.inspected.reference,
            graph=self.inspected.graph,
            scales=self.scales,
            corrections=corrections,
            runtimes=("onnx", "paddle", "tensorrt"),
            stage=stage,
            data=Slice(self.manifest, first, count),
            preprocess=None,
            numerics=self.inspected.numerics,
        )

    def sums(self, work: CorrectWork | ScoreWork) -> Sums:
        done = self.bench.do(work)
        assert isinstance(done, SumsResult)
        assert done.samples == work.data.count
        assert done.sums is not None
        return Sums.from_json(self.read(done.sums))


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = tmp_path_factory.mktemp("simulating")
    bench = Bench(folder)
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    submitted = bench.put("net.onnx", model.SerializeToString())
    inspected = bench.do(InspectWork("net", "onnx", (submitted,), (), None))
    assert isinstance(inspected, InspectResult)
    graph = CalibrationGraph.from_json((bench.cache / inspected.graph.digest).read_bytes())
    table = calibrated(bench.cache / inspected.reference.digest, graph, pictures(SAMPLES))
    table = replace(table, header=replace(table.header, model=submitted.digest))
    clipped = replace(table, activations=tuple(replace(row, hi=row.hi / 4) for row in table.activations))
    rows = []
    for index, picture in enumerate(pictures(SAMPLES)):
        np.save(folder / f"{index}.npy", picture[0])
        ref = bench.put(f"{index}.npy", (folder / f"{index}.npy").read_bytes())
        rows.append(Sample(ref.name, ref.digest, ref.size, None))
    scales, other = (bench.put("scales.json", item.to_json()) for item in (table, clipped))
    manifest = bench.put("manifest.json", Manifest(tuple(rows)).to_json())
    return Ready(bench, submitted, inspected, graph, scales, other, manifest)


@pytest.fixture(scope="module")
def corrections(ready: Ready) -> Corrections:
    """After stage 0, of two shards."""
    sums = merge_sums([ready.sums(ready.correct(0, 4)), ready.sums(ready.correct(4, 2))])
    return Corrections.first(sums, ready.graph, forms_in(sums), ready.scales.digest, None)


def test_shards_of_a_stage_merge_to_what_one_shard_gives(ready: Ready) -> None:
    whole = ready.sums(ready.correct(0, SAMPLES))
    parts = [ready.sums(ready.correct(first, 2)) for first in (4, 0, 2)]
    assert merge_sums(parts).to_json() == whole.to_json()
    assert set(forms_in(whole)) == {"u8s8", "u8s8-paired", "s8-symmetric", "s8-symmetric-headroom", "s8s8"}


def test_shards_of_different_stages_do_not_merge(ready: Ready, corrections: Corrections) -> None:
    settled = ready.bench.put("corrections.json", corrections.to_json())
    parts = [ready.sums(ready.correct(first, 2, stage, settled)) for first, stage in ((0, 1), (2, 2))]
    assert parts[0].subject != parts[1].subject
    with pytest.raises(QuantfleetError) as caught:
        merge_sums(parts)
    assert caught.value.code is ErrorCode.NUMERICS_MISMATCH


def test_a_stage_with_nothing_to_correct_still_names_its_samples(ready: Ready, corrections: Corrections) -> None:
    forms = tuple(replace(form, layers=(), excluded=form.layers) for form in corrections.forms)
    settled = ready.bench.put("corrections.json", replace(corrections, forms=forms).to_json())
    sums = ready.sums(ready.correct(2, 3, 1, settled))
    assert sums.samples == {2, 3, 4}
    assert sums.quantities == {}
    assert corrections.refined(sums) == corrections


def test_a_shard_without_samples_has_no_sums(ready: Ready) -> None:
    done = ready.bench.do(ready.correct(0, 0))
    assert isinstance(done, SumsResult)
    assert done.sums is None


def test_quantizing_with_corrections_writes_the_corrected_biases(ready: Ready, corrections: Corrections) -> None:
    found = corrections
    for stage in range(1, CHECKPOINTS + 1):
        settled = ready.bench.put("corrections.json", found.to_json())
        found = found.refined(ready.sums(ready.correct(0, SAMPLES, stage, settled)))
    settled = ready.bench.put("corrections.json", found.to_json())
    inspected = ready.inspected
    work = QuantizeWork(
        "net", "onnx", "static", "onnx", (ready.model,), inspected.reference, ready.scales, None, settled
    )
    biases = []
    for item in (work, replace(work, corrections=None)):
        done = ready.bench.do(item)
        assert isinstance(done, QuantizeResult)
        plain = onnx.load_from_string(ready.read(done.forms[0].files[0]))
        biases.append(_dequantized_bias(plain, "logits_node"))
    delta = next(layer.delta for layer in found.of("u8s8").layers if layer.layer == "logits")
    np.testing.assert_allclose(biases[0] - biases[1], delta, atol=1e-3)


def test_quantizing_with_the_table_of_another_model_is_refused(ready: Ready) -> None:
    other = ready.bench.put("other.onnx", b"another model")
    reference = ready.inspected.reference
    with pytest.raises(QuantfleetError) as caught:
        ready.bench.do(QuantizeWork("net", "onnx", "static", "onnx", (other,), reference, ready.scales, None))
    assert caught.value.code is ErrorCode.SCALES_INVALID
    assert other.digest in caught.value.what


def _dequantized_bias(model: onnx.ModelProto, node: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    bias = next(item.input[2] for item in model.graph.node if item.name == node)
    maker = next(item for item in model.graph.node if item.output[0] == bias)
    return np.asarray(stored[maker.input[0]].astype(np.float64) * stored[maker.input[1]])


def test_a_score_tells_the_candidates_apart(ready: Ready) -> None:
    work = ScoreWork(
        model="net",
        reference=ready.inspected.reference,
        graph=ready.inspected.graph,
        candidates=(ready.clipped, ready.scales),
        data=Slice(ready.manifest, 0, SAMPLES),
        preprocess=None,
        numerics=ready.inspected.numerics,
    )
    sums = ready.sums(work)
    errors = [sums.mean(quantity("error", str(index), "logits"))[0] for index in range(2)]
    assert errors[1] < errors[0] < sums.mean(quantity("signal", FP32, "logits"))[0]
    parts = [ready.sums(replace(work, data=Slice(ready.manifest, first, 3))) for first in (3, 0)]
    assert merge_sums(parts).to_json() == sums.to_json()
    swapped = ready.sums(replace(work, candidates=(ready.scales, ready.clipped)))
    assert swapped.subject != sums.subject


def test_another_kind_of_node_is_refused_unless_the_job_allows_any(ready: Ready) -> None:
    foreign = replace(ready.inspected.numerics, isa="riscv64/v")
    with pytest.raises(QuantfleetError) as caught:
        ready.bench.do(replace(ready.correct(0, 1), numerics=foreign))
    assert caught.value.code is ErrorCode.NUMERICS_MISMATCH
    mixed = replace(ready.inspected.numerics, isa=MIXED)
    assert ready.sums(replace(ready.correct(0, 1), numerics=mixed)).numerics_class.isa == MIXED
    other = replace(mixed, engine_version="0.1")
    with pytest.raises(QuantfleetError, match=r"0\.1"):
        ready.bench.do(replace(ready.correct(0, 1), numerics=other))


def test_progress_is_reported_sample_by_sample(ready: Ready) -> None:
    heard: list[tuple[float, str]] = []
    dispatch(pack(ready.bench.here, ready.correct(1, 3)), lambda share, doing: heard.append((share, doing)))
    assert heard == [(0, "sample 1 of 3"), (1 / 3, "sample 2 of 3"), (2 / 3, "sample 3 of 3")]


def test_tensorrt_gets_a_quantized_model_and_the_float_model_with_a_calibration_cache(
    ready: Ready, corrections: Corrections
) -> None:
    settled = ready.bench.put("corrections.json", corrections.to_json())
    configuration = ready.bench.put("inference_cls.yaml", b"PreProcess: {}\n")
    work = QuantizeWork(
        "net",
        "tensorrt",
        "static",
        "onnx",
        (ready.model,),
        ready.inspected.reference,
        ready.scales,
        configuration,
        settled,
    )
    done = ready.bench.do(work)
    assert isinstance(done, QuantizeResult)
    assert ready.bench.do(work) == done, "the same work gives the same files"
    assert {form.form: [ref.name for ref in form.files] for form in done.forms} == {
        "s8s8": ["model.onnx", "inference_cls.yaml"],
        "cache": ["reference.onnx", "calibration.cache", "inference_cls.yaml"],
    }
    assert set(ENGINES["tensorrt"].forms) == {form.form for form in done.forms}
    quantized, floating = (form.files for form in done.forms)
    assert floating[0] == ready.inspected.reference
    cache = CalibrationCache.from_text(ready.read(floating[1]), "calibration.cache")
    table = ScaleTable.from_json(ready.read(ready.scales))
    for row in table.activations:
        scale = np.float32(max(-row.lo, row.hi) / 127)
        assert np.float32(cache.scales[row.tensor]) == scale
        assert cache.thresholds()[row.tensor] == pytest.approx(max(-row.lo, row.hi), rel=2**-23)
    assert cache.scales["pooled"] == cache.scales["stem.relu"], "what only moves values has a scale too"
    made = ready.read(quantized[0])
    plain = ready.bench.do(replace(work, corrections=None)).forms[0].files[0]
    assert made != ready.read(plain), "its biases are corrected"
