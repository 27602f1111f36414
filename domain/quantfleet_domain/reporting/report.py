"""The report: everything a job found out, with where it came from. Not for computing figures, nor for showing them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.measurement.latency import LatencySummary
from quantfleet_domain.reporting.codec import UnfitError, from_value, to_value
from quantfleet_domain.reporting.facts import Fact
from quantfleet_domain.reporting.making import Calibration, Training

SCHEMA = "quantfleet/report/v1"


@dataclass(frozen=True)
class JobError:
    """Why a job failed, in the words of the error catalogue."""

    code: str
    what: str
    todo: str


@dataclass(frozen=True)
class JobSummary:
    """The job that was run; `state` is succeeded, partial, failed or cancelled."""

    id: str
    name: str
    state: str
    error: JobError | None = None


@dataclass(frozen=True)
class FleetDevice:
    """A device that took part. `hardware` are its verified facts (see `facts_of`)."""

    node: str
    device: str
    hardware: Mapping[str, Fact]


@dataclass(frozen=True)
class ModelEntry:
    """A model as submitted: `sha256` in hex, and `given_sha256` of the quantized form that the job brought with it."""

    name: str
    format: str
    sha256: str
    given_sha256: str | None = None


@dataclass(frozen=True)
class ConversionFigure:
    """What the engine did between nodes in one run: how often, and which share of the run's time (None: not known)."""

    operator: str
    count: int
    time_share: float | None


@dataclass(frozen=True)
class SpeedupFigure:
    """A ratio of mean latencies and its 95 % interval; `against` is the precision it is compared with."""

    value: float
    low: float | None
    high: float | None
    against: str


@dataclass(frozen=True)
class Accuracy:
    """One metric on so many labelled samples; `unit` is `percent` for every metric of this version."""

    metric: str
    value: float
    unit: str
    samples: int


@dataclass(frozen=True)
class Result:
    """One variant of one model on one engine and device, in one mode, with so many threads and samples a run.

    A row that has an accuracy and no latency (nothing was timed) has neither mode nor protocol. `measured_at` is
    ISO 8601 in UTC. `int8_nodes` ran in INT8 of `quantizable_nodes`: the `int8_operators`; `fallbacks` names the rest,
    and `conversions` what the engine put between nodes. `noise` says why a
    figure is not `quiet`; `samples_artifact` is the SHA-256 of the raw latencies; `memory_mb` is the peak resident
    memory of the engine's process, in MiB, from a run of its own; `parts_ms` are the mean times of a run's parts by the
    device's own clock.
    """

    model: str
    node: str
    device: str
    engine: str
    engine_version: str
    precision: str
    quantization: str
    form: str | None
    input_shapes: Mapping[str, tuple[int, ...]]
    mode: str | None
    threads: int | None
    batch: int | None
    warmup: int | None
    repeat: int | None
    measured_at: str | None
    latency_ms: LatencySummary | None
    throughput_per_s: float | None
    speedup: SpeedupFigure | None
    accuracy: tuple[Accuracy, ...]
    int8_nodes: int | None
    quantizable_nodes: int | None
    model_bytes: int | None
    quiet: bool | None
    settings_in_effect: Mapping[str, str]
    samples_artifact: str | None
    blocks: int | None = None
    fallbacks: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    conditions: Mapping[str, Fact] | None = None
    memory_mb: float | None = None
    int8_operators: tuple[str, ...] = ()
    conversions: tuple[ConversionFigure, ...] = ()
    parts_ms: Mapping[str, float] = field(default_factory=dict)

    def accuracy_of(self, metric: str) -> Accuracy | None:
        """The figure of one metric, if it was evaluated."""
        return next((figure for figure in self.accuracy if figure.metric == metric), None)


@dataclass(frozen=True)
class Absent:
    """A cell that was asked for and was not measured, and why.

    `applicable` is False where the engine does not offer it; then its absence is no failure. What is None was not
    settled when it was given up (no node came, or all modes are meant).
    """

    node: str | None
    device: str | None
    engine: str
    precision: str
    quantization: str | None
    reason: str
    model: str | None = None
    mode: str | None = None
    threads: int | None = None
    batch: int | None = None
    applicable: bool = True


@dataclass(frozen=True)
class GateResult:
    """A gate, the worst value it was judged by (None: there was nothing to judge it by) and whether it passed."""

    expression: str
    value: float | None
    passed: bool


@dataclass(frozen=True)
class Report:
    """The whole report. `calibration` is keyed by model; models that were not calibrated are not in it.

    `job_file` is the job as the user wrote it, `versions` those of every package that had a part.
    """

    job: JobSummary
    fleet: tuple[FleetDevice, ...]
    models: tuple[ModelEntry, ...]
    calibration: Mapping[str, Calibration]
    job_file: str
    versions: Mapping[str, str]
    results: tuple[Result, ...]
    absent: tuple[Absent, ...]
    gates: tuple[GateResult, ...]
    warnings: tuple[str, ...]
    training: tuple[Training, ...] = ()

    def to_json(self) -> bytes:
        """The file's bytes: indented JSON with a final newline, the same for equal reports.

        In the file `calibration` is null without a calibrated model, the one object in a job of one model, and an
        object keyed by model otherwise. Raises ValueError for a figure that is not finite.
        """
        document = {"schema": SCHEMA, **to_value(self)}
        if not self.calibration:
            document["calibration"] = None
        elif len(self.models) == 1:
            document["calibration"] = document["calibration"][self.models[0].name]
        return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @staticmethod
    def from_json(data: bytes) -> "Report":
        """Read a file that `to_json`, of this version or a newer one, wrote. Raises QuantfleetError(REPORT_INVALID)."""
        try:
            document: Any = json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise _invalid(f"the report is not JSON: {error}") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            found = document.get("schema") if isinstance(document, dict) else None
            raise _invalid(f"this is no report: its schema is {found!r}, not {SCHEMA!r}")
        try:
            return from_value(Report, {**document, "calibration": _keyed_by_model(document)}, "report")
        except UnfitError as error:
            raise _invalid(str(error)) from error


def _keyed_by_model(document: Mapping[str, Any]) -> Any:
    if "calibration" not in document:
        raise UnfitError("report.calibration is missing")
    found, models = document["calibration"], document.get("models")
    if found is None:
        return {}
    if isinstance(models, list) and len(models) == 1 and isinstance(models[0], dict):
        return {models[0].get("name"): found}
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _invalid(what: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.REPORT_INVALID, what, "give a report.json that quantfleet wrote")
