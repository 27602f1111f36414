"""NNCF's post-training quantization, for OpenVINO and as QDQ ONNX. Not ours: nothing here is tuned.

https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import openvino as ov
from bench.cases import Array
from bench.figures import Outputs
from openvino import opset13 as ops


def read(model: Path) -> ov.Model:
    """The model as OpenVINO converts it.

    `Core.read_model` would keep biases behind a Reshape that is not folded, and NNCF then corrects none of them.
    """
    return ov.convert_model(str(model))


def quantize(model: ov.Model, arrays: Sequence[Array], options: dict[str, Any]) -> ov.Model:
    """The quantized model.

    `options`: `mixed` for that preset (else NNCF's own), `full` for its slow bias correction, `overflow_fix` to keep
    weights to seven bits, which NNCF otherwise does in the first layer alone.
    """
    return nncf.quantize(model, nncf.Dataset(list(arrays)), **_arguments(len(arrays), options))


def quantize_onnx(model: Path, input_name: str, arrays: Sequence[Array], target: Path, options: dict[str, Any]) -> None:
    """Write the QDQ file that NNCF's ONNX backend makes."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    feeds = nncf.Dataset(list(arrays), lambda array: {input_name: array})
    onnx.save(nncf.quantize(onnx.load(prepared), feeds, **_arguments(len(arrays), options)), target)


def calibrate(model: Path, samples: Sequence[Array], method: str) -> None:
    """All of `nncf.quantize`: `statistics` without bias correction, `default` with the fast one, `full`."""
    arguments = _arguments(len(samples), {"full": method == "full"})
    arguments["advanced_parameters"].disable_bias_correction = method == "statistics"
    nncf.quantize(read(model), nncf.Dataset(samples), **arguments)


def plain(model: Path) -> Callable[[Array], object]:
    """The forward pass on one thread."""
    compiled = ov.Core().compile_model(read(model), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda array: compiled(array)[0]


def predict(model: ov.Model, arrays: Sequence[Array]) -> Outputs:
    """The first output for every array, one at a time, one thread, on OpenVINO's CPU plug-in."""
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([np.array(compiled(array)[0]).reshape(1, -1) for array in arrays])


def in_float(model: ov.Model) -> ov.Model:
    """The quantized model with each FakeQuantize written out, so that the plug-in finds nothing to run in INT8.

    Formula: https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/quantization/fake-quantize-1.html
    """
    copy = model.clone()
    for node in copy.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        value, in_low, in_high, out_low, out_high = (node.input_value(index) for index in range(5))
        steps = ops.constant(np.float32(node.get_attributes()["levels"] - 1))
        clipped = ops.minimum(ops.maximum(value, in_low), in_high)
        position = ops.multiply(ops.divide(ops.subtract(clipped, in_low), ops.subtract(in_high, in_low)), steps)
        level = ops.divide(ops.round(position, "half_to_even"), steps)
        written = ops.add(ops.multiply(level, ops.subtract(out_high, out_low)), out_low)
        node.output(0).replace(written.output(0))
    copy.validate_nodes_and_infer_types()
    return copy


def _arguments(samples: int, options: dict[str, Any]) -> dict[str, Any]:
    fix = nncf.OverflowFix.ENABLE if options.get("overflow_fix") else None
    return {
        "preset": nncf.QuantizationPreset.MIXED if options.get("mixed") else None,
        "subset_size": samples,
        "fast_bias_correction": not options.get("full"),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(overflow_fix=fix),
    }
