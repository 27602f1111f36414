"""Segmenters, detectors and text models go through the same tasks as classifiers: real engines, tiny models."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.worker.models_of_each_kind import DEPLOY, SCALED, SIDE, YOLO, segmenter, sentiment, told_its_scale, yolo
from tests.worker.preprocessing.test_texts_and_tensors import tokenizer
from tests.worker.tasks.test_tasks import Bench

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.partial import Partial, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.measured import (
    BoxOutcome,
    ClassOutcome,
    Outcome,
    PixelOutcome,
)
from quantfleet_domain.jobs.spec import FileRef, InputShape, OutputKind
from quantfleet_domain.jobs.task_results import InspectResult
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    EvaluateWork,
    InspectWork,
    ModelForm,
    QuantizeWork,
    Slice,
    Variant,
)
from quantfleet_worker.tasks.affinity import pin_all_threads

SIZE = (16, 32)
"""Height and width of a detector's pictures: in a letterbox of 32, 8 rows are above them."""


@pytest.fixture(scope="module", autouse=True)
def affinity() -> Iterator[None]:
    """A benchmark pins its process, which is this one here: what runs later gets all cores back."""
    cores = os.sched_getaffinity(0)
    yield
    pin_all_threads(cores)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def forms(
    bench: Bench, model: bytes, preprocess: FileRef, samples: FileRef, count: int
) -> tuple[InspectResult, list[Variant]]:
    """Inspect, calibrate and quantize; the model's FP32 and INT8 variants."""
    ref = bench.put("net.onnx", model)
    inspected = bench.do(InspectWork("net", "onnx", (ref,), (), preprocess))
    data = Slice(samples, 0, count)
    made = bench.do(CalibrateWork("net", inspected.reference, inspected.graph, data, preprocess, inspected.numerics))
    partials = [Partial.decode((bench.cache / ref.digest).read_bytes()) for ref in made.partials]
    graph = CalibrationGraph.from_json((bench.cache / inspected.graph.digest).read_bytes())
    table = ScaleTable.build(
        merge_partials(partials),
        graph,
        calibrator_named("absmax"),
        manifest=samples.digest,
        preprocessing=inspected.numerics.preprocessing,
    )
    scales = bench.put("scales.json", table.to_json())
    work = QuantizeWork("net", "onnx", "static", "onnx", (ref,), inspected.reference, scales, preprocess)
    int8 = Variant("int8", "static", bench.do(work).forms)
    return inspected, [Variant("fp32", "none", (ModelForm("", (ref,)),)), int8]


def evaluated(bench: Bench, work: EvaluateWork) -> Outcome:
    outcome: Outcome = bench.do(work).outcome
    return outcome


def measured_end_to_end(bench: Bench, work: EvaluateWork) -> None:
    timed = BenchmarkWork(
        model="net",
        engine=work.engine,
        variants=(work.variant,),
        modes=("end2end",),
        threads=(1,),
        batch_sizes=(1,),
        warmup=1,
        repeat=2,
        require_quiet=False,
        input_shapes=work.input_shapes,
        data=work.data,
        preprocess=work.preprocess,
    )
    for kind in (work.kind, None) if work.kind is not OutputKind.CLASSES else (work.kind,):
        assert [row.mode for row in bench.do(replace(timed, kind=kind)).rows] == ["end2end"]


COLOURS = np.random.default_rng(3).integers(0, 3, (4, 2, 4))
"""The classes of four pictures, of 2 by 4 cells each."""


def test_outputs_that_are_no_boxes_cost_the_end_to_end_latency_alone(bench: Bench) -> None:
    model, preprocess = bench.put("net.onnx", segmenter()), bench.put("infer_cfg.yml", YOLO.replace("32", "8").encode())
    work = BenchmarkWork(
        model="net",
        engine="onnxruntime-cpu",
        variants=(Variant("fp32", "none", (ModelForm("", (model,)),)),),
        modes=("end2end", "runtime"),
        threads=(1,),
        batch_sizes=(1,),
        warmup=1,
        repeat=2,
        require_quiet=False,
        input_shapes=(InputShape("x", (1, 3, SIDE, SIDE)),),
        data=Slice(detection_data(bench), 0, 1),
        preprocess=preprocess,
        kind=OutputKind.BOXES,
    )
    result = bench.do(work)
    assert [row.mode for row in result.rows] == ["runtime"]
    assert [gap.mode for gap in result.absent] == ["end2end"]
    with pytest.raises(QuantfleetError) as caught:
        bench.do(replace(work, modes=("end2end",)))
    assert caught.value.what == result.absent[0].reason


def segmentation_data(bench: Bench, mask_size: int = 16) -> FileRef:
    rows = []
    for index, classes in enumerate(COLOURS):
        cells = np.kron(classes, np.ones((8, 4), int))
        rgb = (np.eye(3, dtype=np.uint8) * 255)[cells]
        mask = cells.astype(np.uint8)[:, :mask_size].copy()
        mask[0, 0] = 255
        picture, truth = bench.put(f"{index}.png", png(rgb[:, :, ::-1])), bench.put(f"m{index}.png", png(mask))
        rows.append(Sample(picture.name, picture.digest, picture.size, mask=truth))
    return bench.put("manifest.json", Manifest(tuple(rows)).to_json())


def test_a_segmenter_is_calibrated_on_pictures_and_judged_by_masks(bench: Bench) -> None:
    manifest, deploy = segmentation_data(bench), bench.put("deploy.yaml", DEPLOY.encode())
    inspected, variants = forms(bench, segmenter(), deploy, manifest, 4)
    for variant in variants:
        work = EvaluateWork(
            "net", "onnxruntime-cpu", variant, inspected.input_shapes, Slice(manifest, 1, 2), deploy, OutputKind.PIXELS
        )
        outcome = evaluated(bench, work)
        assert isinstance(outcome, PixelOutcome)
        assert (outcome.samples, outcome.classes) == (2, 3)
        matrix = np.array(outcome.counts).reshape(3, 3)
        truth = np.kron(COLOURS[1:3], np.ones((8, 4), int))
        truth[:, 0, 0] = 3
        assert matrix.tolist() == np.diag([np.sum(truth == c) for c in range(3)]).tolist()
    measured_end_to_end(bench, work)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (png(np.zeros((4, 16), np.uint8)), "it is 16x4 pixels, and sample 0.png is 16x16"),
        (png(np.full((16, 16), 3, np.uint8)), "class 3 is in it, and the model has 3 classes"),
        (png(np.zeros((16, 16, 3), np.uint8)), "its pixels are RGB"),
        (b"nothing", "it is no picture"),
        (None, "sample 0.png has no mask"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(bench: Bench, mask: bytes | None, said: str) -> None:
    model, deploy = bench.put("net.onnx", segmenter()), bench.put("deploy.yaml", DEPLOY.encode())
    picture = bench.put("0.png", png(np.zeros((16, 16, 3), np.uint8)))
    truth = bench.put("m.png", mask) if mask is not None else None
    row = Sample(picture.name, picture.digest, picture.size, mask=truth)
    manifest = bench.put("manifest.json", Manifest((row,)).to_json())
    variant, shapes = Variant("fp32", "none", (ModelForm("", (model,)),)), (InputShape("x", (1, 3, SIDE, SIDE)),)
    work = EvaluateWork("net", "onnxruntime-cpu", variant, shapes, Slice(manifest, 0, 1), deploy, OutputKind.PIXELS)
    with pytest.raises(QuantfleetError) as caught:
        bench.do(work)
    assert said in caught.value.what
    assert caught.value.code in (ErrorCode.SAMPLE_UNREADABLE, ErrorCode.DATA_NOT_FOUND)


def detection_data(bench: Bench) -> FileRef:
    rows = []
    for index in range(2):
        picture = bench.put(f"{index}.png", png(np.full((*SIZE, 3), index * 40, np.uint8)))
        rows.append(Sample(picture.name, picture.digest, picture.size))
    return bench.put("manifest.json", Manifest(tuple(rows)).to_json())


def annotations(*boxes: tuple[int, list[float]]) -> bytes:
    document = {
        "images": [{"id": index + 7, "file_name": f"{index}.png"} for index in range(3)],
        "annotations": [
            {"id": 0, "image_id": image + 7, "category_id": category, "bbox": box}
            for image in range(2)
            for category, box in boxes
        ],
        "categories": [{"id": 30, "name": "cat"}, {"id": 20, "name": "dog"}],
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("truth", "precision", "at_half"),
    [
        ([(20, [8.0, 4.0, 16.0, 8.0])], 100, 100),
        ([(20, [8.0, 4.0, 16.0, 12.8])], 30, 100),  # an overlap of 0.625 counts at 0.50, 0.55 and 0.60
        ([(20, [8.0, 4.0, 16.0, 8.0]), (30, [0.0, 0.0, 4.0, 4.0])], 50, 50),
        ([(30, [8.0, 4.0, 16.0, 8.0])], 0, 0),
    ],
)
@pytest.mark.parametrize(("model", "file"), [(yolo(), YOLO), (told_its_scale(), SCALED)], ids=["yolo", "paddle"])
def test_a_detector_is_judged_by_coco_annotations(
    bench: Bench, model: bytes, file: str, truth: list[Any], precision: float, at_half: float
) -> None:
    manifest, preprocess = detection_data(bench), bench.put("infer_cfg.yml", file.encode())
    ref = bench.put("net.onnx", model)
    inspected = bench.do(InspectWork("net", "onnx", (ref,), (), preprocess))
    work = EvaluateWork(
        model="net",
        engine="onnxruntime-cpu",
        variant=Variant("fp32", "none", (ModelForm("", (ref,)),)),
        input_shapes=inspected.input_shapes,
        data=Slice(manifest, 0, 2),
        preprocess=preprocess,
        kind=OutputKind.BOXES,
        annotations=bench.put("boxes.json", annotations(*truth)),
    )
    outcome = evaluated(bench, work)
    assert isinstance(outcome, BoxOutcome)
    assert outcome.samples == 2
    assert (outcome.map, outcome.map50) == (pytest.approx(precision), pytest.approx(at_half))
    measured_end_to_end(bench, work)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (annotations(), "no box in any of the pictures"),
        (annotations((20, [8.0, 4.0, 16.0, 8.0])).replace(b"1.png", b"9.png"), "it does not name picture 1.png"),
        (b'{"images": [], "annotations": [], "categories": []}', "it does not name picture"),
        (annotations((30, [0.0, 0.0, 4.0, 4.0])).replace(b', {"id": 20, "name": "dog"}', b""), "has 1 categories"),
        (b"[]", "it cannot be read"),
        (None, "the data set has no annotations"),
    ],
)
def test_annotations_that_do_not_fit_are_told(bench: Bench, content: bytes | None, said: str) -> None:
    ref, preprocess = bench.put("net.onnx", yolo()), bench.put("infer_cfg.yml", YOLO.encode())
    work = EvaluateWork(
        model="net",
        engine="onnxruntime-cpu",
        variant=Variant("fp32", "none", (ModelForm("", (ref,)),)),
        input_shapes=(InputShape("x", (1, 3, 32, 32)),),
        data=Slice(detection_data(bench), 0, 2),
        preprocess=preprocess,
        kind=OutputKind.BOXES,
        annotations=bench.put("boxes.json", content) if content is not None else None,
    )
    with pytest.raises(QuantfleetError) as caught:
        bench.do(work)
    assert said in caught.value.what
    assert caught.value.code is ErrorCode.DATA_NOT_FOUND


def test_a_model_with_several_inputs_is_calibrated_on_what_its_picture_gives_each(bench: Bench) -> None:
    manifest, preprocess = detection_data(bench), bench.put("infer_cfg.yml", SCALED.encode())
    ref = bench.put("net.onnx", told_its_scale())
    inspected = bench.do(InspectWork("net", "onnx", (ref,), (), preprocess))
    data = Slice(manifest, 0, 2)
    work = CalibrateWork("net", inspected.reference, inspected.graph, data, preprocess, inspected.numerics)
    partials = [Partial.decode((bench.cache / ref.digest).read_bytes()) for ref in bench.do(work).partials]
    assert merge_partials(partials).tensors["image"].maximum == np.float32(40 * np.float32(1 / 255))


def test_a_text_model_is_calibrated_on_texts_and_judged_by_labels(bench: Bench) -> None:
    rows = []
    for index, (text, label) in enumerate([("good day", 1), ("bad bad good day", 0), ("good good bad", 1), ("bad", 1)]):
        ref = bench.put(f"{index}.txt", text.encode())
        rows.append(Sample(ref.name, ref.digest, ref.size, label))
    manifest = bench.put("manifest.json", Manifest(tuple(rows)).to_json())
    file = bench.put("tokenizer.json", tokenizer().to_str().encode())
    inspected, variants = forms(bench, sentiment(), file, manifest, 4)
    assert "tokenizers-" in inspected.numerics.preprocessing
    for variant in variants:
        work = EvaluateWork("net", "onnxruntime-cpu", variant, inspected.input_shapes, Slice(manifest, 0, 4), file)
        outcome = evaluated(bench, work)
        assert isinstance(outcome, ClassOutcome)
        assert (outcome.labels, outcome.predicted) == ((1, 0, 1, 1), (1, 0, 1, 0))
    measured_end_to_end(bench, work)


def test_stored_arrays_feed_a_model_beside_its_configuration(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, input_ids=np.array([1, 4, 2, 0, 0, 0]), attention_mask=np.ones((1, 6), np.int64))
    stored = bench.put("a.npz", path.read_bytes())
    manifest = bench.put("m.json", Manifest((Sample(stored.name, stored.digest, stored.size, 1),)).to_json())
    model, file = bench.put("net.onnx", sentiment()), bench.put("tokenizer.json", tokenizer().to_str().encode())
    shapes = tuple(InputShape(name, (1, 6)) for name in ("input_ids", "attention_mask"))
    variant = Variant("fp32", "none", (ModelForm("", (model,)),))
    for preprocess in (None, file):
        outcome = evaluated(
            bench, EvaluateWork("net", "onnxruntime-cpu", variant, shapes, Slice(manifest, 0, 1), preprocess)
        )
        assert isinstance(outcome, ClassOutcome)
        assert outcome.predicted == (1,)
