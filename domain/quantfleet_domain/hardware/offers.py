"""What each engine offers at all: the models it reads and its precisions. Not what a given device has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineOffer:
    """An engine as jobs name it. `runtime` is the family of files it executes, `formats` the submitted formats it takes
    (a Paddle model reaches an ONNX runtime through conversion). `quantizations` are the kinds of INT8 models
    that it executes."""

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
            "onnxruntime-cpu", "onnx", ("onnx", "paddle"), "cpu", ("fp32", "int8"), ("static", "dynamic", "given")
        ),
        EngineOffer(
            "paddle-cpu", "paddle", ("paddle",), "cpu", ("fp32", "int8"), ("static", "qat", "distill", "given")
        ),
    )
}

REFERENCE_ENGINE = "onnxruntime-cpu"
"""The engine whose FP32 activations calibration reads, for models of every format."""
