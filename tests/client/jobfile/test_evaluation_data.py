"""What a model is judged by: labels, masks or annotations, found on this disk and carried along by digest."""

import json
from pathlib import Path
from typing import Any

import pytest

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import PreparedJob, prepare
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_wire.content import digest_bytes

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {path: mobilenet.onnx}\n"
COCO: dict[str, Any] = {
    "images": [{"id": 4, "file_name": "more/e.jpeg"}, {"id": 9, "file_name": "b.jpg"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 2, "bbox": [0, 0, 5, 5.5]}],
    "categories": [{"id": 2, "name": "cat"}],
}
BOXES = "evaluate: {data: {path: images, annotations: boxes.json}}\n"


@pytest.fixture
def judged(folder: Path) -> Path:
    (folder / "boxes.json").write_text(json.dumps(COCO))
    for name in ("b_mask.png", "a mask.png"):
        (folder / "images" / name).write_bytes(b"mask " + name.encode())
    (folder / "masks.txt").write_text("b.jpg b_mask.png\na.PNG\tb_mask.png\n")
    return folder


def prepared(text: str, folder: Path) -> PreparedJob:
    return prepare(read_text(HEAD + text, "job.yaml", folder))


def manifest(job: PreparedJob) -> Manifest:
    evaluate = job.spec.models[0].evaluate
    assert evaluate is not None
    content = job.files[evaluate.data.manifest.digest]
    assert isinstance(content, bytes)
    return Manifest.from_json(content)


def refused(text: str, folder: Path) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        prepared(text, folder)
    return caught.value


def test_annotations_name_the_samples_in_their_order_and_travel_with_the_job(judged: Path) -> None:
    job = prepared(BOXES, judged)
    evaluate = job.spec.models[0].evaluate
    assert evaluate is not None
    content = (judged / "boxes.json").read_bytes()
    assert evaluate.data.annotations == FileRef("boxes.json", digest_bytes(content), len(content))
    assert evaluate.metrics == ("map", "map50")
    assert [sample.name for sample in manifest(job).samples] == ["more/e.jpeg", "b.jpg"]
    assert job.files[digest_bytes(content)] == judged / "boxes.json"


def test_limits_cut_annotated_pictures_as_they_cut_others(judged: Path) -> None:
    job = prepared(BOXES.replace("boxes.json", "boxes.json, skip: 1, limit: 5"), judged)
    assert [sample.name for sample in manifest(job).samples] == ["b.jpg"]


def test_each_line_of_a_list_of_masks_is_a_picture_and_its_mask(judged: Path) -> None:
    job = prepared("evaluate: {data: {path: images, list: masks.txt}, metrics: [miou]}\n", judged)
    mask = b"mask b_mask.png"
    for sample, name in zip(manifest(job).samples, ("b.jpg", "a.PNG"), strict=True):
        assert (sample.name, sample.label) == (name, None)
        assert sample.mask == FileRef("b_mask.png", digest_bytes(mask), len(mask))
    assert job.files[digest_bytes(mask)] == judged / "images" / "b_mask.png"


@pytest.mark.parametrize("data", ["annotations: boxes.json}", "list: masks.txt}, metrics: [miou]"])
def test_masks_and_annotations_are_counted_among_the_files_to_hash(judged: Path, data: str) -> None:
    told: list[tuple[int, int]] = []
    text = f"evaluate: {{data: {{path: images, {data}}}\n"
    prepare(read_text(HEAD + text, "job.yaml", judged), lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(told)


def test_lists_and_annotations_name_the_samples_of_a_calibration_too(judged: Path) -> None:
    for source in ("list: masks.txt", "annotations: boxes.json"):
        job = prepared(f"calibration: {{data: {{path: images, {source}}}}}\n", judged)
        calibration = job.spec.models[0].calibration
        assert calibration is not None
        assert calibration.data.annotations is None
        content = job.files[calibration.data.manifest.digest]
        assert isinstance(content, bytes)
        samples = Manifest.from_json(content).samples
        assert {sample.mask for sample in samples} == {None}
        assert "b.jpg" in {sample.name for sample in samples}


def test_texts_are_samples_where_a_directory_holds_nothing_else(judged: Path) -> None:
    texts = judged / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("good day")
    (judged / "tokenizer.json").write_text('{"model": {}}')
    job = prepared("calibration: {data: {path: texts}}\n", judged)
    preprocess = job.spec.models[0].preprocess
    assert preprocess is not None
    assert preprocess.name == "tokenizer.json"
    (judged / "tokenizer.json").unlink()
    error = refused("calibration: {data: {path: texts}}\n", judged)
    assert "a.txt is a text" in error.what
    assert "tokenizer.json" in error.todo


@pytest.mark.parametrize("name", ["infer_cfg.yml", "deploy.yaml"])
def test_the_configuration_of_any_suite_is_found_beside_the_model(judged: Path, name: str) -> None:
    (judged / "inference_cls.yaml").rename(judged / name)
    preprocess = prepared(BOXES, judged).spec.models[0].preprocess
    assert preprocess is not None
    assert preprocess.name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{data: {path: images, list: val.txt}, metrics: [top1, map]}", "job.yaml:5:65: map judges something else"),
        ("{data: {path: images, list: val.txt}, metrics: [map]}", "boxes are judged by annotations"),
        ("{data: {path: images}, metrics: [miou]}", "evaluation needs masks"),
        ("{data: {list: masks.txt, annotations: boxes.json}}", "both annotations and a list"),
        ("{data: {path: images, list: masks.txt}}", "masks.txt:1: 'b.jpg b_mask.png' has no label"),
        ("{data: {path: images, list: bare.txt}, metrics: [miou]}", "bare.txt:2: 'b.jpg' has no mask"),
        ("{data: {path: images, list: lost.txt}, metrics: [miou]}", "lost.txt:1: there is no file"),
        ("{data: {annotations: boxes.json}}", "name more/e.jpeg, and there is no file"),
    ],
)
def test_what_a_model_cannot_be_judged_by_is_told_with_its_place(judged: Path, text: str, said: str) -> None:
    (judged / "bare.txt").write_text("b.jpg b_mask.png\nb.jpg\n")
    (judged / "lost.txt").write_text("b.jpg lost.png\n")
    error = refused(f"evaluate: {text}\n", judged)
    assert said in error.what
    assert error.code in (ErrorCode.JOB_INVALID, ErrorCode.DATA_NOT_FOUND)


@pytest.mark.parametrize(
    ("part", "entry", "said"),
    [
        ("images", {"id": 4, "file_name": "c"}, "images[2].id is 4 a second time"),
        ("images", {"id": 5, "file_name": "b.jpg"}, "b.jpg stands in images twice"),
        ("images", {"id": 5}, "images[2] has no proper file_name"),
        ("images", 7, "images[2] has no proper file_name"),
        ("annotations", {"image_id": 5, "category_id": 2, "bbox": [0, 0, 1, 1]}, "annotations[1] is of image_id 5"),
        ("annotations", {"image_id": 4, "category_id": 3, "bbox": [0, 0, 1, 1]}, "annotations[1] is of category_id 3"),
        ("annotations", {"image_id": 4, "category_id": 2, "bbox": [0, 0, 1]}, "annotations[1].bbox is [0, 0, 1]"),
        ("annotations", {"image_id": 4, "category_id": 2}, "annotations[1] has no proper bbox"),
        ("categories", {"id": "2"}, "categories[1] has no proper id"),
    ],
)
def test_a_wrong_entry_of_an_annotation_file_is_named(judged: Path, part: str, entry: Any, said: str) -> None:
    (judged / "boxes.json").write_text(json.dumps({**COCO, part: [*COCO[part], entry]}))
    error = refused(BOXES, judged)
    assert error.code is ErrorCode.DATA_NOT_FOUND
    assert f"boxes.json: {said}" in error.what


@pytest.mark.parametrize(
    ("content", "said"), [("{", "it is not JSON"), ("[]", "no list images"), ('{"images": []}', "no list annotations")]
)
def test_what_is_no_annotation_file_is_told(judged: Path, content: str, said: str) -> None:
    (judged / "boxes.json").write_text(content)
    assert said in refused(BOXES, judged).what
    (judged / "boxes.json").unlink()
    assert "it cannot be read" in refused(BOXES, judged).what
