"""What users hand in: manifests are read strictly, and what cannot be is refused with the nearest right name."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import DATA, TARGET, job_spec, model_spec

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import DataSet, FileRef, JobSpec
from quantfleet_domain.jobs.validation import validate

FILE = (
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.integers(0, 2**40),
)
SAMPLES = st.builds(Sample, *FILE, st.none() | st.integers(-5, 1000), st.none() | st.builds(FileRef, *FILE))


@given(samples=st.lists(SAMPLES).map(tuple))
def test_a_manifest_reads_back_as_it_was(samples: tuple[Sample, ...]) -> None:
    manifest = Manifest(samples)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


ROW = {"name": "a", "digest": "d", "size": 1}


@pytest.mark.parametrize(
    "document",
    [
        [],
        None,
        {},
        {"schema": "quantfleet/manifest/v2", "samples": []},
        {"schema": "quantfleet/manifest/v1"},
        {"schema": "quantfleet/manifest/v1", "samples": {"a": 1}},
        {"schema": "quantfleet/manifest/v1", "samples": 7},
        *(
            {"schema": "quantfleet/manifest/v1", "samples": [row]}
            for row in (
                {},
                7,
                {**ROW, "name": 1},
                {**ROW, "digest": None},
                {**ROW, "size": "1"},
                {**ROW, "size": -1},
                {**ROW, "size": float("inf")},
                {**ROW, "size": True},
                {**ROW, "label": "cat"},
                {**ROW, "label": 1.5},
                {**ROW, "mask": 7},
                {**ROW, "mask": {**ROW, "size": -1}},
            )
        ),
    ],
)
def test_what_is_no_manifest_is_an_error_of_its_own(document: Any) -> None:
    with pytest.raises(QuantfleetError) as caught:
        Manifest.from_json(json.dumps(document).encode())
    assert caught.value.code is ErrorCode.DATA_NOT_FOUND


def test_a_part_of_a_manifest_names_its_samples_and_their_masks() -> None:
    rows = tuple(Sample(str(i), f"s{i}", 1, None, FileRef("m", f"m{i}", 1) if i else None) for i in range(3))
    assert Manifest(rows).digests(0, 2) == {"s0", "s1", "m1"}
    assert Manifest(rows).digests() == {"s0", "s1", "s2", "m1", "m2"}
    assert Manifest(()).digests() == frozenset()


@given(data=st.binary(max_size=60))
def test_no_bytes_bring_the_reader_down(data: bytes) -> None:
    with pytest.raises(QuantfleetError):
        Manifest.from_json(data)


def test_a_deeply_nested_document_is_an_error_of_its_own() -> None:
    with pytest.raises(QuantfleetError):
        Manifest.from_json(b"[" * 100_000)


def test_a_good_job_is_accepted() -> None:
    validate(job_spec())
    validate(job_spec(model_spec("a", True), model_spec("b")))


EMPTY = DataSet(DATA.manifest, 0)
CALIBRATION = model_spec().calibration
EVALUATE = model_spec().evaluate
assert CALIBRATION
assert EVALUATE


def _model(**fields: Any) -> JobSpec:
    return job_spec(model_spec(**fields))


def _target(**fields: Any) -> JobSpec:
    return _model(targets=(TARGET, replace(TARGET, **fields)))


def _benchmark(**fields: Any) -> JobSpec:
    return job_spec(benchmark=replace(job_spec().benchmark, **fields))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (job_spec(models=()), "no model"),
        (job_spec(name="a\nb"), "name for a job"),
        (job_spec(model_spec("a"), model_spec("a")), "two models are called 'a'"),
        (job_spec(model_spec("")), "no name for a model"),
        (job_spec(model_spec("a/b")), "no name for a model"),
        (job_spec(model_spec("..")), "no name for a model"),
        (job_spec(model_spec("a\0b")), "no name for a model"),
        (_model(format="onxn"), "did you mean 'onnx'?"),
        (_model(files=()), "no files"),
        *(
            (_model(files=(FileRef(name, "a" * 64, 1),)), "no file below")
            for name in ("../x", "/x", "a\\..\\x", "c:/x", "")
        ),
        (_model(preprocess=FileRef("../x.yml", "a" * 64, 1)), "no file below"),
        (_model(calibration=replace(CALIBRATION, calibrator="entropie")), "did you mean 'entropy'?"),
        (_model(calibration=replace(CALIBRATION, data=EMPTY)), "no calibration samples"),
        (_model(calibration=replace(CALIBRATION, percentile=0.0)), "percentile"),
        (_model(calibration=replace(CALIBRATION, percentile=float("nan"))), "percentile"),
        (_model(calibration=replace(CALIBRATION, shards=-1)), "shards"),
        (_model(calibration=replace(CALIBRATION, calibrator="mse", extremes_only=True)), "choose absmax or avg"),
        (_model(evaluate=replace(EVALUATE, data=EMPTY)), "no evaluation samples"),
        (_model(evaluate=replace(EVALUATE, metrics=("top3",))), "did you mean 'top"),
        (_model(evaluate=replace(EVALUATE, metrics=())), "no metrics"),
        (_model(evaluate=replace(EVALUATE, metrics=("top1", "miou"))), "miou judges something else than top1"),
        (_model(evaluate=replace(EVALUATE, metrics=("map",))), "map needs annotations"),
        (_model(evaluate=replace(EVALUATE, shards=-1)), "shards"),
        (_target(engines=("onnxruntime-cp",)), "did you mean 'onnxruntime-cpu'?"),
        (_target(precisions=()), "no precisions"),
        (_target(precisions=("int9",)), "did you mean 'int8'?"),
        (_target(precisions=("int8", "int8")), "lists 'int8' twice"),
        (_target(engines=("paddle-cpu", "paddle-cpu")), "lists 'paddle-cpu' twice"),
        (_target(threads=(1, 1)), "lists 1 twice"),
        (_target(threads=()), "threads must be"),
        (_target(threads=(0,)), "threads must be"),
        (_target(batch_sizes=(-1,)), "batch_sizes must be"),
        (_benchmark(modes=("runtme",)), "did you mean 'runtime'?"),
        (_benchmark(warmup=-1), "warmup"),
        (_benchmark(repeat=0), "repeat"),
        (job_spec(patience_s=-1.0), "patience"),
        (job_spec(patience_s=float("nan")), "patience"),
        (job_spec(gates=("speedup",)), "not a comparison"),
    ],
)
def test_a_wrong_field_is_named(spec: JobSpec, said: str) -> None:
    with pytest.raises(QuantfleetError) as caught:
        validate(spec)
    assert caught.value.code is ErrorCode.JOB_INVALID
    assert said in f"{caught.value.what} {caught.value.todo}"
    assert caught.value.todo
