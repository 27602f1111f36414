"""What each engine offers at all: models, precisions and quantizations. Not what a given device has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineOffer:
    """An engine as jobs name it. `runtime` is the family of files it executes, `formats` the submitted formats it takes
    (a Paddle model reaches an ONNX runtime through conversion). `quantizations` are the ways of quantizing whose models
    it executes in INT8; `given` is a model that came quantized."""

    name: str
    runtime: str
    formats: tuple[str, ...]
    kind: str
    precisions: tuple[str, ...]
    quantizations: tuple[str, ...]


ENGINES = {
    offer.name: offer
    for offer in (
        EngineOffer(
            name="onnxruntime-cpu",
            runtime="onnx",
            formats=("onnx", "paddle"),
            kind="cpu",
            precisions=("fp32", "int8"),
            quantizations=("static", "dynamic", "qat", "distill", "given"),
        ),
        EngineOffer(
            name="openvino-cpu",
            runtime="onnx",
            formats=("onnx", "paddle"),
            kind="cpu",
            precisions=("fp32", "bf16", "int8"),
            quantizations=("static", "qat", "distill", "given"),
        ),
        EngineOffer(
            name="paddle-cpu",
            runtime="paddle",
            formats=("paddle",),
            kind="cpu",
            precisions=("fp32", "int8"),
            quantizations=("static", "qat", "distill", "given"),
        ),
    )
}

REFERENCE_ENGINE = "onnxruntime-cpu"
"""The engine whose FP32 activations calibration reads, for models of every format."""

_WHY_NOT = {
    # Seen in OpenVINO 2026.4: such a file loads, and every product is executed by an f32 kernel between conversions.
    ("openvino-cpu", "dynamic"): "OpenVINO computes ConvInteger and MatMulInteger in float",
    ("paddle-cpu", "dynamic"): "of Paddle's runtimes only Paddle Lite runs dynamically quantized models",
}


def why_not(engine: str, quantization: str) -> str:
    """Why an engine does not execute models quantized in a way, both by name; empty where it does.

    Raises KeyError for an unknown engine, or a quantization that no engine has.
    """
    return "" if quantization in ENGINES[engine].quantizations else _WHY_NOT[engine, quantization]
