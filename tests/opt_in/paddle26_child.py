"""What `test_paddle26` has a child run in each interpreter: inferences by an engine and by Paddle's own operators."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.paddle_cuda.model import open_model
from quantfleet_worker.engines.paddle_cuda.predictors import collect_shapes
from quantfleet_worker.engines.paddle_cuda.workplace import Workplace
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.models.paddle_program import PaddleProgram, load_paddle


def infer(request: bytes, report: Callable[[float, str], None]) -> bytes:
    """Run the model in folder `model` by `paddle-cpu` on the array in file `images`; an .npz comes back."""
    asked = json.loads(request)
    engine = engine_named("paddle-cpu")
    session = engine.load(Path(asked["model"]), LoadOptions("fp32", threads=1))
    (output,) = session.run({"x": np.load(asked["images"])}).values()
    answer = io.BytesIO()
    np.savez(answer, output=output, version=engine.version(), numpy=np.__version__)
    return answer.getvalue()


def simulate(request: bytes, report: Callable[[float, str], None]) -> bytes:
    """Run a program without any pass on `images`; have Paddle note its tensors' shapes, as `paddle-tensorrt` does."""
    asked = json.loads(request)
    images = np.load(asked["images"])
    model = open_model(Path(asked["model"]))
    program = PaddleProgram.load(model.files.directory, model.files.stem)
    (output,) = program.run({"x": images}, program.fetches).values()
    workplace = Workplace(model, {}, None)
    collect_shapes(load_paddle(), workplace, model.signature.inputs, [{"x": images.shape}])
    answer = io.BytesIO()
    noted = workplace.shapes.read_text().count("shape_range_info {")
    np.savez(answer, output=output, quantized=len(model.meant.quantized), noted=noted)
    return answer.getvalue()
