"""Which files a finished job hands to its user: scale tables and quantized models. Not for the report itself."""

from dataclasses import replace

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_domain.jobs.assignment import corrections_of, scales_of
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.work import BenchmarkResult, QuantizeResult, TrainResult


def delivered_files(entry: JobEntry) -> list[FileRef]:
    """MODEL/scales.json, MODEL/corrections.json, MODEL/samples-….json, MODEL/RUNTIME-FORM/… and MODEL/METHOD/… with the
    model's own configuration, and of a training its last checkpoint, MODEL/METHOD/checkpoint."""
    found: list[FileRef] = []
    for spec in entry.spec.models:
        if f"{spec.name}/merge" in entry.results or (spec.calibration and spec.calibration.scales):
            for ref in (scales_of(spec, entry.results), corrections_of(spec.name, entry.results)):
                found += [replace(ref, name=f"{spec.name}/{ref.name}")] if ref else []
    for name, result in entry.results.items():
        detail = entry.plan.details[name]
        model = detail.model
        if isinstance(result, QuantizeResult):
            for form in result.forms:
                folder = f"{model}/{result.runtime}-{form.form}"
                found += [replace(ref, name=f"{folder}/{ref.name}") for ref in form.files]
        elif (
            isinstance(result, TrainResult) and f"{model}/train/{result.method}/{detail.stage + 1}" not in entry.results
        ):
            made = [*result.best.form.files, replace(result.checkpoint, name="checkpoint")]
            found += [replace(ref, name=f"{model}/{result.method}/{ref.name}") for ref in made]
        elif isinstance(result, BenchmarkResult):
            found.append(replace(result.samples, name=f"{model}/samples-{result.engine}-{detail.target}.json"))
    return found
