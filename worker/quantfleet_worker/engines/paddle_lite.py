"""Paddle Lite on the ARM cores of a phone: engine `paddle-lite` (armv8). Not for the phone itself: see `phones`."""

from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Engine, LoadOptions, Session

ARMV8 = "arm64-v8a"
ARMV7 = "armeabi-v7a"
ABI_OF_ENGINE = {"paddle-lite": ARMV8, "paddle-lite-armv7": ARMV7}
"""Android's name of the interface that each of the engines is built for."""
_DOT_PRODUCTS = "asimddp"
"""The CPU flag of dot products of bytes (ARMv8.2)."""
_ATTACH = "attach a phone and name it in the worker's phones file"


class PaddleLite(Engine):
    """Paddle Lite by the phone's own `benchmark_bin`, of one of `ABI_OF_ENGINE`.

    A model is converted by `opt` on the host (see `phones.opt`) and run there (see `phones.session`), so that this says
    what the engine is and has, and loads nothing. int16 is dynamic quantization alone: weights in 16 bits.
    """

    runtime = "paddle-lite"
    kind = "arm"
    precisions = ("fp32", "int8", "int16")
    distribution = "paddlelite"

    def __init__(self, name: str) -> None:
        self.name = name

    def version(self) -> str:
        """Raises QuantfleetError(ENGINE_MISSING): the library is on the phone, and its tool tells the version there."""
        raise QuantfleetError(ErrorCode.ENGINE_MISSING, f"{self.name} runs on a phone, not in this process", _ATTACH)

    def int8_warning(self, isa: tuple[str, ...]) -> str:
        """What a user is to know of INT8 on cores with these flags; empty where they have dot products of bytes.

        The ratios are those of Paddle's own page on quantized models, for MobileNetV1 and V2 on a Snapdragon 855.
        """
        if _DOT_PRODUCTS in isa:
            return ""
        usual = "1.6 to 2.3" if ABI_OF_ENGINE[self.name] == ARMV8 else "1.3 to 1.7"
        return f"this core has no dot products of bytes (asimddp); with them INT8 is {usual} times as fast as FP32"

    def load(self, model: Path, options: LoadOptions) -> Session:  # noqa: ARG002 - it loads none, whatever the options
        """Raises QuantfleetError(ENGINE_MISSING), as `version`."""
        raise QuantfleetError(ErrorCode.ENGINE_MISSING, f"{self.name} cannot load {model} in this process", _ATTACH)

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - Lite has one form for all
        """`s8-symmetric-lite`: Lite knows no other."""
        return "s8-symmetric-lite"


ENGINE = PaddleLite("paddle-lite")
