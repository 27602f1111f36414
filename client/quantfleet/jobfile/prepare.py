"""From a job file to what is submitted: every file hashed, every path a digest. Not for sending it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quantfleet.jobfile import document, scales
from quantfleet.jobfile.document import CalibrationPart, JobDocument, ModelPart
from quantfleet.jobfile.judging import EvaluatePart
from quantfleet.jobfile.models import ModelFiles
from quantfleet.jobfile.samples import Found
from quantfleet.jobfile.trainings import TrainingPart
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.plan import CORRECTION_SAMPLES, spread
from quantfleet_domain.jobs.spec import (
    CalibrationSpec,
    DataSet,
    EvaluateSpec,
    FileRef,
    GivenModel,
    JobSpec,
    ModelSpec,
    TrainingSpec,
    model_sha256,
)
from quantfleet_domain.jobs.validation import validate
from quantfleet_wire.content import digest_bytes, digest_file

Progress = Callable[[int, int], None]
"""Called with how many files are hashed, and how many there are."""


@dataclass(frozen=True)
class PreparedJob:
    """A job and the content of all that it names, by SHA-256: files of this disk, or bytes that were written for it."""

    spec: JobSpec
    files: Mapping[str, Path | bytes]


def load_job(path: Path, progress: Progress | None = None) -> PreparedJob:
    """Read and hash the job file at `path` and all that it names. Raises QuantfleetError, with line and column."""
    return prepare(document.read(path), progress)


def prepare(job: JobDocument, progress: Progress | None = None) -> PreparedJob:
    """Hash everything that a job names. Raises DATA_NOT_FOUND for a file that has gone since, JOB_INVALID."""
    hashing = _Hashing(_count(job), progress)
    spec = JobSpec(
        name=job.name,
        models=tuple(_model(part, hashing) for part in job.models),
        benchmark=job.benchmark,
        gates=job.gates,
        patience_s=job.patience_s,
        document=job.text,
    )
    validate(spec)
    return PreparedJob(spec, hashing.files)


class _Hashing:
    """Hashes each file once, however often it is named."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.files: dict[str, Path | bytes] = {}
        self._known: dict[Path, tuple[str, int]] = {}
        self._total = total
        self._progress = progress

    def file(self, path: Path, name: str) -> FileRef:
        if path not in self._known:
            try:
                self._known[path] = digest_file(path), path.stat().st_size
            except OSError as error:
                what = f"{path} cannot be read: {error.strerror}"
                raise QuantfleetError(ErrorCode.DATA_NOT_FOUND, what, "check that it is there and readable") from error
            if self._progress:
                self._progress(len(self._known), self._total)
        digest, size = self._known[path]
        self.files[digest] = path
        return FileRef(name, digest, size)

    def data(self, samples: tuple[Found, ...], name: str) -> DataSet:
        """The data set of these samples; its manifest is a file of its own."""
        content = Manifest(tuple(self._sample(sample) for sample in samples)).to_json()
        return DataSet(self.made(content, name), len(samples))

    def made(self, content: bytes, name: str) -> FileRef:
        """A file that is written for the job."""
        digest = digest_bytes(content)
        self.files[digest] = content
        return FileRef(name, digest, len(content))

    def _sample(self, found: Found) -> Sample:
        ref = self.file(found.path, found.name)
        mask = self.file(found.mask[1], found.mask[0]) if found.mask else None
        return Sample(ref.name, ref.digest, ref.size, found.label, mask)


def _count(job: JobDocument) -> int:
    paths: set[Path] = set()
    for part in job.models:
        paths.update(part.files.files)
        paths.update([part.preprocess] if part.preprocess else [])
        for section in (part.calibration, part.evaluate, *part.quantization.trainings):
            for sample in section.samples if section else ():
                paths.update([sample.path, *([sample.mask[1]] if sample.mask else [])])
        if part.evaluate and part.evaluate.annotations:
            paths.add(part.evaluate.annotations)
        paths.update(part.quantization.given.files if part.quantization.given else ())
        for training in part.quantization.trainings:
            paths.update(path for path in (training.config, training.weights, training.resume) if path)
    return len(paths)


def _model(part: ModelPart, hashing: _Hashing) -> ModelSpec:
    files = tuple(hashing.file(path, path.name) for path in part.files.files)
    return ModelSpec(
        name=part.name,
        format=part.files.format,
        files=files,
        input_shapes=part.input_shapes,
        preprocess=hashing.file(part.preprocess, part.preprocess.name) if part.preprocess else None,
        calibration=_calibration(part.calibration, part.name, files, hashing) if part.calibration else None,
        targets=part.targets,
        evaluate=_evaluate(part.evaluate, hashing) if part.evaluate else None,
        quantizations=part.quantization.names,
        trainings=tuple(_training(training, hashing) for training in part.quantization.trainings),
        given=_given(part.quantization.given, hashing) if part.quantization.given else None,
        quantized=part.quantized,
    )


def _given(files: ModelFiles, hashing: _Hashing) -> GivenModel:
    return GivenModel(files.format, tuple(hashing.file(path, path.name) for path in files.files))


def _training(part: TrainingPart, hashing: _Hashing) -> TrainingSpec:
    def file(path: Path | None) -> FileRef | None:
        return hashing.file(path, path.name) if path else None

    return TrainingSpec(
        method=part.method,
        package=part.package,
        config=file(part.config),
        weights=file(part.weights),
        resume=file(part.resume),
        data=hashing.data(part.samples, f"{part.method}.json"),
        iterations=part.iterations,
        batch_size=part.batch_size,
        learning_rate=part.learning_rate,
        save_interval=part.save_interval,
        validate=part.validate,
        workers=part.workers,
        log_interval=part.log_interval,
        with_softmax=part.with_softmax,
        without_argmax=part.without_argmax,
    )


def _calibration(part: CalibrationPart, name: str, files: tuple[FileRef, ...], hashing: _Hashing) -> CalibrationSpec:
    table = scales.read(part.scales) if part.scales else None
    if table:
        table.require_model(model_sha256(files), name)
    # Beside a table, samples serve bias correction alone, which needs few.
    found = spread(part.samples, CORRECTION_SAMPLES) if table else part.samples
    return CalibrationSpec(
        data=hashing.data(found, "calibration.json") if found else None,
        calibrator=table.header.calibrator if table else part.calibrator,
        percentile=part.percentile,
        shards=part.shards,
        bias_correction=part.bias_correction,
        exclude_below_db=part.exclude_below_db,
        ties=part.ties,
        mixed=part.mixed,
        reuse=part.reuse,
        extremes_only=part.extremes_only,
        scales=hashing.made(table.to_json(), "scales.json") if table else None,
    )


def _evaluate(part: EvaluatePart, hashing: _Hashing) -> EvaluateSpec:
    data = hashing.data(part.samples, "evaluation.json")
    if part.annotations:
        data = replace(data, annotations=hashing.file(part.annotations, part.annotations.name))
    return EvaluateSpec(data, part.metrics, part.shards)
