"""What a training learns from: the samples that a job file names, with their masks or labels where there are some."""

from pathlib import Path

import pytest

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import prepare
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {path: paddle}\n"
ACT = "Distillation: {}\nQuantAware: {}\nTrainConfig: {train_iter: 2}\n"


@pytest.fixture
def taught(folder: Path) -> Path:
    (folder / "net.pdparams").write_bytes(b"weights")
    (folder / "act.yaml").write_text(ACT)
    (folder / "images" / "b_mask.png").write_bytes(b"mask")
    (folder / "masks.txt").write_text("\nb.jpg\tb_mask.png\na.PNG\tb_mask.png\n")
    return folder


def learned(folder: Path, training: str) -> tuple[Sample, ...]:
    job = prepare(read_text(f"{HEAD}quantization: [{{{training}}}]\n", "job.yaml", folder))
    (training_spec,) = job.spec.models[0].trainings
    content = job.files[training_spec.data.manifest.digest]
    assert isinstance(content, bytes)
    return Manifest.from_json(content).samples


def qat(data: str) -> str:
    return f"method: qat, package: nets, model_path: net.pdparams, iters: 3, data: {{path: images, list: {data}}}"


def test_a_list_of_masks_teaches_with_them(taught: Path) -> None:
    samples = learned(taught, qat("masks.txt"))
    assert [(sample.name, sample.mask and sample.mask.name) for sample in samples] == [
        ("b.jpg", "b_mask.png"),
        ("a.PNG", "b_mask.png"),
    ]


def test_a_list_of_labels_teaches_with_them(taught: Path) -> None:
    samples = learned(taught, qat("val.txt"))
    assert [(sample.name, sample.label, sample.mask) for sample in samples] == [
        ("b.jpg", 3, None),
        ("a.PNG", 0, None),
        ("c d 7.bmp", 12, None),
    ]


def test_a_distillation_leaves_the_masks_where_they_are(taught: Path) -> None:
    samples = learned(taught, "method: distill, config: act.yaml, batch_size: 1, data: {path: images, list: masks.txt}")
    assert [sample.mask for sample in samples] == [None, None]


def test_a_line_without_a_mask_among_others_is_told_with_its_number(taught: Path) -> None:
    (taught / "masks.txt").write_text("b.jpg b.jpg\na.PNG\n")
    with pytest.raises(QuantfleetError, match=r"masks.txt:2: 'a.PNG' has no mask") as caught:
        learned(taught, qat("masks.txt"))
    assert caught.value.code is ErrorCode.JOB_INVALID
