"""A scale table that a job file brings: read, checked against its model, and sent in its canonical bytes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import PreparedJob, prepare
from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.scales import ScalesHeader, ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.plan import CORRECTION_SAMPLES

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {path: mobilenet.onnx}\n"
MODEL = hashlib.sha256(b"onnx").hexdigest()
NUMERICS = NumericsClass("tensorrt", "8401", "unknown", MODEL, "r" * 64, "imported", 0, 0, 0)
TABLE = ScaleTable(ScalesHeader(MODEL, "imported:0", "imported", "imported", None, NUMERICS), (), ())


@pytest.fixture
def brought(folder: Path) -> Path:
    (folder / "scales.json").write_bytes(json.dumps(json.loads(TABLE.to_json()), indent=2).encode())
    return folder


def prepared(calibration: str, folder: Path, rest: str = "") -> PreparedJob:
    return prepare(read_text(f"{HEAD}calibration: {{{calibration}}}\n{rest}", "job.yaml", folder))


def refusal(calibration: str, folder: Path) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        prepared(calibration, folder)
    return caught.value


def test_the_table_is_sent_in_its_canonical_bytes_and_names_its_calibrator(brought: Path) -> None:
    job = prepared("scales: scales.json", brought)
    found = job.spec.models[0].calibration
    assert found is not None
    assert found.scales is not None
    assert (found.data, found.calibrator) == (None, "imported")
    assert found.scales.digest == TABLE.sha256
    assert job.files[TABLE.sha256] == TABLE.to_json()
    assert job.spec.models[0].targets[0].precisions == ("fp32", "int8")
    assert job.spec.benchmark.modes == ("runtime",)


def test_samples_beside_it_are_a_few_of_those_named_evenly_spaced(brought: Path) -> None:
    data = brought / "many"
    data.mkdir()
    for index in range(2 * CORRECTION_SAMPLES):
        (data / f"{index:03}.npy").write_bytes(b"%d" % index)
    job = prepared("scales: scales.json, data: {path: many}", brought)
    found = job.spec.models[0].calibration
    assert found is not None
    assert found.data is not None
    content = job.files[found.data.manifest.digest]
    assert isinstance(content, bytes)
    names = [sample.name for sample in Manifest.from_json(content).samples]
    assert names == [f"{index:03}.npy" for index in range(0, 2 * CORRECTION_SAMPLES, 2)]
    assert job.spec.benchmark.modes == ("runtime", "end2end")


def test_a_model_that_brings_its_table_leaves_the_jobs_calibrator_to_the_others(brought: Path) -> None:
    text = (
        HEAD.replace("model: {path: mobilenet.onnx}\n", "models:\n")
        + "  - {path: mobilenet.onnx, calibration: {scales: scales.json}}\n  - {path: paddle}\n"
        + "calibration: {calibrator: mse, data: {path: images, preprocess: inference_cls.yaml}}\n"
    )
    first, second = (model.calibration for model in prepare(read_text(text, "job.yaml", brought)).spec.models)
    assert first is not None
    assert second is not None
    assert (first.calibrator, first.scales is not None) == ("imported", True)
    assert (second.calibrator, second.scales) == ("mse", None)


def test_a_table_of_another_model_is_refused_with_both_digests(brought: Path) -> None:
    other = replace(TABLE, header=replace(TABLE.header, model="7" * 64))
    (brought / "scales.json").write_bytes(other.to_json())
    error = refusal("scales: scales.json", brought)
    assert error.code is ErrorCode.SCALES_INVALID
    assert "7" * 64 in error.what
    assert MODEL in error.what


def test_a_file_that_is_no_table_is_named(brought: Path) -> None:
    (brought / "scales.json").write_text("{}")
    error = refusal("scales: scales.json", brought)
    assert error.code is ErrorCode.SCALES_INVALID
    assert "scales.json" in error.what


@pytest.mark.parametrize(
    ("calibration", "code", "place", "said"),
    [
        ("scales: none.json", "scales-invalid", "job.yaml:5:23: ", "none.json"),
        ("scales: scales.json, calibrator: mse", "job-invalid", "job.yaml:5:48: ", "calibrator says how"),
        ("scales: scales.json, ties: false", "job-invalid", "job.yaml:5:42: ", "ties says how"),
        (
            "scales: scales.json, bias_correction: true",
            "job-invalid",
            "job.yaml:5:53: ",
            "bias_correction needs samples",
        ),
        (
            "scales: scales.json, exclude_below_db: 9",
            "job-invalid",
            "job.yaml:5:54: ",
            "exclude_below_db needs samples",
        ),
        ("shards: 2", "job-invalid", "job.yaml:5:23: ", "the calibration has no data"),
    ],
)
def test_a_key_that_cannot_mean_anything_is_told_with_its_place(
    brought: Path, calibration: str, code: str, place: str, said: str
) -> None:
    error = refusal(calibration, brought)
    assert error.code == code
    assert error.what.startswith(place)
    assert said in error.what


def test_no_bias_correction_may_be_said_where_there_are_no_samples(brought: Path) -> None:
    prepared("scales: scales.json, bias_correction: false", brought)
