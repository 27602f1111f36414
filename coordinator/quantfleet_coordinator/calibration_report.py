"""The calibration part of a job's report: how each scale table was made, or where it came from. Not for making it."""

from collections.abc import Callable, Sequence

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_domain.calibration.correction import CHECKPOINTS
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.jobs.made import (
    numerics_of,
    scales_of,
)
from quantfleet_domain.jobs.spec import CalibrationSpec, ModelSpec
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    ChooseResult,
    MergeResult,
    RecallResult,
    SettleResult,
)
from quantfleet_domain.reporting.facts import facts_of
from quantfleet_domain.reporting.making import (
    BiasCorrection,
    Calibration,
    Outlier,
)


def calibration(entry: JobEntry, read: Callable[[str], bytes]) -> dict[str, Calibration]:
    """By model, of those whose table is there. `read` gives an artifact's bytes."""
    found = {}
    for model in entry.spec.models:
        merged = entry.results.get(f"{model.name}/merge")
        if model.calibration and isinstance(merged, MergeResult):
            found[model.name] = _calibrated(entry, model, model.calibration, merged)
        elif model.calibration and model.calibration.scales:
            table = ScaleTable.from_json(read(model.calibration.scales.digest))
            found[model.name] = _brought(entry, model, model.calibration, table)
    return found


def _brought(entry: JobEntry, model: ModelSpec, asked: CalibrationSpec, table: ScaleTable) -> Calibration:
    """What a table that the job brings says of itself: no samples were counted, and no time was spent, for it here."""
    settled = _settled(entry, model)
    return Calibration(
        calibrator=table.header.calibrator,
        samples=max((row.samples for row in table.activations), default=0),
        shards=0,
        scales_sha256=table.sha256,
        numerics_class=facts_of(table.header.numerics_class),
        seconds=None,
        parameter=table.header.parameter,
        bias_correction=_bias_correction(asked, settled, asked.data.samples if asked.data else 0),
        excluded=settled[-1].excluded if settled else (),
    )


def _calibrated(entry: JobEntry, model: ModelSpec, asked: CalibrationSpec, merged: MergeResult) -> Calibration:
    recalled = entry.results.get(f"{model.name}/recall")
    chosen = entry.results.get(f"{model.name}/choose")
    prefix = f"{model.name}/calibrate/"
    shards = [r for name, r in entry.results.items() if name.startswith(prefix) and isinstance(r, CalibrateResult)]
    settled = _settled(entry, model)
    return Calibration(
        calibrator=asked.calibrator,
        samples=merged.samples,
        shards=merged.shards,
        scales_sha256=scales_of(model, entry.results).digest,
        numerics_class=facts_of(numerics_of(model, entry.results)),
        seconds=merged.seconds,
        parameter=asked.percentile if asked.calibrator == "percentile" else None,
        chosen=chosen.calibrator if isinstance(chosen, ChooseResult) else None,
        scores={s.calibrator: s.sqnr_db for s in chosen.scores} if isinstance(chosen, ChooseResult) else None,
        recalled=recalled.recalled if isinstance(recalled, RecallResult) else None,
        collectors=tuple(sorted({shard.collector for shard in shards if shard.samples})),
        ties=asked.ties,
        bias_correction=_bias_correction(asked, settled, merged.excerpt_samples),
        excluded=settled[-1].excluded if settled else (),
        outliers=tuple(Outlier(o.sample, o.tensors, o.worst, o.absmax, o.without) for o in merged.outliers),
    )


def _settled(entry: JobEntry, model: ModelSpec) -> list[SettleResult]:
    stages = (entry.results.get(f"{model.name}/settle/{stage}") for stage in range(CHECKPOINTS + 1))
    return [result for result in stages if isinstance(result, SettleResult)]


def _bias_correction(asked: CalibrationSpec, settled: Sequence[SettleResult], samples: int) -> BiasCorrection | None:
    if not settled or not asked.bias_correction:
        return None
    return BiasCorrection(
        sha256=settled[-1].corrections.digest,
        samples=samples,
        layers=settled[-1].layers,
        stages=len(settled),
        seconds=sum(result.seconds for result in settled),
    )
