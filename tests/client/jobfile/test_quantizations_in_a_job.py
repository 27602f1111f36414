"""What a job file says of how INT8 comes about is read with its files, and a mistake is told where it stands."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import prepare
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import ModelSpec

ACT = """
Distillation: {alpha: 1.0, loss: l2}
QuantAware: {use_pact: false}
TrainConfig: {train_iter: 5, eval_iter: 2, learning_rate: 0.001, optimizer_builder: {optimizer: {type: Adam}}}
"""
CALIBRATION = "calibration: {data: {path: images}}\n"
DISTILL = "method: distill, config: act.yaml, batch_size: 2"
QAT = "method: qat, package: recipes, config: net.yml, model_path: fp32.pdparams, data: {path: images}, iters: 250"


@pytest.fixture
def trainable(folder: Path) -> Path:
    (folder / "act.yaml").write_text(ACT)
    (folder / "bad_act.yaml").write_text(ACT.replace("use_pact", "use_pat"))
    (folder / "paddle" / "inference_cls.yaml").write_text("PreProcess: {}\n")
    (folder / "net.yml").write_text("width: 8\n")
    (folder / "fp32.pdparams").write_bytes(b"weights")
    node = helper.make_node("DequantizeLinear", ["codes", "scale"], ["x"])
    (folder / "int8.onnx").write_bytes(helper.make_model(helper.make_graph([node], "net", [], [])).SerializeToString())
    assert onnx.load(folder / "int8.onnx").graph.node[0].op_type == "DequantizeLinear"
    return folder


def model(folder: Path, rest: str, path: str = "paddle") -> ModelSpec:
    head = f"apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {{path: {path}}}\n"
    return prepare(read_text(head + rest, "job.yaml", folder)).spec.models[0]


def test_names_and_mappings_stand_in_one_list(trainable: Path) -> None:
    wanted = (
        f"quantization: [static, {{method: dynamic}}, {{method: given, path: int8.onnx}}, {{{QAT}}}, {{{DISTILL}}}]\n"
    )
    found = model(trainable, CALIBRATION + wanted)
    assert found.quantizations == ("static", "dynamic", "given", "qat", "distill")
    assert found.given is not None
    assert (found.given.format, [ref.name for ref in found.given.files]) == ("onnx", ["int8.onnx"])
    assert found.targets[0].precisions == ("fp32", "int8")


def test_a_qat_leaves_to_the_recipe_what_the_job_does_not_say(trainable: Path) -> None:
    (found,) = model(trainable, f"quantization: [{{{QAT}, save_interval: 100}}]\n").trainings
    assert (found.iterations, found.intervals, found.batch_size, found.learning_rate) == (250, 3, None, None)
    assert found.package == "recipes"
    assert [ref.name for ref in (found.config, found.weights) if ref] == ["net.yml", "fp32.pdparams"]
    (found,) = model(trainable, f"quantization: [{{{QAT}, batch_size: 3, learning_rate: 0.01}}]\n").trainings
    assert (found.batch_size, found.learning_rate) == (3, 0.01)


def test_a_distillation_learns_from_the_calibration_samples_for_as_long_as_its_file_says(trainable: Path) -> None:
    (found,) = model(trainable, f"{CALIBRATION}quantization: [{{{DISTILL}}}]\n").trainings
    assert (found.iterations, found.save_interval, found.intervals, found.batch_size) == (5, 2, 3, 2)
    assert found.data.samples == 4


def test_pictures_to_distil_with_need_the_models_configuration_and_a_recipe_does_not(trainable: Path) -> None:
    distill = f"quantization: [{{{DISTILL}, data: {{path: images}}}}]\n"
    assert model(trainable, distill).preprocess is not None
    (trainable / "paddle" / "inference_cls.yaml").unlink()
    with pytest.raises(QuantfleetError, match=r"job\.yaml:4.*nothing says how it becomes") as caught:
        model(trainable, distill)
    assert caught.value.code is ErrorCode.PREPROCESS_INVALID
    assert model(trainable, f"quantization: [{{{QAT}}}]\n").preprocess is None


def test_a_model_that_is_quantized_is_measured_as_it_is(trainable: Path) -> None:
    found = model(trainable, "", "int8.onnx")
    assert (found.quantized, found.quantizations, found.given) == (True, ("given",), None)
    assert found.targets[0].precisions == ("int8",)


def test_pictures_for_a_quantized_model_need_its_configuration_beside_it(trainable: Path) -> None:
    (trainable / "bare").mkdir()
    (trainable / "int8.onnx").rename(trainable / "bare" / "int8.onnx")
    evaluate = "evaluate: {data: {path: images, list: val.txt}, metrics: [top1]}\n"
    with pytest.raises(QuantfleetError, match=r"job\.yaml:4:8.*nothing says how it becomes") as caught:
        model(trainable, evaluate, "bare/int8.onnx")
    assert caught.value.code is ErrorCode.PREPROCESS_INVALID
    assert "inference_cls.yaml" in caught.value.todo
    (trainable / "inference_cls.yaml").rename(trainable / "bare" / "inference_cls.yaml")
    assert model(trainable, evaluate, "bare/int8.onnx").preprocess is not None


@pytest.mark.parametrize(
    ("rest", "code", "words"),
    [
        ("quantization: dynamic\n", ErrorCode.JOB_INVALID, "job.yaml:5:15: quantization is 'dynamic'"),
        ("quantization: [dynamc]\n", ErrorCode.JOB_INVALID, "job.yaml:5:16: there is no quantization 'dynamc'"),
        ("quantization: [dynamic, dynamic]\n", ErrorCode.JOB_INVALID, "job.yaml:5:25: 'dynamic' stands in this list"),
        ("quantization: [{method: dynamic, bits: 4}]\n", ErrorCode.JOB_INVALID, "has no key 'bits'"),
        ("quantization: [{bits: 4}]\n", ErrorCode.JOB_INVALID, "has no method"),
        ("quantization: [given]\n", ErrorCode.JOB_INVALID, "has no path"),
        ("quantization: [{method: given, paht: x}]\n", ErrorCode.JOB_INVALID, "has no key 'paht'"),
        ("quantization: [{method: given, path: x.onnx}]\n", ErrorCode.MODEL_NOT_FOUND, "there is no model"),
        ("quantization: [{method: given, path: paddle}]\n", ErrorCode.MODEL_UNSUPPORTED, "has no quantized operator"),
        ("quantization: [distill]\n", ErrorCode.JOB_INVALID, "distill needs more than its name"),
        ("quantization: [{method: distill}]\n", ErrorCode.JOB_INVALID, "distill has no config"),
        (f"quantization: [{{{DISTILL}}}]\n", ErrorCode.JOB_INVALID, "distill has no data"),
        (f"{CALIBRATION}quantization: [{{{DISTILL}, bits: 4}}]\n", ErrorCode.JOB_INVALID, "job.yaml:6"),
        (
            f"{CALIBRATION}quantization: [{{method: distill, config: bad_act.yaml}}]\n",
            ErrorCode.JOB_INVALID,
            "job.yaml:6:42",
        ),
        (
            f"{CALIBRATION}quantization: [{{method: distill, config: act.yaml, batch_size: 5}}]\n",
            ErrorCode.DATA_EMPTY,
            "job.yaml:6:42: 4 samples are less than one batch of 5",
        ),
        (f"quantization: [{{{QAT}, batch_size: 5}}]\n", ErrorCode.DATA_EMPTY, "4 samples are less than one batch of 5"),
        ("quantization: [{method: qat, package: recipes}]\n", ErrorCode.JOB_INVALID, "qat has no model_path"),
        (f"quantization: [{{{QAT}, resume_model: x}}]\n", ErrorCode.DATA_NOT_FOUND, "there is no file"),
    ],
)
def test_a_mistake_is_told_with_its_place(trainable: Path, rest: str, code: ErrorCode, words: str) -> None:
    with pytest.raises(QuantfleetError) as caught:
        model(trainable, rest)
    assert caught.value.code is code
    assert words in caught.value.what
    assert "job.yaml:" in caught.value.what


def test_a_quantized_model_is_not_calibrated(trainable: Path) -> None:
    with pytest.raises(QuantfleetError, match=r"job\.yaml:4.*quantized already") as caught:
        model(trainable, "calibration: {data: {path: images}}\n", "int8.onnx")
    assert caught.value.code is ErrorCode.JOB_INVALID
