"""The networks that are run on both sides, with their samples and INT8 forms. Not for running them."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tests.opt_in.arm.arm_root import REPOSITORY
from tests.worker.encoders import encoder, token_feeds
from tests.worker.onnx_networks import calibrated_on, classifier, pictures

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.reference_run import ReferenceRun
from quantfleet_worker.preprocessing.configuration import parse
from quantfleet_worker.quantizers.onnx_qdq import FORMS, quantize

DIGITS = REPOSITORY / "examples" / "digits"
SAMPLES = 20
Feeds = Sequence[Mapping[str, NDArray[Any]]]


def write(folder: Path) -> None:
    """Into `folder`: `<network>.onnx`, its samples in `<network>.npz` as `<index> <input>`, `<network>.<form>.onnx`.

    Also the graph of the classifier and its activations, for `law.py`, and 20 pictures of digits in `pictures/`.
    """
    folder.mkdir()
    digits = _digits(folder / "pictures")
    _network(folder, "digits", (DIGITS / "model" / "digits.onnx").read_bytes(), digits)
    _network(folder, "encoder", encoder().SerializeToString(), token_feeds(SAMPLES, seed=1))
    reference, graph = _network(
        folder, "classifier", classifier().SerializeToString(), [{"image": item} for item in pictures(SAMPLES)]
    )
    run = ReferenceRun(reference, graph)
    activations: dict[str, Any] = {
        f"{index} {name}": values
        for index, picture in enumerate(pictures(SAMPLES))
        for name, values in run.activations({"image": picture})
    }
    np.savez(folder / "activations.npz", **activations)
    (folder / "graph.json").write_bytes(graph.to_json())


def _digits(folder: Path) -> Feeds:
    subprocess.run([sys.executable, DIGITS / "prepare.py", folder], check=True)
    for unused in sorted((folder / "calibration").iterdir())[SAMPLES:]:
        unused.unlink()
    shapes = inspect(DIGITS / "model" / "digits.onnx", {})[1].inputs
    preprocess = parse((DIGITS / "inference_cls.yaml").read_text()).preprocessor(shapes)
    return [dict(preprocess(path.read_bytes(), path.name).feeds) for path in sorted((folder / "calibration").iterdir())]


def _network(folder: Path, name: str, model: bytes, feeds: Feeds) -> tuple[Path, CalibrationGraph]:
    path = folder / f"{name}.onnx"
    path.write_bytes(model)
    samples: dict[str, Any] = {
        f"{index} {entry}": values for index, item in enumerate(feeds) for entry, values in item.items()
    }
    np.savez(folder / f"{name}.npz", **samples)
    content, graph = inspect(path, {})
    path.write_bytes(content)
    table = calibrated_on(path, graph, feeds)
    for form in FORMS:
        quantized = folder / f"{name}.{form}.onnx"
        quantize(path, table, form, quantized)
        _without_softmax(quantized)
    return path, graph


def _without_softmax(path: Path) -> None:
    """Let the model end with its scores: the head's Softmax is left in float, whose bits are the processor's."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Softmax" and node.output[0] == model.graph.output[0].name:
            del model.graph.output[:]
            model.graph.output.append(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None))
            model.graph.node.remove(node)
            onnx.save(model, path)
