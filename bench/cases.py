"""The trained networks of a data folder, with their samples as arrays. Not for measuring.

The folder holds `models/NAME/` (a model, and `inference_cls.yaml` for photographs), `images/` with `labels.txt`, and
`text_lines/` with `text_lines_labels.txt`; a list has lines of `file class`. bench/README.md describes it.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_worker.preprocessing.configuration import parse

Array = NDArray[np.float32]
CALIBRATION_SAMPLES = 100
"""The first samples of the list calibrate, all others evaluate."""


@dataclass(frozen=True)
class Case:
    """One network: `format` is "onnx" (`model` is a file) or "paddle" (`model` is a folder)."""

    name: str
    format: str
    model: Path
    samples: Path
    listed: Path
    input_name: str

    @property
    def preprocess(self) -> Path | None:
        """The PaddleClas file for photographs; text lines have none."""
        path = (self.model.parent if self.format == "onnx" else self.model) / "inference_cls.yaml"
        return path if path.exists() else None

    def labels(self) -> list[tuple[str, int]]:
        """(file, class) in the order of the list."""
        lines = self.listed.read_text().split("\n")
        return [(line.rsplit(" ", 1)[0], int(line.rsplit(" ", 1)[1])) for line in lines if line.strip()]

    def arrays(self, limit: int | None = None) -> list[Array]:
        """Every sample, or the first `limit`, as the model's input, float32 [1, C, H, W], in the order of the list."""
        names = [name for name, _ in self.labels()][:limit]
        if self.preprocess is None:
            return [_text_line(self.samples / name) for name in names]
        inputs = (InputTensor(self.input_name, (), "float32"),)
        preprocess = parse(self.preprocess.read_text()).preprocessor(inputs)
        return [preprocess((self.samples / name).read_bytes(), name).feeds[self.input_name] for name in names]


def cases(data: Path) -> list[Case]:
    """The networks that all tools can be compared on, as far as the folder has them."""
    photographs = (data / "images", data / "labels.txt")
    lines = (data / "text_lines", data / "text_lines_labels.txt")
    models = data / "models"
    wanted = [
        Case("mobilenet_v1_025_onnx", "onnx", models / "mobilenet_v1_025_onnx" / "model.onnx", *photographs, "input"),
        Case("squeezenet1_1_onnx", "onnx", models / "squeezenet1_1_onnx" / "model.onnx", *photographs, "data"),
        Case("mobilenet_v1_025_paddle", "paddle", models / "mobilenet_v1_025_paddle", *photographs, "x"),
        Case("ppocr_cls_v2_paddle", "paddle", models / "ppocr_cls_v2_paddle", *lines, "x"),
    ]
    found = [case for case in wanted if case.model.exists() and case.listed.exists()]
    if not found:
        raise SystemExit(f"{data} has none of {', '.join(case.name for case in wanted)}; see bench/README.md")
    return found


def _text_line(path: Path) -> Array:
    """As PaddleOCR feeds its direction classifier: 48 high, at most 192 wide, zeros to the right."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path} is no picture")
    height, width = picture.shape[:2]
    scaled = cv2.resize(picture, (min(192, int(np.ceil(48 * width / height))), 48))
    tensor = np.zeros((1, 3, 48, 192), np.float32)
    tensor[0, :, :, : scaled.shape[1]] = ((scaled.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return tensor
