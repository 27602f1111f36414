"""What each engine offers at all: models, precisions and quantizations. Not what a given device has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineOffer:
    """An engine as jobs name it. `runtime` is the family of files it executes, `formats` the submitted formats it takes
    (a Paddle model reaches an ONNX runtime through conversion). `quantizations` are the ways of quantizing whose models
    it executes in INT8; `given` is a model that came quantized, in one of `given_formats`. `forms` are those of a
    static INT8 model that a job may ask for, where it takes several."""

    name: str
    runtime: str
    formats: tuple[str, ...]
    kind: str
    precisions: tuple[str, ...]
    quantizations: tuple[str, ...]
    given_formats: tuple[str, ...]
    forms: tuple[str, ...] = ()


_TENSORRT = ("fp32", "fp16", "int8", "int8+fp16", "int8+fp16+pinned")
_PADDLE_LITE = ("fp32", "int8", "int16")
_TRAINED = ("qat", "distill")

ENGINES = {
    offer.name: offer
    for offer in (
        EngineOffer(
            name="onnxruntime-cpu",
            runtime="onnx",
            formats=("onnx", "paddle"),
            kind="cpu",
            precisions=("fp32", "int8"),
            quantizations=("static", "dynamic", *_TRAINED, "given"),
            given_formats=("onnx",),
            forms=("u8s8", "u8s8-paired"),
        ),
        EngineOffer(
            name="onnxruntime-cuda",
            runtime="onnx",
            formats=("onnx", "paddle"),
            kind="cuda",
            precisions=("fp32", "fp16"),
            quantizations=(),
            given_formats=("onnx",),
        ),
        EngineOffer(
            name="onnxruntime-tensorrt",
            runtime="tensorrt",
            formats=("onnx", "paddle"),
            kind="cuda",
            precisions=_TENSORRT,
            quantizations=("static", *_TRAINED, "given"),
            given_formats=("onnx",),
            forms=("s8s8", "cache"),
        ),
        EngineOffer(
            name="openvino-cpu",
            runtime="onnx",
            formats=("onnx", "paddle"),
            kind="cpu",
            precisions=("fp32", "bf16", "int8"),
            quantizations=("static", *_TRAINED, "given"),
            given_formats=("onnx",),
        ),
        EngineOffer(
            name="paddle-cpu",
            runtime="paddle",
            formats=("paddle",),
            kind="cpu",
            precisions=("fp32", "int8"),
            quantizations=("static", *_TRAINED, "given"),
            given_formats=("paddle",),
            forms=("s8-symmetric", "s8-symmetric-headroom"),
        ),
        EngineOffer(
            name="paddle-gpu",
            runtime="paddle",
            formats=("paddle",),
            kind="cuda",
            precisions=("fp32", "fp16"),
            quantizations=(),
            given_formats=("paddle",),
        ),
        *(
            EngineOffer(
                name=name,
                runtime="paddle-lite",
                formats=("paddle", "paddle-lite"),
                kind="arm",
                precisions=_PADDLE_LITE,
                quantizations=("static", "dynamic", *_TRAINED, "given"),
                given_formats=("paddle", "paddle-lite"),
            )
            for name in ("paddle-lite", "paddle-lite-armv7")
        ),
        EngineOffer(
            name="paddle-tensorrt",
            runtime="paddle-tensorrt",
            formats=("paddle",),
            kind="cuda",
            precisions=tuple(precision for precision in _TENSORRT if precision != "int8"),
            quantizations=("static", *_TRAINED, "native", "given"),
            given_formats=("paddle",),
            forms=("qdq", "table"),
        ),
        EngineOffer(
            name="tensorrt",
            runtime="tensorrt",
            formats=("onnx", "paddle"),
            kind="cuda",
            precisions=_TENSORRT,
            quantizations=("static", *_TRAINED, "native", "given"),
            given_formats=("onnx",),
            forms=("s8s8", "cache"),
        ),
    )
}

REFERENCE_ENGINE = "onnxruntime-cpu"
"""The engine whose FP32 activations calibration reads, for models of every format."""

_ONLY_LITE = "of Paddle's runtimes only Paddle Lite runs dynamically quantized models"
_NO_DYNAMIC = "TensorRT takes ranges that are known when an engine is built"
_WHY_NOT = {
    # Seen in OpenVINO 2026.4: such a file loads, and every product is executed by an f32 kernel between conversions.
    ("openvino-cpu", "dynamic"): "OpenVINO computes ConvInteger and MatMulInteger in float",
    ("paddle-cpu", "dynamic"): _ONLY_LITE,
    ("paddle-tensorrt", "dynamic"): _ONLY_LITE,
    ("tensorrt", "dynamic"): _NO_DYNAMIC,
    ("onnxruntime-tensorrt", "dynamic"): _NO_DYNAMIC,
}
_WITHOUT_INT8 = {
    # Of the operators that multiply integers, its library (1.31) has MatMulInteger and none that quantizers write.
    "onnxruntime-cuda": "ONNX Runtime's CUDA provider has no INT8 kernels for QDQ models; onnxruntime-tensorrt has",
    "paddle-gpu": "Paddle's own GPU kernels compute in float; paddle-tensorrt has INT8",
}
_WITHOUT_PRECISION = {
    # Paddle 2.6, inference/tensorrt/engine.cc: with kINT8 it sets kFP16.
    ("paddle-tensorrt", "int8"): "Paddle always lets TensorRT take FP16 beside INT8: its precision is int8+fp16",
}
_NO_CALIBRATOR = "it has no calibrator of its own"


def why_no(engine: str, precision: str) -> str:
    """Why an engine does not offer a precision, both by name; empty where it does. Raises KeyError for no engine."""
    if precision in ENGINES[engine].precisions:
        return ""
    return _WITHOUT_PRECISION.get((engine, precision), f"{engine} has no {precision}")


def why_not(engine: str, quantization: str) -> str:
    """Why an engine does not execute models quantized in a way, both by name; empty where it does.

    Raises KeyError for an unknown engine, or a quantization that no engine has.
    """
    if quantization in ENGINES[engine].quantizations:
        return ""
    if engine in _WITHOUT_INT8:
        return _WITHOUT_INT8[engine]
    return f"{engine}: {_NO_CALIBRATOR}" if quantization == "native" else _WHY_NOT[engine, quantization]
