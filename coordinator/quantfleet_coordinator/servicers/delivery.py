"""Which files a finished job hands to its user: scale tables and quantized models. Not for the report itself."""

from collections.abc import Iterable
from dataclasses import replace

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_domain.jobs.made import (
    corrections_of,
    scales_of,
)
from quantfleet_domain.jobs.measured import BenchmarkResult
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.task_results import (
    QuantizeResult,
    TrainResult,
)
from quantfleet_domain.jobs.work import ModelForm


def delivered_files(entry: JobEntry) -> list[FileRef]:
    """MODEL/scales.json, MODEL/corrections.json, MODEL/samples-….json, MODEL/RUNTIME-FORM/… with the model's own
    configuration, MODEL/ENGINE-TARGET-native/… of an engine's own calibrator, and of a training
    MODEL/METHOD/RUNTIME-FORM/… and its last checkpoint, MODEL/METHOD/checkpoint."""
    found: list[FileRef] = []
    for spec in entry.spec.models:
        if f"{spec.name}/merge" in entry.results or (spec.calibration and spec.calibration.scales):
            for ref in (scales_of(spec, entry.results), corrections_of(spec.name, entry.results)):
                found += [replace(ref, name=f"{spec.name}/{ref.name}")] if ref else []
    for name, result in entry.results.items():
        detail = entry.plan.details[name]
        model = detail.model
        if isinstance(result, QuantizeResult):
            # What an engine's own calibrator found is another model on each target.
            maker = f"{detail.engine}-{detail.target}" if detail.quantization == "native" else result.runtime
            found += _forms(f"{model}/{maker}", result.forms)
        elif (
            isinstance(result, TrainResult) and f"{model}/train/{result.method}/{detail.stage + 1}" not in entry.results
        ):
            found.append(replace(result.checkpoint, name=f"{model}/{result.method}/checkpoint"))
            for made in result.best.made:
                found += _forms(f"{model}/{result.method}/{made.runtime}", made.forms)
        elif isinstance(result, BenchmarkResult):
            found.append(replace(result.samples, name=f"{model}/samples-{result.engine}-{detail.target}.json"))
    return found


def _forms(prefix: str, forms: Iterable[ModelForm]) -> list[FileRef]:
    return [replace(ref, name=f"{prefix}-{form.form}/{ref.name}") for form in forms for ref in form.files]
