"""Every mistake in a job file is told with its line, its column and what to do."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantfleet.jobfile.document import read, read_text
from quantfleet_domain.errors import ErrorCode, QuantfleetError

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\n"
FULL = """\
apiVersion: quantfleet/v1
kind: Job
name: mobilenet-int8
model:
  name: mobilenet
  path: mobilenet.onnx
  format: onnx
  input_shapes: {x: [1, 3, 224, 224]}
calibration:
  data:
    path: images
    preprocess: inference_cls.yaml
    limit: 3
    skip: 1
  calibrator: percentile
  percentile: 99.9
  shards: auto
  bias_correction: false
  exclude_below_db: 12.5
  ties: false
  mixed: true
  reuse: false
targets:
  - pool: xeon-vnni
    engines: [onnxruntime-cpu]
    precisions: [fp32, int8]
    threads: [1, 2]
    batch_sizes: [1]
benchmark:
  modes: [runtime]
  warmup: 10
  repeat: 100
  quiet: true
evaluate:
  data:
    path: images
    list: val.txt
  metrics: [top1]
  shards: 2
gates: ["int8.speedup >= 1.5"]
patience: 90s
"""
# (line from 1, the key there, the section that it belongs to)
PLACES = [
    (number, line.strip().removeprefix("- ").partition(":")[0])
    for number, line in enumerate(FULL.splitlines(), 1)
    if ":" in line
]
ENGINES = "engines: [onnxruntime-cpu]"


def error_of(text: str, folder: Path) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as raised:
        read_text(text, "job.yaml", folder)
    return raised.value


def test_a_full_job_file_is_accepted(folder: Path) -> None:
    assert read_text(FULL, "job.yaml", folder).name == "mobilenet-int8"


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.sampled_from(PLACES), data=st.data())
def test_any_misspelt_key_is_reported_with_its_line_and_column_and_the_nearest_key(
    folder: Path, place: tuple[int, str], data: st.DataObject
) -> None:
    number, key = place
    at = data.draw(st.integers(0, len(key)))
    wrong = key[:at] + data.draw(st.sampled_from("qzx")) + key[at:]
    lines = FULL.splitlines()
    column = lines[number - 1].index(key) + 1
    lines[number - 1] = lines[number - 1].replace(key, wrong, 1)

    error = error_of("\n".join(lines), folder)

    assert error.code is ErrorCode.JOB_INVALID
    assert error.what.startswith(f"job.yaml:{number}:{column}: ")
    assert repr(wrong) in error.what
    assert f"did you mean {key!r}?" in error.todo


@pytest.mark.parametrize(
    ("before", "after", "place", "words"),
    [
        ("limit: 3", "limit: many", "13:12", "calibration.data.limit is 'many'"),
        ("limit: 3", "limit: 0", "13:12", "calibration.data.limit is '0'"),
        ("limit: 3", "limit: true", "13:12", "calibration.data.limit is 'true'"),
        ("limit: 3", "limit: 2.5", "13:12", "calibration.data.limit is '2.5'"),
        ("percentile: 99.9", "percentile: 0", "16:15", "percentile is 0"),
        ("percentile: 99.9", "percentile: .nan", "16:15", "calibration.percentile is '.nan'"),
        ("shards: auto", "shards: some", "17:11", "shards is no count"),
        ("bias_correction: false", "bias_correction: off please", "18:20", "bias_correction is 'off please'"),
        ("exclude_below_db: 12.5", "exclude_below_db: low", "19:21", "exclude_below_db is 'low'"),
        ("exclude_below_db: 12.5", "exclude_below_db: .inf", "19:21", "exclude_below_db is '.inf'"),
        ("exclude_below_db: 12.5", "exclude_below_db: null", "19:21", "exclude_below_db is"),
        ("ties: false", "ties: 1", "20:9", "ties is '1'"),
        ("mixed: true", "mixed: [avx2]", "21:10", "mixed is a list"),
        ("reuse: false", "reuse: 'no'", "22:10", "reuse is 'no'"),
        ("reuse: false", "extremes_only: 1", "22:18", "extremes_only is '1'"),
        ("reuse: false", "extremes_only: true", "22:18", "calibrator percentile needs more than extremes"),
        ("calibrator: percentile", "calibrator: autp", "15:15", "no calibrator 'autp'"),
        ("quiet: true", "quiet: 'yes'", "33:10", "benchmark.quiet is 'yes'"),
        ("engines: [onnxruntime-cpu]", "engines: [onnxruntime]", "25:15", "no engine 'onnxruntime'"),
        ("engines: [onnxruntime-cpu]", "engines: []", "25:14", "targets[0].engines is an empty list"),
        ("engines: [onnxruntime-cpu]", "engines: onnxruntime-cpu", "25:14", "is 'onnxruntime-cpu'"),
        (ENGINES, "engines: [tensorrt, onnxruntime-tensorrt]\n    form: s8s9", "26:11", "there is no form 's8s9'"),
        (ENGINES, "engines: [tensorrt]\n    form: [cache]", "26:11", "form is a list"),
        (ENGINES, "engines: [tensorrt, paddle-tensorrt]\n    form: cache", "26:11", "share no form"),
        (ENGINES, "form: cache", "25:11", "this target names none"),
        ("threads: [1, 2]", "threads: [1, 1]", "27:18", "stands in this list a second time"),
        ("calibrator: percentile", "calibrator: entropie", "15:15", "no calibrator 'entropie'"),
        ("modes: [runtime]", "modes: [end2and]", "30:11", "no mode 'end2and'"),
        ("metrics: [top1]", "metrics: [top2]", "38:13", "no metric 'top2'"),
        ("int8.speedup", "int8.speedop", "40:9", "column 6: there is no 'speedop'"),
        ("patience: 90s", "patience: soon", "41:11", "'soon' is no time"),
        ("kind: Job", "kind: Pod", "2:7", "kind is 'Pod'"),
        ("apiVersion: quantfleet/v1", "apiVersion: quantfleet/v2", "1:13", "apiVersion is 'quantfleet/v2'"),
        ("name: mobilenet\n", "name: mobile/net\n", "5:9", "is no name for a model"),
        ("path: mobilenet.onnx", "path: [1]", "6:9", "model.path is a list"),
        (
            "input_shapes: {x: [1, 3, 224, 224]}",
            "input_shapes: {x: [1, -3]}",
            "8:25",
            "model.input_shapes.x[1] is '-3'",
        ),
        ("kind: Job\n", "kind: Job\nkind: Job\n", "3:1", "'kind' stands here a second time"),
        ("    path: images\n    list: val.txt\n", "    path: images\n", "36:5", "evaluation needs labels"),
        ("kind: Job", "kind: Job: Pod", "2:10", "this is no YAML"),
        ("name: mobilenet-int8", "name: ''", "3:7", "name is ''"),
        ("model:\n", "models: []\nmodel:\n", "4:9", "both model and models"),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_what_is_wanted(
    folder: Path, before: str, after: str, place: str, words: str
) -> None:
    assert before in FULL
    error = error_of(FULL.replace(before, after, 1), folder)
    assert error.what.startswith(f"job.yaml:{place}: ")
    assert words in error.what
    assert error.todo


def test_a_form_that_all_engines_of_a_target_take_becomes_the_targets_and_is_otherwise_the_engines_choice(
    folder: Path,
) -> None:
    named = FULL.replace(ENGINES, "engines: [tensorrt, onnxruntime-tensorrt]\n    form: cache")
    assert [target.form for target in read_text(named, "job.yaml", folder).models[0].targets] == ["cache"]
    assert [target.form for target in read_text(FULL, "job.yaml", folder).models[0].targets] == [""]
    assert "did you mean 's8s8'?" in error_of(named.replace("form: cache", "form: s8s9"), folder).todo


def test_a_misspelt_auto_is_told_the_right_word(folder: Path) -> None:
    error = error_of(FULL.replace("calibrator: percentile", "calibrator: autp", 1), folder)
    assert "auto" in error.todo


@pytest.mark.parametrize("missing", ["apiVersion", "kind", "name", "model"])
def test_a_job_that_lacks_a_key_is_told_which(folder: Path, missing: str) -> None:
    text = "apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {path: mobilenet.onnx}\n"
    kept = "".join(line for line in text.splitlines(True) if not line.startswith(f"{missing}:"))
    error = error_of(kept, folder)
    assert error.what.startswith("job.yaml:1:1: ")
    assert missing in f"{error.what} {error.todo}"


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- a list\n", "just words\n", "\x07", "&a [*a]", "? {a: b}\n: c\n"]
)
def test_what_is_no_job_at_all_is_an_error_with_a_place(folder: Path, text: str) -> None:
    error = error_of(text, folder)
    assert error.code is ErrorCode.JOB_INVALID
    assert error.what.startswith("job.yaml:1:")


@given(text=st.text(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_whatever_brings_the_reader_down(folder: Path, text: str) -> None:
    assert error_of(text, folder).code is ErrorCode.JOB_INVALID


def test_an_unreadable_job_file_is_an_error(tmp_path: Path) -> None:
    for name, content in (("no.yaml", None), ("latin.yaml", b"name: \xe9")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(QuantfleetError, match=name) as raised:
            read(tmp_path / name)
        assert raised.value.code is ErrorCode.JOB_INVALID


def test_two_models_of_one_name_are_told_at_the_model(folder: Path) -> None:
    text = HEAD + "models:\n  - {path: mobilenet.onnx}\n  - {path: paddle, name: mobilenet}\n"
    assert error_of(text, folder).what == "job.yaml:5:5: two models are called 'mobilenet'"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nowhere.onnx", ErrorCode.MODEL_NOT_FOUND),
        ("images", ErrorCode.MODEL_NOT_FOUND),
        ("val.txt", ErrorCode.MODEL_UNREADABLE),
    ],
)
def test_a_model_that_is_not_there_is_told_at_its_path(folder: Path, path: str, code: ErrorCode) -> None:
    text = f"apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {{path: {path}}}\n"
    error = error_of(text, folder)
    assert (error.code, error.what.split(": ")[0]) == (code, "job.yaml:4:15")


def test_a_paddle_program_without_parameters_is_told(folder: Path) -> None:
    (folder / "paddle" / "inference.pdiparams").unlink()
    error = error_of("apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {path: paddle}\n", folder)
    assert error.code is ErrorCode.MODEL_UNREADABLE
    assert "inference.pdiparams" in error.todo


def test_pictures_without_preprocessing_are_told_before_any_work(folder: Path) -> None:
    (folder / "inference_cls.yaml").unlink()
    text = HEAD + "model: {path: mobilenet.onnx}\ncalibration: {data: {path: images}}\n"
    error = error_of(text, folder)
    assert error.code is ErrorCode.PREPROCESS_INVALID
    assert error.what.startswith("job.yaml:4:8: ")


def test_a_model_has_one_preprocessing(folder: Path) -> None:
    (folder / "other.yaml").write_text("PreProcess: {}\n")
    text = FULL.replace("    list: val.txt\n", "    list: val.txt\n    preprocess: other.yaml\n")
    assert error_of(text, folder).what.startswith("job.yaml:38:17: ")
