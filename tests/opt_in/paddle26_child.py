"""What `test_paddle26` has a child run in each interpreter: one inference, and where it was computed."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.registry import engine_named


def infer(request: bytes, report: Callable[[float, str], None]) -> bytes:
    """Run engine `engine` with the model in folder `model` on the array in file `images`; an .npz comes back."""
    asked = json.loads(request)
    engine = engine_named(asked["engine"])
    session = engine.load(Path(asked["model"]), LoadOptions("fp32", threads=1))
    (output,) = session.run({"x": np.load(asked["images"])}).values()
    answer = io.BytesIO()
    np.savez(answer, output=output, version=engine.version(), numpy=np.__version__)
    return answer.getvalue()
