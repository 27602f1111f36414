"""What a job's tasks have made of a model so far, looked up in their results. Not for making it."""

from collections.abc import Mapping
from dataclasses import replace

from quantfleet_domain.calibration.correction import CHECKPOINTS
from quantfleet_domain.calibration.graph import MIXED, NumericsClass
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.jobs.plan import Detail
from quantfleet_domain.jobs.spec import FileRef, JobSpec, ModelSpec
from quantfleet_domain.jobs.task_results import ChooseResult, InspectResult, MergeResult, Result, SettleResult


def model_of(spec: JobSpec, detail: Detail) -> ModelSpec:
    """The model that a task is about."""
    return next(model for model in spec.models if model.name == detail.model)


def inspected_of(model: str, results: Mapping[str, Result]) -> InspectResult:
    """What the inspection of a model, by name, found."""
    found = results[f"{model}/inspect"]
    assert isinstance(found, InspectResult)
    return found


def reference_of(model: str, results: Mapping[str, Result]) -> tuple[FileRef, FileRef]:
    """The reference graph of a model that is not quantized, and what calibration knows of it."""
    found = inspected_of(model, results)
    assert found.reference is not None
    assert found.graph is not None
    return found.reference, found.graph


def numerics_of(model: ModelSpec, results: Mapping[str, Result]) -> NumericsClass:
    """The numerics class in which a model is calibrated: that of its inspection, but for what the job changes.

    The ISA is any where the job allows it, and the statistic another where the job wants extremes alone.
    """
    numerics = inspected_of(model.name, results).numerics
    assert numerics is not None
    if model.calibration and model.calibration.mixed:
        numerics = replace(numerics, isa=MIXED)
    if model.calibration and model.calibration.extremes_only:
        numerics = replace(numerics, statistic_version=EXTREMES_VERSION)
    return numerics


def merged_of(model: str, results: Mapping[str, Result]) -> MergeResult:
    """The scale tables that the calibration of a model, by name, came to."""
    found = results[f"{model}/merge"]
    assert isinstance(found, MergeResult)
    return found


def scales_of(model: ModelSpec, results: Mapping[str, Result]) -> FileRef:
    """The model's scale table: that which the job brings, or the chosen one where several were candidates."""
    if model.calibration and model.calibration.scales:
        return model.calibration.scales
    chosen = results.get(f"{model.name}/choose")
    return chosen.scales if isinstance(chosen, ChooseResult) else merged_of(model.name, results).scales


def corrections_of(model: str, results: Mapping[str, Result]) -> FileRef | None:
    """The model's bias corrections after the last stage done; None where there are none."""
    stages = (results.get(f"{model}/settle/{stage}") for stage in range(CHECKPOINTS, -1, -1))
    return next((found.corrections for found in stages if isinstance(found, SettleResult)), None)
