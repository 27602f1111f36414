"""Which variants of a model a job measures on an engine, and why not the others. Not for how a variant is made."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantfleet_domain.hardware import offers
from quantfleet_domain.hardware.offers import EngineOffer
from quantfleet_domain.hardware.precisions import is_int8, is_quantized
from quantfleet_domain.jobs.spec import ModelSpec

FLOAT = "none"
"""The quantization of what is not quantized."""


@dataclass(frozen=True)
class VariantKey:
    """A precision × quantization of a model."""

    precision: str
    quantization: str

    @property
    def name(self) -> str:
        """`fp32`, `bf16`, or `int8/static`: in task names and in the raw samples."""
        return self.precision if self.quantization == FLOAT else f"{self.precision}/{self.quantization}"


def asked_for(model: ModelSpec, precisions: Sequence[str]) -> tuple[VariantKey, ...]:
    """Every variant that a target's precisions mean for a model."""
    found: list[VariantKey] = []
    for precision in precisions:
        quantized = ("given",) if model.quantized else model.quantizations
        if precision == "int16":  # whatever else the job quantizes by has 8 bits
            quantized = ("dynamic",)
        found += [VariantKey(precision, q) for q in (quantized if is_quantized(precision) else (FLOAT,))]
    return tuple(found)


def measurable(model: ModelSpec, offer: EngineOffer, precisions: Sequence[str]) -> tuple[VariantKey, ...]:
    """The variants of those that an engine can measure."""
    return tuple(key for key in asked_for(model, precisions) if not why_not(model, offer, key))


def why_not(model: ModelSpec, offer: EngineOffer, key: VariantKey) -> str:
    """Why a variant cannot be measured on an engine whatever the device; empty where it can."""
    if model.format not in offer.formats:
        return f"{offer.name} does not read {model.format} models"
    if key.precision not in offer.precisions:
        without = not offer.quantizations and is_int8(key.precision)
        return offers.why_not(offer.name, key.quantization) if without else offers.why_no(offer.name, key.precision)
    if not is_quantized(key.precision):
        return "the model is quantized already" if model.quantized else ""
    if model.quantized and key.quantization != "given":
        return "the model is quantized already"
    if reason := offers.why_not(offer.name, key.quantization):
        return reason
    if key.quantization == "given":
        form = model.format if model.quantized or model.given is None else model.given.format
        if form not in offer.given_formats:
            return f"{offer.name} does not read quantized {form} models"
    if key.quantization == "static" and not model.calibration:
        return "the job brings neither calibration data nor scales"
    if key.quantization == "native" and not (model.calibration and model.calibration.data):
        return "the job brings no samples for the engine's own calibrator"
    if key.quantization == "dynamic" and "dynamic" not in model.quantizations:
        return "the job does not quantize dynamically"
    return ""
