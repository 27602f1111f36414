"""ONNX Runtime's own quantizer and calibrators, called as its documentation does. Not ours: nothing here is tuned.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from bench.cases import Array
from bench.figures import Outputs
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from quantfleet_worker.engines.saturation import pairs_saturate
from quantfleet_worker.probes.cpu import cpu_facts

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime publishes no types
    """Hands out arrays one by one."""

    def __init__(self, name: str, arrays: Sequence[Array]) -> None:
        self._name = name
        self._arrays: Iterator[Array] = iter(arrays)

    def get_next(self) -> dict[str, Array] | None:
        """The next feed, None at the end."""
        array = next(self._arrays, None)
        return None if array is None else {self._name: array}


def quantize(
    model: Path, input_name: str, arrays: Sequence[Array], target: Path, calibrator: str, options: dict[str, Any]
) -> None:
    """Write the QDQ model that `quantize_static` makes: U8S8, per channel, after its own pre-processing.

    `options`: `reduce_range`, and `float_softmax` to leave Softmax (and with it the output) in float.
    """
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    excluded = _nodes_of(prepared, "Softmax") if options.get("float_softmax") else []
    quantize_static(
        str(prepared),
        str(target),
        Reader(input_name, arrays),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=bool(options.get("reduce_range")),
        calibrate_method=METHODS[calibrator],
        nodes_to_exclude=excluded,
    )


def calibrate(model: Path, input_name: str, samples: Sequence[Array], folder: Path, calibrator: str) -> None:
    """Ranges of all tensors that the quantizer asks for, by one of its calibrators with its own settings."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    operators = sorted({*QLinearOpsRegistry, *QDQRegistry})  # as quantize_static chooses them
    chosen = create_calibrator(str(prepared), operators, str(folder / "augmented.onnx"), METHODS[calibrator])
    # Its own session has a thread for each core, and those wait in a loop: that would count as the calibrator's time.
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.infer_session = ort.InferenceSession(
        chosen.augmented_model_path, options, providers=["CPUExecutionProvider"]
    )
    chosen.collect_data(Reader(input_name, samples))
    chosen.compute_data()


def plain(model: Path) -> Callable[[Array], object]:
    """The optimised forward pass on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})


def predict(model: Path, arrays: Sequence[Array], *, precise: bool = False, simulated: bool = False) -> Outputs:
    """The first output for every array, one at a time, one thread.

    `precise` asks that no INT8 product saturates: on x86 without VNNI that takes ONNX Runtime's slower kernels;
    `simulated` keeps every quantize and dequantize node, so that all arithmetic is float.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if precise and pairs_saturate(cpu_facts(None, "").isa):
        options.add_session_config_entry("session.x64quantprecision", "1")
    if simulated:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: array})[0].reshape(1, -1) for array in arrays])


def _nodes_of(model: Path, operator: str) -> list[str]:
    import onnx

    return [node.name for node in onnx.load(model).graph.node if node.op_type == operator]
