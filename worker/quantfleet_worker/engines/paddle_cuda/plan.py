"""How Paddle is to compile a model for TensorRT, or why it cannot. Pure: not for doing it.

Paddle 2.6 sets TensorRT's FP16 flag beside its INT8 flag (`TensorRTEngine::FreezeNetwork`,
paddle/fluid/inference/tensorrt/engine.cc): its precision `Int8` is what is called `int8+fp16` here, and there is no
other. Its `Half` and `Float32` are `fp16` and `fp32`.
"""

from dataclasses import dataclass
from enum import StrEnum

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_quantization import Quantization

from ..cuda.capability import Capability, fast_fp16, fast_int8

PRECISIONS = ("fp32", "fp16", "int8+fp16", "int8+fp16+pinned")
"""All that engine `paddle-tensorrt` offers, on GPUs that have them."""
INT8_ALONE = "Paddle lets TensorRT choose FP16 kernels wherever it lets it choose INT8 ones: its Int8 is int8+fp16"
MIN_SUBGRAPH_SIZE = 5
"""Operators in a row that are worth a TensorRT engine, as Paddle's page on low precision has it."""
WORKSPACE_BYTES = 1 << 30
_MODES = {"fp32": "Float32", "fp16": "Half", "int8+fp16": "Int8", "int8+fp16+pinned": "Int8"}


class Form(StrEnum):
    """How a model directory says what is in INT8."""

    FLOAT = "float"
    QDQ = "qdq"
    """Its program is quantized."""
    TABLE = "table"
    """Its program is in float, and a file beside it gives its tensors scales."""
    NATIVE = "native"
    """Its program is in float, and the calibration tables that Paddle wrote lie beside it."""


@dataclass(frozen=True)
class Plan:
    """`mode` is a name of Paddle's `PrecisionType`; `calibrated` is Paddle's `use_calib_mode`; `pinned` whether host
    memory is page-locked."""

    mode: str
    calibrated: bool
    pinned: bool


def plan(precision: str, form: Form) -> Plan:
    """Raises QuantfleetError(ENGINE_FAILED) for a precision that Paddle-TensorRT has not, or not for this form."""
    if precision == "int8":
        raise _refusal(INT8_ALONE, "ask for int8+fp16")
    if precision not in PRECISIONS:
        raise _refusal(f"Paddle-TensorRT has no {precision}", f"choose among {', '.join(PRECISIONS)}")
    int8 = precision.startswith("int8")
    if int8 and form is Form.FLOAT:
        raise _refusal(
            "TensorRT needs scales for INT8, and the program is not quantized and has no calibration table beside it",
            "quantize the model, or calibrate it",
        )
    if not int8 and form is not Form.FLOAT:
        raise _refusal(
            f"the model is quantized, and {precision} is asked for", "ask for int8+fp16 of a quantized model"
        )
    return Plan(_MODES[precision], int8 and form is not Form.QDQ, precision.endswith("+pinned"))


def precisions_of(capability: Capability | None) -> tuple[str, ...]:
    """Of `PRECISIONS`, what a GPU of this compute capability has; none for a device that is no such GPU."""
    if capability is None:
        return ()
    half, int8 = fast_fp16(capability), fast_int8(capability)
    lacking = {"fp16": not half, "int8+fp16": not (half and int8), "int8+fp16+pinned": not (half and int8)}
    return tuple(precision for precision in PRECISIONS if not lacking.get(precision, False))


def why_not(how: Quantization) -> str:
    """Why Paddle-TensorRT is not given a program that is quantized in this way; empty where it is."""
    return {
        Quantization.CONVERTED: "is converted for oneDNN, whose operators TensorRT has not",
        Quantization.DYNAMIC: "is quantized dynamically (only its weights have scales), which TensorRT does not run",
        Quantization.LAYERED: "comes from paddle.quantization, whose format Paddle's passes for TensorRT do not know",
    }.get(how, "")


def _refusal(what: str, todo: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.ENGINE_FAILED, what, todo)
