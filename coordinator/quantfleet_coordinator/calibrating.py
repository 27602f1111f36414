"""What the coordinator does itself for a scale table: recall, merge, choose, settle. Not for when (`jobs.chores`)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_domain.calibration.auto import candidate_tables, part_of
from quantfleet_domain.calibration.calibrators import AUTO, calibrator_named
from quantfleet_domain.calibration.correction import FP32, Corrections, forms_in, quantity
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.guard import hurts
from quantfleet_domain.calibration.outliers import outliers
from quantfleet_domain.calibration.partial import Partial, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.sums import Sums, merge_sums
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.made import (
    numerics_of,
    scales_of,
)
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.plan import CORRECTION_SAMPLES, spread
from quantfleet_domain.jobs.reuse import Kept, Renumbering, recall
from quantfleet_domain.jobs.spec import CalibrationSpec, DataSet, FileRef, ModelSpec
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    CandidateScore,
    ChooseResult,
    InspectResult,
    KeptPartial,
    MergeResult,
    OutlierSample,
    RecallResult,
    SettleResult,
    SumsResult,
)

T = TypeVar("T")

HELD_BACK = 0
"""The part by whose samples candidate tables are judged (see `auto`)."""
JUDGING_SAMPLES = 32
"""On how many of the samples held back candidate tables are judged."""
FEW_WARNINGS = 5
_RESOLUTION = 2.0**40
"""Scores are told apart down to a noise of its inverse, 120 dB below the signal."""


@dataclass(frozen=True)
class Calibrating:
    """The calibration of one model of a job. `read` gives an artifact's bytes, `put` stores some and names them."""

    entry: JobEntry
    model: ModelSpec
    read: Callable[[str], bytes]
    put: Callable[[bytes], str]

    @property
    def _spec(self) -> CalibrationSpec:
        assert self.model.calibration is not None
        return self.model.calibration

    @property
    def _data(self) -> DataSet:
        assert self._spec.data is not None  # a table that a job brings is not made here
        return self._spec.data

    @property
    def _graph(self) -> CalibrationGraph:
        inspected = self.entry.results[f"{self.model.name}/inspect"]
        assert isinstance(inspected, InspectResult)
        assert inspected.graph is not None
        return CalibrationGraph.from_json(self.read(inspected.graph.digest))

    def _keep(self, name: str, content: bytes) -> FileRef:
        return FileRef(name, self.put(content), len(content))

    def _manifest(self, ref: FileRef) -> Manifest:
        return Manifest.from_json(self.read(ref.digest))

    def recall(self, offered: Sequence[KeptPartial]) -> RecallResult:
        """Use again what `offered` partials of the same numerics class know of this model's samples."""
        found: dict[str, tuple[KeptPartial, Kept]] = {}
        for item in offered:
            try:
                kept = Kept(item.partial.digest, self._manifest(item.manifest), self._partial(item.partial))
            except QuantfleetError as error:
                if error.code not in (ErrorCode.ARTIFACT_NOT_FOUND, ErrorCode.PARTIAL_INVALID):
                    raise
                continue  # it was collected meanwhile, or damaged: it is simply computed again
            found[kept.name] = (item, kept)
        manifest = self._manifest(self._data.manifest)
        chosen, missing = recall(manifest, [kept for _, kept in found.values()])
        recalled = sum(len(kept.partial.samples) for kept in chosen)
        return RecallResult(
            kept=tuple(found[kept.name][0] for kept in chosen),
            recalled=recalled,
            missing=self._keep("missing.json", missing.to_json()),
            samples=len(missing.samples),
        )

    def _partial(self, ref: FileRef) -> Partial:
        partial = Partial.decode(self.read(ref.digest))
        if partial.numerics_class != numerics_of(self.model, self.entry.results):
            raise QuantfleetError(
                ErrorCode.PARTIAL_INVALID,
                f"a partial statistic of {self.model.name} is of another numerics class than its reference graph",
                "run one version of quantfleet on all nodes of one kind",
            )
        return partial

    def merge(self) -> MergeResult:
        """The scale table, or with `auto` the candidates, of all partials; what to tell the user of the ranges."""
        manifest = self._manifest(self._data.manifest)
        shards = self._shards(CalibrateResult, "calibrate")
        parts = self._parts(manifest, shards)
        merged = merge_partials(list(parts.values()))
        if merged.samples != set(range(self._data.samples)):
            raise QuantfleetError(
                ErrorCode.PARTIAL_INVALID,
                f"the partial statistics of {self.model.name} do not cover its manifest",
                "submit the job again",
            )
        tables = self._tables(list(parts.values()))
        seen = [part for number, part in parts.items() if number != HELD_BACK] or list(parts.values())
        judged = self._tables(seen) if self._spec.calibrator == AUTO else ()
        refs, candidates = (
            tuple(self._keep("scales.json", table.to_json()) for table in made) for made in (tables, judged)
        )
        held_back = _held_back(manifest.samples)
        excerpt = spread(manifest.samples, CORRECTION_SAMPLES)
        return MergeResult(
            scales=refs[0],
            samples=len(merged.samples),
            shards=sum(shard.samples > 0 for shard in shards),
            seconds=sum(shard.seconds for shard in shards),
            choices=refs if judged else (),
            candidates=candidates,
            held_back=self._keep("held_back.json", Manifest(held_back).to_json()),
            held_back_samples=len(held_back),
            excerpt=self._keep("excerpt.json", Manifest(excerpt).to_json()),
            excerpt_samples=len(excerpt),
            outliers=tuple(
                OutlierSample(manifest.samples[o.sample].name, o.tensors, o.worst_tensor, o.absmax, o.without)
                for o in outliers(merged)
            ),
            warnings=tuple(_range_warnings(tables[0], merged)),
        )

    def _parts(self, manifest: Manifest, shards: Sequence[CalibrateResult]) -> dict[int, Partial]:
        """The partial of each part of the samples that is not empty (see `auto`), in the job's own indices."""
        recalled = self.entry.results[f"{self.model.name}/recall"]
        assert isinstance(recalled, RecallResult)
        pieces = [(item.manifest, item.partial) for item in recalled.kept]
        pieces += [(recalled.missing, ref) for shard in shards for ref in shard.partials]
        numbering = Renumbering(manifest)
        found: dict[int, list[Partial]] = {}
        for source, ref in pieces:
            samples = self._manifest(source)
            partial = self._partial(ref)
            try:
                parts = {part_of(samples.samples[index].digest) for index in partial.samples}
                renumbered = numbering.take(partial, samples)
            except (KeyError, IndexError) as error:
                raise QuantfleetError(
                    ErrorCode.PARTIAL_INVALID,
                    f"a partial statistic of {self.model.name} names samples that its manifest lacks",
                    "run one version of quantfleet on all nodes, and submit the job again",
                ) from error
            if len(parts) != 1:
                raise QuantfleetError(
                    ErrorCode.PARTIAL_INVALID,
                    f"a partial statistic of {self.model.name} mixes samples of several parts",
                    "run one version of quantfleet on all nodes, and submit the job again",
                )
            found.setdefault(parts.pop(), []).append(renumbered)
        return {part: merge_partials(found[part]) for part in sorted(found)}

    def _tables(self, parts: Sequence[Partial]) -> tuple[ScaleTable, ...]:
        """The table, or with `auto` every calibrator's, the automatic choice first."""
        spec, merged = self._spec, merge_partials(list(parts))
        graph = self._graph if spec.ties else replace(self._graph, ties=())
        manifest, preprocessing = self._data.manifest.digest, merged.numerics_class.preprocessing
        if spec.calibrator == AUTO:
            candidates = candidate_tables(parts, graph, manifest=manifest, preprocessing=preprocessing)
            tables = [candidates[AUTO], *(table for name, table in candidates.items() if name != AUTO)]
        else:
            calibrator = calibrator_named(spec.calibrator, spec.percentile if spec.calibrator == "percentile" else None)
            tables = [ScaleTable.build(merged, graph, calibrator, manifest=manifest, preprocessing=preprocessing)]
        return tuple(tables)

    def choose(self) -> ChooseResult:
        """Of the candidate tables the one whose outputs differ least from FP32's; of equals the first.

        A network without layers shows no difference, and then there are no scores.
        """
        merged = self.entry.results[f"{self.model.name}/merge"]
        assert isinstance(merged, MergeResult)
        shards = self._shards(SumsResult, "score")
        sums = self._sums(shards)
        scores = []
        for index, ref in enumerate(merged.candidates):
            name = ScaleTable.from_json(self.read(ref.digest)).header.calibrator
            scores.append((_noise(sums, str(index)), index, name))
        _, best, name = min(scores)
        return ChooseResult(
            scales=merged.choices[best],
            calibrator=name,
            scores=tuple(
                CandidateScore(name, -10 * math.log10(max(noise, 1 / _RESOLUTION)))
                for noise, _, name in (scores if sums.quantities else ())
            ),
            seconds=sum(shard.seconds for shard in shards),
        )

    def settle(self, stage: int) -> SettleResult:
        """The bias corrections after a stage."""
        shards = self._shards(SumsResult, f"correct/{stage}")
        sums = self._sums(shards)
        if stage == 0:
            scales = scales_of(self.model, self.entry.results).digest
            limit = self._spec.exclude_below_db
            corrections = Corrections.first(sums, self._graph, forms_in(sums), scales, limit)
            if not self._spec.bias_correction:
                corrections = corrections.without_deltas()
        else:
            before = self.entry.results[f"{self.model.name}/settle/{stage - 1}"]
            assert isinstance(before, SettleResult)
            corrections = Corrections.from_json(self.read(before.corrections.digest)).refined(sums)
        return SettleResult(
            corrections=self._keep("corrections.json", corrections.to_json()),
            layers=len(corrections.forms[0].layers) if corrections.forms else 0,
            excluded=tuple(
                f"{form.form}: {item.layer}: {item.sqnr_db:.1f} dB"
                for form in corrections.forms
                for item in form.excluded
            ),
            seconds=sum(shard.seconds for shard in shards),
        )

    def _sums(self, shards: Sequence[SumsResult]) -> Sums:
        merged = merge_sums([Sums.from_json(self.read(shard.sums.digest)) for shard in shards if shard.sums])
        if merged.numerics_class != numerics_of(self.model, self.entry.results):
            raise QuantfleetError(
                ErrorCode.NUMERICS_MISMATCH,
                f"sums of {self.model.name} are of another numerics class than its reference graph",
                "run one version of quantfleet on all nodes of one kind",
            )
        return merged

    def _shards(self, kind: type[T], name: str) -> list[T]:
        prefix = f"{self.model.name}/{name}/"
        found = [result for key, result in self.entry.results.items() if key.startswith(prefix)]
        return [result for result in found if isinstance(result, kind)]


def kept_partials(entry: JobEntry, model: ModelSpec) -> list[KeptPartial]:
    """What a job has of a model's partials so far, with the manifests of their indices."""
    recalled = entry.results.get(f"{model.name}/recall")
    if not isinstance(recalled, RecallResult):
        return []
    prefix = f"{model.name}/calibrate/"
    shards = [result for key, result in entry.results.items() if key.startswith(prefix)]
    own = [ref for shard in shards if isinstance(shard, CalibrateResult) for ref in shard.partials]
    return [*recalled.kept, *(KeptPartial(recalled.missing, ref) for ref in own)]


def _held_back(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    part = tuple(sample for sample in samples if part_of(sample.digest) == HELD_BACK)
    return spread(part or samples, JUDGING_SAMPLES)


def _noise(sums: Sums, candidate: str) -> float:
    """Mean squared error over mean squared output, summed over the last layers; rounded, so that equals are equal."""
    prefix = quantity("error", candidate, "")
    layers = [name.removeprefix(prefix) for name in sums.quantities if name.startswith(prefix)]
    total = 0.0
    for layer in sorted(layers):
        signal = float(sums.mean(quantity("signal", FP32, layer))[0])
        total += float(sums.mean(quantity("error", candidate, layer))[0]) / signal if signal > 0 else 0.0
    return round(total * _RESOLUTION) / _RESOLUTION


def _range_warnings(table: ScaleTable, merged: Partial) -> list[str]:
    if merged.numerics_class.extremes_only:
        return []  # what a threshold costs is judged by the distribution
    found = hurts(table, merged)
    said = [
        f"calibrator {hurt.calibrator} would leave tensor {hurt.tensor} {hurt.sqnr_db:.1f} dB of signal over noise, "
        f"where its full range leaves {hurt.absmax_sqnr_db:.1f} dB"
        + (f"; {hurt.replaced_by} was taken for it" if hurt.replaced_by else "")
        for hurt in found[:FEW_WARNINGS]
    ]
    return said + ([f"so with {len(found) - FEW_WARNINGS} more tensors"] if len(found) > FEW_WARNINGS else [])
