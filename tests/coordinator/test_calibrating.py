"""What the coordinator makes of the shards' files: it refuses what does not fit, and tells what a user should know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from tests.coordinator.jobs.scripted_node import DATA, MANIFEST, SAMPLES, SHAPES, TENSORS, job_spec, ref

from quantfleet_coordinator.calibrating import JUDGING_SAMPLES, Calibrating
from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.reporting import write_report
from quantfleet_coordinator.store.records import JobRecord
from quantfleet_domain.calibration.auto import part_of
from quantfleet_domain.calibration.calibrators import CALIBRATOR_NAMES
from quantfleet_domain.calibration.correction import FP32, Corrections, quantity
from quantfleet_domain.calibration.graph import CalibrationGraph, Layer, NumericsClass, WeightTensor
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.calibration.sums import SumsAccumulator
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.lifecycle import Job, TaskState
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.spec import CalibrationSpec, FileRef
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    InspectResult,
    KeptPartial,
    RecallResult,
    SumsResult,
)
from quantfleet_domain.reporting.report import Report
from quantfleet_protos.v1 import job_pb2
from quantfleet_wire.codec import encode
from quantfleet_wire.content import digest_bytes

NUMERICS = NumericsClass("onnxruntime-cpu", "1.0", "x86_64/avx2", "m" * 64, "r" * 64, "none", 1)
LAYERS = (Layer("conv", "w", 1, False), Layer("fc", "v", 2, True))
WANTED = Manifest.from_json(MANIFEST)
Values = Callable[[int], np.ndarray[Any, np.dtype[np.float32]]]


def normal(index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(index).normal(size=64).astype(np.float32)


@dataclass
class Case:
    """A job whose model was inspected, of which nothing was recalled, and a store."""

    tensors: tuple[str, ...] = TENSORS
    layers: tuple[Layer, ...] = LAYERS
    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = job_spec(evaluate=False, targets=())
        calibration = replace(CalibrationSpec(DATA, "absmax", 99.99, 1), **self.fields)
        self.model = replace(spec.models[0], calibration=calibration)
        spec = replace(spec, models=(self.model,))
        wire = encode(spec, job_pb2.JobSpec).SerializeToString()
        self.entry = JobEntry.create(JobRecord("j", "r", "d", "test", "u", wire, "running", 0, 0), {})
        weights = (WeightTensor("w", 0, (1.0,)),)
        graph = CalibrationGraph((), (), self.tensors, weights, {}, {}, (), "r" * 64, self.layers)
        self.put(MANIFEST)
        self.entry.results["net/inspect"] = InspectResult(
            ref("net.onnx", b"net"), self.keep("graph.json", graph.to_json()), NUMERICS, SHAPES, ()
        )
        self.entry.results["net/recall"] = RecallResult((), 0, DATA.manifest, DATA.samples)

    def put(self, content: bytes) -> str:
        digest = digest_bytes(content)
        self.files[digest] = content
        return digest

    def read(self, digest: str) -> bytes:
        if digest not in self.files:
            raise QuantfleetError(ErrorCode.ARTIFACT_NOT_FOUND, "it is gone", "upload it")
        return self.files[digest]

    def keep(self, name: str, content: bytes) -> FileRef:
        return FileRef(name, self.put(content), len(content))

    @property
    def calibrating(self) -> Calibrating:
        return Calibrating(self.entry, self.model, self.read, self.put)

    def count(self, indices: Sequence[int], values: Values = normal, numerics: NumericsClass = NUMERICS) -> FileRef:
        """A partial of these indices."""
        observed = PartialAccumulator(numerics, self.tensors)
        for index in indices:
            observed.observe(index, str(index), dict.fromkeys(self.tensors, values(index)))
        return self.keep("partial.bin", observed.partial().encode())

    def shard(self, *partials: FileRef) -> None:
        self.entry.results["net/calibrate/0"] = CalibrateResult(partials, DATA.samples, 0.1, "tap")

    def calibrated(self, values: Values = normal) -> None:
        """One shard with everything, as a worker brings it."""
        self.shard(*(self.count([index], values) for index in range(DATA.samples)))

    def merged(self) -> None:
        self.entry.results["net/merge"] = self.calibrating.merge()

    def summed(self, task: str, quantities: dict[str, list[float]]) -> None:
        added = SumsAccumulator(NUMERICS, "s", dict.fromkeys(quantities, -30))
        added.add(0, "0", {name: np.array(values, np.float32) for name, values in quantities.items()})
        self.entry.results[f"net/{task}"] = SumsResult(self.keep("sums.json", added.sums().to_json()), 1, 0.5)

    def report(self) -> Report:
        tasks = {name: replace(task, state=TaskState.SUCCEEDED) for name, task in self.entry.job.tasks.items()}
        self.entry.job = Job("j", tasks)
        return write_report(self.entry, {}, self.read)


def refused(attempt: Callable[[], object], words: str) -> None:
    with pytest.raises(QuantfleetError, match=words) as caught:
        attempt()
    assert caught.value.code is ErrorCode.PARTIAL_INVALID


def parts() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index, sample in enumerate(WANTED.samples):
        found.setdefault(part_of(sample.digest), []).append(index)
    return found


# merge


def test_a_partial_that_mixes_parts_is_refused() -> None:
    case = Case()
    case.shard(case.count(range(len(SAMPLES))))
    refused(case.calibrating.merge, "mixes samples of several parts")


def test_a_partial_of_samples_beyond_its_manifest_is_refused() -> None:
    case = Case()
    case.shard(*(case.count([index]) for index in range(1, len(SAMPLES) + 1)))
    refused(case.calibrating.merge, "names samples that its manifest lacks")


def test_a_sample_that_two_shards_counted_is_refused() -> None:
    case = Case()
    case.shard(*(case.count([index]) for index in (*range(len(SAMPLES)), 3)))
    refused(case.calibrating.merge, "names samples that its manifest lacks")


def test_partials_that_leave_a_sample_out_are_refused() -> None:
    case = Case()
    case.shard(*(case.count([index]) for index in range(1, len(SAMPLES))))
    refused(case.calibrating.merge, "do not cover its manifest")


def test_a_partial_of_another_numerics_class_is_refused() -> None:
    case = Case()
    case.shard(case.count([0], numerics=replace(NUMERICS, isa="x86_64/avx512f")))
    refused(case.calibrating.merge, "of another numerics class")


def test_parts_counted_in_one_piece_or_sample_by_sample_give_the_same_tables() -> None:
    one, other = Case(fields={"calibrator": "auto"}), Case(fields={"calibrator": "auto"})
    one.calibrated()
    other.shard(*(other.count(indices) for indices in parts().values()))
    assert one.calibrating.merge().choices == other.calibrating.merge().choices


# recall


def test_what_cannot_be_read_or_does_not_fit_is_computed_again() -> None:
    case = Case()
    good = [KeptPartial(DATA.manifest, case.count([index])) for index in (2, 5)]
    damaged = KeptPartial(DATA.manifest, case.keep("partial.bin", b"no partial"))
    gone = KeptPartial(DATA.manifest, ref("partial.bin", b"collected"))
    without_manifest = KeptPartial(ref("manifest.json", b"collected"), case.count([7]))
    beyond = KeptPartial(DATA.manifest, case.count([99]))
    mixed = KeptPartial(DATA.manifest, case.count(range(len(SAMPLES))))
    other_class = KeptPartial(DATA.manifest, case.count([8], numerics=replace(NUMERICS, isa="x86_64/avx512f")))
    found = case.calibrating.recall([damaged, *good, gone, without_manifest, beyond, mixed, other_class])
    assert set(found.kept) == set(good)
    assert (found.recalled, found.samples) == (2, len(SAMPLES) - 2)
    missing = Manifest.from_json(case.read(found.missing.digest))
    assert missing.samples == tuple(s for i, s in enumerate(WANTED.samples) if i not in (2, 5))


# auto


def scored(noise: list[float], layers: tuple[Layer, ...] = LAYERS) -> Case:
    """A job with `auto` whose candidates had these errors, of a signal of 1, at the last layer."""
    case = Case(fields={"calibrator": "auto"}, layers=layers)
    case.calibrated()
    case.merged()
    quantities = {quantity("signal", FP32, "fc"): [1.0]}
    quantities |= {quantity("error", str(index), "fc"): [error] for index, error in enumerate(noise)}
    case.summed("score/0", quantities if layers else {})
    return case


def test_the_table_with_the_least_noise_is_chosen() -> None:
    case = scored([0.5, 0.25, 0.125, 0.01, 0.25, 0.5])
    found = case.calibrating.choose()
    names = ["auto", *(name for name in CALIBRATOR_NAMES if name != "auto")]
    assert [score.calibrator for score in found.scores] == names
    assert found.calibrator == names[3]
    assert found.scores[3].sqnr_db == pytest.approx(20, abs=1e-3)
    table = ScaleTable.from_json(case.read(found.scales.digest))
    assert table.header.calibrator == names[3]
    assert {row.samples for row in table.activations} == {len(SAMPLES)}  # not the candidate's, which saw fewer


def test_of_tables_that_do_equally_well_the_first_is_chosen() -> None:
    assert scored([0.5, 0.25, 0.25, 0.25, 0.25, 0.5]).calibrating.choose().calibrator == "absmax"
    assert scored([0.25] * 6).calibrating.choose().calibrator == "auto"


def test_a_network_without_layers_has_no_scores_and_gets_the_best_of_each_tensor() -> None:
    found = scored([], layers=()).calibrating.choose()
    assert (found.calibrator, found.scores) == ("auto", ())


def test_a_layer_that_is_always_zero_decides_nothing() -> None:
    case = scored([0.5, 0.25, 0.5, 0.5, 0.5, 0.5])
    zero = {quantity("signal", FP32, "zero"): [0.0]} | {quantity("error", str(i), "zero"): [float(i)] for i in range(6)}
    seen = {quantity("signal", FP32, "fc"): [1.0]} | {
        quantity("error", str(i), "fc"): [0.5 - 0.25 * (i == 1)] for i in range(6)
    }
    case.summed("score/0", zero | seen)
    assert case.calibrating.choose().calibrator == "absmax"


def test_candidates_are_made_without_the_samples_that_judge_them() -> None:
    case = Case(fields={"calibrator": "auto"})
    held_back = [WANTED.samples[index] for index in parts()[0]]
    case.calibrated(lambda index: normal(index) * (100 if WANTED.samples[index] in held_back else 1))
    merged = case.calibrating.merge()
    assert list(Manifest.from_json(case.read(merged.held_back.digest)).samples) == held_back[:JUDGING_SAMPLES]
    for made, ref_ in (("all", merged.choices[1]), ("seen", merged.candidates[1])):
        table = ScaleTable.from_json(case.read(ref_.digest))
        assert table.header.calibrator == "absmax"
        assert (table.activations[0].hi > 50) is (made == "all")


# corrections


def test_layers_that_are_left_in_float_are_told_and_biases_stay_where_the_job_wants_it() -> None:
    case = Case(fields={"exclude_below_db": 15.0, "bias_correction": False})
    case.calibrated()
    case.merged()
    quantities: dict[str, list[float]] = {}
    for layer, error in (("conv", 0.1), ("fc", 0.02)):
        quantities |= {quantity("mean", FP32, layer): [0.5], quantity("signal", FP32, layer): [1.0]}
        quantities |= {quantity("mean", "u8s8", layer): [0.4], quantity("error", "u8s8", layer): [error]}
    case.summed("correct/0/0", quantities)
    settled = case.calibrating.settle(0)
    corrections = Corrections.from_json(case.read(settled.corrections.digest)).of("u8s8")
    assert [item.layer for item in corrections.excluded] == ["conv"]
    assert [item.delta for item in corrections.layers] == [(0.0,)]
    assert settled.excluded == ("u8s8: conv: 10.5 dB",)
    case.entry.results["net/settle/0"] = settled
    (found,) = case.report().calibration.values()
    assert (found.bias_correction, found.excluded) == (None, ("u8s8: conv: 10.5 dB",))


# what a user is told


def test_a_sample_that_stretches_a_range_is_in_the_report() -> None:
    case = Case()
    case.calibrated(lambda index: normal(index) * (30 if index == 4 else 1))
    case.merged()
    (outlier,) = case.report().calibration["net"].outliers
    assert (outlier.sample, outlier.tensors) == ("4.bin", len(TENSORS))
    assert outlier.absmax > 30 > 5 > outlier.without


def test_tensors_that_a_calibrator_harms_are_warned_of_and_the_rest_of_many_counted() -> None:
    case = Case(tensors=tuple("abcdefg"), fields={"calibrator": "percentile", "percentile": 50.0})
    case.calibrated()
    case.merged()
    warnings = case.report().warnings
    assert sum("net/merge: calibrator percentile would leave tensor" in warning for warning in warnings) == 5
    assert warnings[-1] == "net/merge: so with 2 more tensors"


def test_a_calibrator_that_the_guard_replaced_is_told_with_what_was_taken() -> None:
    case = Case(fields={"calibrator": "entropy"})
    case.calibrated(lambda index: np.abs(np.random.default_rng(index).standard_t(2, 20_000)).astype(np.float32))
    case.merged()
    told = [warning for warning in case.report().warnings if "calibrator entropy would leave tensor" in warning]
    assert len(told) == len(TENSORS)
    assert all(warning.endswith("; mse was taken for it") for warning in told)


def test_extremes_alone_tell_which_samples_stretch_a_range_and_nothing_of_what_a_threshold_costs() -> None:
    def values(index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return normal(index) * (30 if index == 4 else 1)

    told = []
    for numerics in (NUMERICS, replace(NUMERICS, statistic_version=EXTREMES_VERSION)):
        case = Case(fields={"calibrator": "avg", "extremes_only": numerics.extremes_only})
        case.shard(*(case.count([index], values, numerics) for index in range(DATA.samples)))
        case.merged()
        report = case.report()
        told.append([warning for warning in report.warnings if "calibrator avg would leave tensor" in warning])
        assert [outlier.sample for outlier in report.calibration["net"].outliers] == ["4.bin"]
    assert told[0]
    assert told[1] == []


def test_a_calibration_by_nodes_of_any_kind_is_warned_of() -> None:
    for mixed in (True, False):
        report = Case(fields={"mixed": mixed}).report()
        assert any("not exact to the bit" in warning for warning in report.warnings) is mixed
