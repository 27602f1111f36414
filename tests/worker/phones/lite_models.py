"""The small network of which `data/` has Paddle Lite's own files, and how these are made.

`python -m tests.worker.phones.lite_models INTERPRETER`, from the repository's root, writes them anew with the opt of an
interpreter that has paddlelite.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.worker.paddle.conftest import Calibrated, calibrate, export

from quantfleet_worker.models.paddle_lite_program import prepare
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.phones.opt import OptRequest, convert
from quantfleet_worker.quantizers import paddle_lite

DATA = Path(__file__).with_name("data")
SIDE = 32
FLOAT, INT8, DYNAMIC, X86 = "float.nb", "int8.nb", "dynamic.nb", "x86.nb"


def small_network() -> Any:
    """Two convolutions, pooling and a head."""
    paddle = load_paddle()
    nn = paddle.nn
    with paddle.utils.unique_name.guard():
        return _seeded(
            nn.Sequential(
                *(nn.Conv2D(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2D(4, 4, 1), nn.ReLU()),
                *(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(4, 2)),
            )
        )


def one_layer() -> Any:
    """One convolution."""
    paddle = load_paddle()
    with paddle.utils.unique_name.guard():
        return _seeded(paddle.nn.Conv2D(3, 2, 1))


def _seeded(model: Any) -> Any:
    random = np.random.default_rng(5)
    for tensor in model.state_dict().values():
        tensor.set_value(random.normal(0, 0.4, tensor.shape).astype(np.float32))
    model.eval()
    return model


def saved(network: Any, folder: Path) -> Path:
    """A network as Paddle saves it."""
    return export(network, folder, (None, 3, SIDE, SIDE), pir=False)


def int8_model(model: Path, calibrated: Calibrated, folder: Path) -> Path:
    """The network as our quantizer writes it for Lite."""
    return paddle_lite.quantize(model, calibrated.table, folder).path


def make(interpreter: str, folder: Path) -> dict[str, bytes]:
    """Every file of `data/`, by name; `folder` is for the models in between."""
    model, layer = saved(small_network(), folder / "float"), saved(one_layer(), folder / "layer")
    quantized = int8_model(model, calibrate(model, folder), folder / "int8")
    wanted = {
        FLOAT: (model, OptRequest("arm")),
        INT8: (quantized, OptRequest("arm")),
        DYNAMIC: (model, OptRequest("arm", weight_bits=8)),
        X86: (layer, OptRequest("x86")),
    }
    return {
        name: convert(interpreter, prepare(source, folder / f"{name}-program").files, request, folder).content
        for name, (source, request) in wanted.items()
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for file_name, content in make(sys.argv[1], Path(scratch)).items():
            (DATA / file_name).write_bytes(content)
