"""A folder with everything that a job file may name; no file in it is read by what is tested here."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mobilenet.onnx").write_bytes(b"onnx")
    paddle = tmp_path / "paddle"
    paddle.mkdir()
    (paddle / "inference.pdmodel").write_bytes(b"program")
    (paddle / "inference.pdiparams").write_bytes(b"parameters")
    (tmp_path / "inference_cls.yaml").write_text("PreProcess: {}\n")
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "c d 7.bmp", "more/e.jpeg"):
        (images / name).write_bytes(name.encode())
    (images / "notes.txt").write_text("no sample\n")
    (tmp_path / "val.txt").write_text("b.jpg 3\n\na.PNG 0\nc d 7.bmp 12\n")
    return tmp_path
