"""A job file becomes exactly the job that it says, with its defaults, its samples in order and every file by digest."""

import hashlib
from pathlib import Path

import pytest

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import PreparedJob, load_job, prepare
from quantfleet_domain.calibration.calibrators import DEFAULT_CALIBRATOR
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.spec import (
    BenchmarkSpec,
    CalibrationSpec,
    DataSet,
    EvaluateSpec,
    FileRef,
    InputShape,
    JobSpec,
    ModelSpec,
    TargetSpec,
)

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\n"
FULL = """\
apiVersion: quantfleet/v1
kind: Job
name: two models
models:
  - name: mobilenet
    path: mobilenet.onnx
    input_shapes: {x: [1, 3, 8, 8]}
  - path: paddle
    calibration: {calibrator: absmax}
    targets: []
calibration:
  data: {path: images, preprocess: inference_cls.yaml, skip: 1, limit: 2}
  calibrator: percentile
  percentile: 99.9
  shards: 4
targets:
  - {pool: xeon-vnni, engines: [onnxruntime-cpu], precisions: [fp32], threads: [1, 2], batch_sizes: [1, 8]}
  - {}
benchmark: {modes: [end2end], warmup: 5, repeat: 50, quiet: true}
evaluate: {data: {path: images, list: val.txt}, metrics: [top5]}
gates: ["int8.speedup >= 1.5"]
patience: 1h30m
"""


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def prepared(text: str, folder: Path) -> PreparedJob:
    return prepare(read_text(text, "job.yaml", folder))


def manifest_of(job: PreparedJob, data: DataSet) -> Manifest:
    content = job.files[data.manifest.digest]
    assert isinstance(content, bytes)
    return Manifest.from_json(content)


def test_a_full_job_file_becomes_the_job_that_it_says(folder: Path) -> None:
    job = prepared(FULL, folder)
    preprocess = FileRef("inference_cls.yaml", sha(b"PreProcess: {}\n"), 15)
    first, second = job.spec.models
    assert first.calibration is not None
    assert first.evaluate is not None
    assert job.spec == JobSpec(
        name="two models",
        models=(
            ModelSpec(
                name="mobilenet",
                format="onnx",
                files=(FileRef("mobilenet.onnx", sha(b"onnx"), 4),),
                input_shapes=(InputShape("x", (1, 3, 8, 8)),),
                preprocess=preprocess,
                calibration=CalibrationSpec(DataSet(first.calibration.data.manifest, 2), "percentile", 99.9, 4),
                targets=(
                    TargetSpec("xeon-vnni", ("onnxruntime-cpu",), ("fp32",), (1, 2), (1, 8)),
                    TargetSpec("", (), ("fp32", "int8"), (1,), (1,)),
                ),
                evaluate=EvaluateSpec(DataSet(first.evaluate.data.manifest, 3), ("top5",), 0),
            ),
            ModelSpec(
                name="paddle",
                format="paddle",
                files=(
                    FileRef("inference.pdmodel", sha(b"program"), 7),
                    FileRef("inference.pdiparams", sha(b"parameters"), 10),
                ),
                input_shapes=(),
                preprocess=preprocess,
                calibration=CalibrationSpec(DataSet(first.calibration.data.manifest, 2), "absmax", 99.9, 4),
                targets=(),
                evaluate=second.evaluate,
            ),
        ),
        benchmark=BenchmarkSpec(("end2end",), 5, 50, True),
        gates=("int8.speedup >= 1.5",),
        patience_s=5400.0,
        document=FULL,
    )
    assert [(s.name, s.label) for s in manifest_of(job, first.calibration.data).samples] == [
        ("b.jpg", None),
        ("c d 7.bmp", None),
    ]
    assert [(s.name, s.label) for s in manifest_of(job, first.evaluate.data).samples] == [
        ("b.jpg", 3),
        ("a.PNG", 0),
        ("c d 7.bmp", 12),
    ]


def test_every_digest_that_a_job_names_comes_with_its_content(folder: Path) -> None:
    job = prepared(FULL, folder)
    named = set(job.spec.inputs())
    for model in job.spec.models:
        for data in (model.calibration and model.calibration.data, model.evaluate and model.evaluate.data):
            named |= {sample.digest for sample in manifest_of(job, data).samples} if data else set()
    assert named == set(job.files)
    for digest, content in job.files.items():
        assert sha(content if isinstance(content, bytes) else content.read_bytes()) == digest


def test_a_short_job_gets_the_defaults(folder: Path) -> None:
    job = prepared(
        HEAD + "model: {path: paddle}\ncalibration: {data: {path: images, preprocess: inference_cls.yaml}}\n", folder
    )
    (model,) = job.spec.models
    assert model.name == "paddle"
    assert model.calibration is not None
    assert (model.calibration.calibrator, model.calibration.percentile, model.calibration.shards) == (
        DEFAULT_CALIBRATOR,
        99.9999,
        0,
    )
    assert model.calibration.data.samples == 4
    assert model.targets == (TargetSpec("", (), ("fp32", "int8"), (1,), (1,)),)
    assert job.spec.benchmark == BenchmarkSpec(("runtime", "end2end"), 200, 1000, False)
    assert job.spec.patience_s == 600.0


def test_a_short_job_corrects_biases_ties_ranges_and_uses_again_what_is_known(folder: Path) -> None:
    data = "data: {path: images, preprocess: inference_cls.yaml}"
    (model,) = prepared(HEAD + f"model: {{path: paddle}}\ncalibration: {{{data}}}\n", folder).spec.models
    found = model.calibration
    assert found is not None
    assert (found.bias_correction, found.exclude_below_db, found.ties, found.mixed, found.reuse) == (
        True,
        None,
        True,
        False,
        True,
    )
    assert found.extremes_only is False


def test_how_to_calibrate_is_as_the_job_says_and_a_models_own_keys_come_first(folder: Path) -> None:
    keys = "calibrator: auto, bias_correction: false, exclude_below_db: 12, ties: false, mixed: true, reuse: false"
    text = (
        HEAD
        + "models:\n"
        + "  - {path: mobilenet.onnx}\n"
        + "  - {path: paddle, calibration: {calibrator: mse, bias_correction: true, exclude_below_db: 9.5}}\n"
        + f"calibration: {{data: {{path: images, preprocess: inference_cls.yaml}}, {keys}}}\n"
    )
    first, second = (model.calibration for model in prepared(text, folder).spec.models)
    assert first is not None
    assert second is not None
    data = first.data
    assert first == CalibrationSpec(data, "auto", 99.9999, 0, False, 12.0, False, True, False)
    assert second == CalibrationSpec(data, "mse", 99.9999, 0, True, 9.5, False, True, False)


def test_extremes_only_is_as_the_job_says(folder: Path) -> None:
    keys = "data: {path: images, preprocess: inference_cls.yaml}, calibrator: avg, extremes_only: true"
    (model,) = prepared(HEAD + f"model: {{path: paddle}}\ncalibration: {{{keys}}}\n", folder).spec.models
    assert model.calibration is not None
    assert model.calibration.extremes_only


def test_without_samples_only_fp32_is_measured_and_only_at_run_time(folder: Path) -> None:
    job = prepared(HEAD + "model: {path: mobilenet.onnx}\n", folder)
    assert job.spec.benchmark.modes == ("runtime",)
    assert job.spec.models[0].targets[0].precisions == ("fp32",)
    assert job.spec.models[0].preprocess is None


def test_the_same_folder_gives_the_same_bytes_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    once = prepared(FULL, folder)
    moved = folder.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    again = prepared(FULL, moved)
    assert once.spec == again.spec
    assert set(once.files) == set(again.files)


def test_another_order_of_the_list_is_another_manifest(folder: Path) -> None:
    before = prepared(FULL, folder).spec.models[0].evaluate
    (folder / "val.txt").write_text("a.PNG 0\nb.jpg 3\nc d 7.bmp 12\n")
    assert prepared(FULL, folder).spec.models[0].evaluate != before


def test_a_models_own_path_means_other_data_which_the_jobs_limit_does_not_cut(folder: Path) -> None:
    text = (
        HEAD
        + "models:\n"
        + "  - {path: mobilenet.onnx, calibration: {data: {path: images/more, preprocess: inference_cls.yaml}}}\n"
        + "  - {path: paddle, calibration: {data: {limit: 3}}}\n"
        + "calibration: {data: {path: images, preprocess: inference_cls.yaml, limit: 1}}\n"
    )
    first, second = prepared(text, folder).spec.models
    assert first.calibration
    assert second.calibration
    assert (first.calibration.data.samples, second.calibration.data.samples) == (1, 3)


def test_weights_beside_an_onnx_file_travel_with_it(folder: Path) -> None:
    (folder / "mobilenet.onnx.data").write_bytes(b"weights")
    job = prepared(HEAD + "model: {path: mobilenet.onnx}\n", folder)
    assert [ref.name for ref in job.spec.models[0].files] == ["mobilenet.onnx", "mobilenet.onnx.data"]


def test_of_two_forms_of_a_paddle_model_the_pdmodel_is_taken(folder: Path) -> None:
    (folder / "paddle" / "inference.json").write_text("{}")
    (folder / "paddle" / "config.json").write_text("{}")
    job = prepared(HEAD + "model: {path: paddle}\n", folder)
    assert [ref.name for ref in job.spec.models[0].files] == ["inference.pdmodel", "inference.pdiparams"]
    (folder / "paddle" / "inference.pdmodel").unlink()
    job = prepared(HEAD + "model: {path: paddle}\n", folder)
    assert [ref.name for ref in job.spec.models[0].files] == ["inference.json", "inference.pdiparams"]


def test_tensors_need_no_preprocessing_even_where_a_file_lies_beside_the_model(folder: Path) -> None:
    (folder / "tensors").mkdir()
    (folder / "tensors" / "0.npy").write_bytes(b"tensor")
    job = prepared(HEAD + "model: {path: mobilenet.onnx}\ncalibration: {data: {path: tensors}}\n", folder)
    assert job.spec.models[0].preprocess is None


def data_error(folder: Path, data: str, section: str = "calibration") -> QuantfleetError:
    with pytest.raises(QuantfleetError) as raised:
        prepared(HEAD + f"model: {{path: mobilenet.onnx}}\n{section}: {{data: {data}}}\n", folder)
    return raised.value


def test_data_that_is_not_there_or_empty_is_told(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert data_error(folder, "{path: nowhere}").code is ErrorCode.DATA_NOT_FOUND
    assert data_error(folder, "{path: empty}").code is ErrorCode.DATA_EMPTY
    assert data_error(folder, "{path: images, skip: 4}").code is ErrorCode.DATA_EMPTY
    assert data_error(folder, "{list: nowhere.txt}").code is ErrorCode.DATA_NOT_FOUND
    assert data_error(folder, "{limit: 3}").code is ErrorCode.JOB_INVALID


def test_a_line_of_a_list_that_is_wrong_is_told_with_its_number(folder: Path) -> None:
    (folder / "bad.txt").write_text("b.jpg 1\nnone.jpg 2\n")
    error = data_error(folder, "{path: images, list: bad.txt}")
    assert error.code is ErrorCode.DATA_NOT_FOUND
    assert error.what.startswith(f"{folder / 'bad.txt'}:2: ")
    (folder / "bad.txt").write_text("b.jpg\n")
    error = data_error(folder, "{path: images, list: bad.txt}", "evaluate")
    assert error.what.startswith(f"{folder / 'bad.txt'}:1: ")


def test_a_list_without_a_path_is_relative_to_itself(folder: Path) -> None:
    (folder / "images" / "own.txt").write_text("b.jpg\t5\n")
    job = prepared(HEAD + "model: {path: mobilenet.onnx}\nevaluate: {data: {list: images/own.txt}}\n", folder)
    assert job.spec.models[0].evaluate
    (sample,) = manifest_of(job, job.spec.models[0].evaluate.data).samples
    assert (sample.name, sample.label) == ("b.jpg", 5)


def test_a_job_files_paths_are_relative_to_it_and_hashing_tells_how_far_it_is(folder: Path) -> None:
    path = folder / "job.yaml"
    path.write_text(FULL)
    told: list[tuple[int, int]] = []
    load_job(path, lambda done, total: told.append((done, total)))
    assert told == [(i, 7) for i in range(1, 8)]
