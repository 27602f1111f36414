"""A job file says how INT8 comes about: what it says becomes the job's, and every mistake is told with its place."""

from pathlib import Path

import pytest

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import PreparedJob, prepare
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import FileRef, GivenModel, ModelSpec, TrainingSpec
from quantfleet_wire.content import digest_bytes

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {path: paddle}\n"
DATA = "calibration: {data: {path: images, preprocess: inference_cls.yaml}}\n"
JUDGED = "evaluate: {data: {path: images, list: val.txt}}\n"
ACT = """\
Global: {qat_batch_size: 2}
QuantAware: {use_pact: true}
TrainConfig: {train_iter: 50, eval_iter: 20, logging_iter: 5}
"""
QUANTIZED = b"\x1a\x11dequantize_linear"


@pytest.fixture
def made(folder: Path) -> Path:
    """The folder, with a quantized model, the files of trainings, and a list with masks."""
    (folder / "act.yaml").write_text(ACT)
    (folder / "net.yml").write_text("classes: 4\n")
    (folder / "fp32.pdparams").write_bytes(b"weights")
    (folder / "before").write_bytes(b"checkpoint")
    slim = folder / "slim"
    slim.mkdir()
    (slim / "inference.pdmodel").write_bytes(QUANTIZED)
    (slim / "inference.pdiparams").write_bytes(b"codes")
    (folder / "images" / "mask.png").write_bytes(b"mask")
    (folder / "masks.txt").write_text("b.jpg mask.png\na.PNG mask.png\n")
    return folder


def prepared(text: str, folder: Path) -> PreparedJob:
    return prepare(read_text(text, "job.yaml", folder))


def model_of(quantization: str, folder: Path, more: str = DATA + JUDGED) -> ModelSpec:
    (model,) = prepared(f"{HEAD}{more}quantization: {quantization}\n", folder).spec.models
    return model


def refused(quantization: str, folder: Path, more: str = DATA + JUDGED) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        model_of(quantization, folder, more)
    return caught.value


QAT = "method: qat, package: recipes, model_path: fp32.pdparams, iters: 30, data: {path: images, list: val.txt}"


def test_without_a_word_about_it_a_model_is_quantized_statically(made: Path) -> None:
    (model,) = prepared(HEAD + DATA, made).spec.models
    assert (model.quantizations, model.trainings, model.given, model.quantized) == (("static",), (), None, False)


def test_quantizations_keep_the_order_of_the_job(made: Path) -> None:
    model = model_of(f"[dynamic, {{method: static}}, {{method: given, path: slim}}, {{{QAT}, batch_size: 3}}]", made)
    assert model.quantizations == ("dynamic", "static", "given", "qat")


def test_a_models_own_list_stands_instead_of_the_jobs(made: Path) -> None:
    text = HEAD.replace("paddle}", "paddle, quantization: [dynamic]}") + DATA + "quantization: [static]\n"
    assert prepared(text, made).spec.models[0].quantizations == ("dynamic",)


def test_a_given_model_travels_with_the_job(made: Path) -> None:
    job = prepared(f"{HEAD}quantization: [{{method: given, path: slim, format: paddle}}]\n", made)
    codes = FileRef("inference.pdiparams", digest_bytes(b"codes"), 5)
    program = FileRef("inference.pdmodel", digest_bytes(QUANTIZED), len(QUANTIZED))
    assert job.spec.models[0].given == GivenModel("paddle", (program, codes))
    assert job.files[codes.digest] == made / "slim" / "inference.pdiparams"


def test_every_key_of_a_qat_becomes_the_trainings(made: Path) -> None:
    keys = (
        "config: net.yml, batch_size: 3, learning_rate: 0.01, save_interval: 20, do_eval: true, num_workers: 2, "
        "log_iters: 7, resume_model: before, with_softmax: true, without_argmax: true"
    )
    (training,) = model_of(f"[{{{QAT}, {keys}}}]", made).trainings
    assert training == TrainingSpec(
        method="qat",
        package="recipes",
        config=FileRef("net.yml", digest_bytes(b"classes: 4\n"), 11),
        weights=FileRef("fp32.pdparams", digest_bytes(b"weights"), 7),
        resume=FileRef("before", digest_bytes(b"checkpoint"), 10),
        data=training.data,
        iterations=30,
        batch_size=3,
        learning_rate=0.01,
        save_interval=20,
        validate=True,
        workers=2,
        log_interval=7,
        with_softmax=True,
        without_argmax=True,
    )
    assert training.intervals == 2


def test_a_qat_leaves_to_the_recipe_what_the_job_does_not_say(made: Path) -> None:
    (training,) = model_of(f"[{{{QAT}}}]", made).trainings
    assert (training.config, training.resume, training.batch_size, training.learning_rate) == (None, None, None, None)
    assert (training.save_interval, training.log_interval, training.workers) == (1000, 10, 0)
    assert not training.validate


def test_a_distillation_takes_its_length_from_its_file_and_its_samples_from_the_calibration(made: Path) -> None:
    model = model_of("[{method: distill, config: act.yaml}]", made)
    (training,) = model.trainings
    assert (training.iterations, training.batch_size, training.save_interval, training.log_interval) == (50, 2, 20, 5)
    assert (training.package, training.weights, training.intervals) == ("", None, 3)
    assert training.data.samples == 5


@pytest.mark.parametrize(
    ("act", "keys", "iterations", "batch_size"),
    [
        (ACT, "batch_size: 1", 50, 1),
        (ACT.replace("Global: {qat_batch_size: 2}\n", ""), "", 50, 4),
        ("QuantAware: {}\nTrainConfig: {epochs: 3}\n", "batch_size: 2", 6, 2),
        ("QuantAware: {}\n", "", 100, 4),
    ],
)
def test_a_jobs_batch_size_comes_before_the_files_and_epochs_count_whole_batches(
    made: Path, act: str, keys: str, iterations: int, batch_size: int
) -> None:
    (made / "act.yaml").write_text(act)
    (training,) = model_of(f"[{{method: distill, config: act.yaml, {keys}}}]", made).trainings
    assert (training.iterations, training.batch_size) == (iterations, batch_size)


def test_the_samples_of_a_training_keep_their_labels_and_their_masks(made: Path) -> None:
    job = prepared(f"{HEAD}{DATA}quantization: [{{{QAT}, batch_size: 2}}]\n", made)
    assert [sample.label for sample in _samples(job)] == [3, 0, 12]
    masks = QAT.replace("val.txt", "masks.txt")
    job = prepared(f"{HEAD}{DATA}quantization: [{{{masks}, batch_size: 2}}]\n", made)
    assert [sample.mask and sample.mask.name for sample in _samples(job)] == ["mask.png", "mask.png"]
    assert job.files[digest_bytes(b"mask")] == made / "images" / "mask.png"


def test_a_list_of_masks_may_stand_between_tabs_and_empty_lines(made: Path) -> None:
    (made / "masks.txt").write_text("\nb.jpg\tmask.png\n\na.PNG\tmask.png\n")
    job = prepared(f"{HEAD}{DATA}quantization: [{{{QAT.replace('val.txt', 'masks.txt')}}}]\n", made)
    assert [(sample.name, sample.mask and sample.mask.name) for sample in _samples(job)] == [
        ("b.jpg", "mask.png"),
        ("a.PNG", "mask.png"),
    ]


def test_a_line_without_a_mask_among_others_is_told_with_its_number(made: Path) -> None:
    (made / "masks.txt").write_text("b.jpg mask.png\na.PNG\n")
    error = refused(f"[{{{QAT.replace('val.txt', 'masks.txt')}}}]", made)
    assert "masks.txt:2: 'a.PNG' has no mask" in error.what
    assert error.code is ErrorCode.JOB_INVALID


def test_a_distillation_leaves_the_masks_where_they_are(made: Path) -> None:
    data = "data: {path: images, list: masks.txt}"
    job = prepared(f"{HEAD}{DATA}quantization: [{{method: distill, config: act.yaml, {data}}}]\n", made)
    assert [sample.mask for sample in _samples(job)] == [None, None]


def test_pictures_to_learn_from_need_no_preprocessing_where_a_recipe_decodes_them(made: Path) -> None:
    assert model_of(f"[{{{QAT}}}]", made, "").preprocess is None


def _samples(job: PreparedJob) -> tuple[Sample, ...]:
    content = job.files[job.spec.models[0].trainings[0].data.manifest.digest]
    assert isinstance(content, bytes)
    return Manifest.from_json(content).samples


def test_everything_that_a_quantization_names_is_hashed_and_counted_once(made: Path) -> None:
    distill = "{method: distill, config: act.yaml, resume_model: before, data: {path: images, limit: 2}}"
    qat = f"{{{QAT}, config: net.yml, batch_size: 2}}"
    text = f"{HEAD}{JUDGED}quantization: [{distill}, {qat}, {{method: given, path: slim}}]\n"
    counted: list[tuple[int, int]] = []
    (made / "paddle" / "inference_cls.yaml").write_text("PreProcess: {}\n")
    job = prepare(read_text(text, "job.yaml", made), lambda done, total: counted.append((done, total)))
    assert job.spec.inputs() <= job.files.keys()
    for name in ("act.yaml", "before", "net.yml", "fp32.pdparams", "slim/inference.pdmodel", "images/a.PNG"):
        assert digest_bytes((made / name).read_bytes()) in job.files
    assert counted[-1][0] == counted[-1][1] == len(counted)


def test_the_samples_of_a_distillation_alone_need_the_models_preprocessing(made: Path) -> None:
    distill = "[{method: distill, config: act.yaml, data: {path: images}}]"
    assert refused(distill, made, "").code is ErrorCode.PREPROCESS_INVALID
    (made / "paddle" / "inference_cls.yaml").write_text("PreProcess: {}\n")
    assert model_of(distill, made, "").preprocess is not None


@pytest.mark.parametrize(
    ("quantization", "place", "words"),
    [
        ("static", "15", "quantization is 'static'"),
        ("[statik]", "16", "no quantization 'statik'"),
        ("[{method: qta}]", "25", "no quantization 'qta'"),
        ("[{path: slim}]", "16", "has no method"),
        ("[static, static]", "24", "'static' stands in this list a second time"),
        ("[static, {method: static}]", "24", "'static' stands in this list a second time"),
        ("[{method: static, path: slim}]", "33", "has no key 'path'"),
        ("[qat]", "16", "qat needs more than its name"),
        ("[distill]", "16", "distill needs more than its name"),
        ("[given]", "16", "the given quantized model has no path"),
        ("[{method: distill}]", "16", "distill has no config"),
        ("[{method: qat, package: recipes}]", "16", "qat has no model_path"),
        ("[{method: distill, config: act.yml}]", "42", "there is no file"),
        ("[{method: distill, config: act.yaml, do_evla: true}]", "52", "has no key 'do_evla'"),
        ("[{method: distill, config: act.yaml, do_eval: maybe}]", "61", "do_eval is 'maybe'"),
        ("[{method: distill, config: act.yaml, batch_size: 0}]", "64", "batch_size is '0'"),
        ("[{method: distill, config: act.yaml, resume_model: none}]", "66", "there is no file"),
        ("[{method: distill, config: act.yaml, num_workers: -1}]", "65", "num_workers is '-1'"),
        ("[{method: distill, config: act.yaml, data: {preprocess: a}}]", "59", "has no key 'preprocess'"),
        ("[{method: distill, config: act.yaml, data: {path: nowhere}}]", "65", "there is no directory"),
        ("[{method: given, path: nowhere}]", "38", "there is no model"),
        ("[{method: given, path: paddle}]", "38", "has no quantized operator"),
        ("[{method: given, path: slim, format: tflite}]", "52", "no format 'tflite'"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_column(made: Path, quantization: str, place: str, words: str) -> None:
    error = refused(quantization, made)
    assert words in error.what
    assert error.what.startswith(f"job.yaml:7:{place}: ")
    assert error.todo


@pytest.mark.parametrize("key", ["package", "model_path", "iters", "data"])
def test_a_qat_that_lacks_a_key_is_told_which(made: Path, key: str) -> None:
    parts = [part for part in QAT.replace(", list", "; list").split(", ") if not part.startswith(key)]
    error = refused(f"[{{{', '.join(parts).replace('; list', ', list')}}}]", made)
    assert f"qat has no {key}" in error.what
    assert key in error.todo


def test_a_distillation_without_any_samples_is_told_where_they_may_come_from(made: Path) -> None:
    error = refused("[{method: distill, config: act.yaml}]", made, "")
    assert error.what.startswith("job.yaml:5:16: quantization distill has no data")
    assert "calibration" in error.todo


@pytest.mark.parametrize(
    ("quantization", "place"),
    [
        ("[{method: distill, config: act.yaml, batch_size: 6}]", "7:64"),
        ("[{method: distill, config: big.yaml}]", "7:16"),
        ("[{method: distill, config: act.yaml, data: {path: images, limit: 1}}]", "7:58"),
        (f"[{{{QAT}, batch_size: 4}}]", "7:135"),
    ],
)
def test_less_than_a_batch_of_samples_is_an_error_at_what_is_to_be_changed(
    made: Path, quantization: str, place: str
) -> None:
    (made / "big.yaml").write_text(ACT.replace("size: 2", "size: 600"))
    error = refused(quantization, made)
    assert error.code is ErrorCode.DATA_EMPTY
    assert "less than one batch" in error.what
    assert error.what.startswith(f"job.yaml:{place}: ")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("QuantAware: [", "it is not YAML"),
        ("Prune: {}\nQuantAware: {}\n", "Prune: unknown section"),
        ("QuantAware: {use_pakt: true}\n", "QuantAware.use_pakt"),
        ("TrainConfig: {epochs: 1}\n", "QuantAware"),
        ("QuantAware: {weight_bits: 4}\n", "QuantAware.weight_bits"),
        ("QuantAware: {}\nTrainConfig: {optimizer_builder: {optimizer: {type: Lion}}}\n", "optimizer.type"),
    ],
)
def test_a_config_that_is_no_auto_compression_is_told_with_its_file_and_its_key(
    made: Path, act: str, words: str
) -> None:
    (made / "act.yaml").write_text(act)
    error = refused("[{method: distill, config: act.yaml}]", made)
    assert error.code is ErrorCode.JOB_INVALID
    assert error.what.startswith(f"job.yaml:7:42: {made / 'act.yaml'}: ")
    assert words in error.what


def test_a_config_that_is_not_utf_8_is_told_its_byte(made: Path) -> None:
    (made / "act.yaml").write_bytes(b"QuantAware: {}\n\xff")
    assert "byte 15 is not UTF-8" in refused("[{method: distill, config: act.yaml}]", made).what
