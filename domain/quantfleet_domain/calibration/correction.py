"""Bias correction: what quantization adds to each layer's mean output, taken back out of its bias. Not for running it.

Rounding errors of weights do not average out: they shift a channel's mean, and the shifts add up along the network.
Stage 0 runs every layer twice on the same FP32 input, as it is and quantized, and takes the difference of the means per
channel (M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section
4.2, with means that were observed). What is left is drift, which only shows when quantized layers feed each other; so
each further stage runs the quantized network with the corrections so far up to a checkpoint and takes the difference
there. A few checkpoints do as well as one a layer, and each stage is a sum over samples that can be sharded.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256

import numpy as np

from quantfleet_domain.calibration.canonical import MalformedError, Node, canonical_json, parse_json
from quantfleet_domain.calibration.graph import CalibrationGraph, Layer
from quantfleet_domain.calibration.sums import Sums
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SCHEMA = "quantfleet/corrections/v1"
CHECKPOINTS = 4
"""How many drift stages follow stage 0."""
FP32 = "fp32"
"""Stands for a form in the quantities of the network as it is."""


def quantity(what: str, form: str, layer: str) -> str:
    """The name of a sum: `what` is `mean` (per channel), `error` or `signal` (mean squares, one element)."""
    return f"{what} {form} {layer}"


def forms_in(sums: Sums) -> tuple[str, ...]:
    """The quantized forms whose mean outputs were added up, sorted."""
    means = (name.split(" ", 2) for name in sums.quantities if name.startswith("mean "))
    return tuple(sorted({form for _, form, _ in means} - {FP32}))


def checkpoint(graph: CalibrationGraph, stage: int) -> tuple[Layer, ...]:
    """The layers that stage 1 … CHECKPOINTS corrects: those of one depth, and at the last stage all last layers."""
    deepest = max((layer.depth for layer in graph.layers), default=0)
    depth = (2 * deepest * stage + CHECKPOINTS) // (2 * CHECKPOINTS)
    return tuple(layer for layer in graph.layers if layer.depth == depth or (stage == CHECKPOINTS and layer.last))


@dataclass(frozen=True)
class LayerCorrection:
    """What is added to a layer's bias: `delta`, float32 values, one per output channel.

    `sqnr_db` is the layer's own signal-to-quantization-noise ratio on FP32 inputs, mean shift taken out: 10 log10 of
    the mean squared output over the mean squared error; None where there is no error or no signal.
    """

    layer: str
    weight: str
    delta: tuple[float, ...]
    sqnr_db: float | None


@dataclass(frozen=True)
class FormCorrections:
    """The corrections of one quantized form; the layers in `excluded` stay in float and are not in `layers`."""

    form: str
    layers: tuple[LayerCorrection, ...]
    excluded: tuple[LayerCorrection, ...]


@dataclass(frozen=True)
class Corrections:
    """All corrections that go with a scale table (`scales`, its SHA-256), from so many samples.

    `means` are the FP32 mean outputs per channel that quantized layers are brought back to, by layer.
    """

    scales: str
    samples: int
    means: Mapping[str, tuple[float, ...]]
    forms: tuple[FormCorrections, ...]

    def of(self, form: str) -> FormCorrections:
        """The corrections of a form. Raises QuantfleetError(SCALES_INVALID) where it has none."""
        for item in self.forms:
            if item.form == form:
                return item
        if not self.means:  # a network without layers shows no form, and there is nothing to correct
            return FormCorrections(form, (), ())
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"there are no bias corrections for form {form!r}",
            "run one version of quantfleet on the coordinator and its nodes",
        )

    @staticmethod
    def first(
        sums: Sums, graph: CalibrationGraph, forms: tuple[str, ...], scales: str, exclude_below_db: float | None
    ) -> "Corrections":
        """From the merged sums of stage 0. A layer whose SQNR is below `exclude_below_db` is left in float."""
        means = {
            layer.output: tuple(sums.mean(quantity("mean", FP32, layer.output)).tolist()) for layer in graph.layers
        }
        made = []
        for form in forms:
            layers = tuple(_first(sums, form, layer) for layer in graph.layers if _observed(sums, form, layer))
            poor = {item.layer for item in layers if _is_poor(item.sqnr_db, exclude_below_db)}
            made.append(
                FormCorrections(
                    form,
                    tuple(item for item in layers if item.layer not in poor),
                    tuple(item for item in layers if item.layer in poor),
                )
            )
        return Corrections(scales, len(sums.samples), means, tuple(made))

    def refined(self, sums: Sums) -> "Corrections":
        """From the merged sums of a later stage, at whose checkpoint the network as corrected so far was observed."""
        return replace(self, forms=tuple(self._refined(item, sums) for item in self.forms))

    def without_deltas(self) -> "Corrections":
        """The same exclusions, and biases as they were."""
        forms = (
            replace(form, layers=tuple(replace(item, delta=(0.0,) * len(item.delta)) for item in form.layers))
            for form in self.forms
        )
        return replace(self, forms=tuple(forms))

    def _refined(self, corrections: FormCorrections, sums: Sums) -> FormCorrections:
        layers = []
        for item in corrections.layers:
            name = quantity("mean", corrections.form, item.layer)
            if name in sums.quantities:
                drift = np.array(self.means[item.layer]) - sums.mean(name)
                item = replace(item, delta=_float32(np.array(item.delta) + drift))
            layers.append(item)
        return replace(corrections, layers=tuple(layers))

    def to_json(self) -> bytes:
        """Canonical JSON, schema quantfleet/corrections/v1; the same on every machine."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "scales": self.scales,
                "samples": self.samples,
                "means": {name: list(values) for name, values in self.means.items()},
                "forms": [asdict(item) for item in self.forms],
            }
        )

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of the canonical JSON."""
        return sha256(self.to_json()).hexdigest()

    @staticmethod
    def from_json(data: bytes) -> "Corrections":
        """The corrections of their JSON. Raises QuantfleetError(SCALES_INVALID): where, what."""
        try:
            return _read(parse_json(data))
        except MalformedError as error:
            raise QuantfleetError(
                ErrorCode.SCALES_INVALID, f"no bias corrections: {error}", f"give a file of schema {SCHEMA}"
            ) from error


def _observed(sums: Sums, form: str, layer: Layer) -> bool:
    return quantity("mean", form, layer.output) in sums.quantities


def _first(sums: Sums, form: str, layer: Layer) -> LayerCorrection:
    delta = sums.mean(quantity("mean", FP32, layer.output)) - sums.mean(quantity("mean", form, layer.output))
    signal = float(sums.mean(quantity("signal", FP32, layer.output))[0])
    error = float(sums.mean(quantity("error", form, layer.output))[0])
    shift = math.fsum((delta * delta).tolist()) / delta.size
    noise = error - shift
    # log10 is compared with a limit and shown, never computed with; it is rounded far above its own error.
    sqnr = round(10 * math.log10(signal / noise), 3) if noise > 0 and signal > 0 else None
    return LayerCorrection(layer.output, layer.weight, _float32(delta), sqnr)


def _is_poor(sqnr_db: float | None, limit_db: float | None) -> bool:
    return limit_db is not None and sqnr_db is not None and sqnr_db < limit_db


def _float32(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, ...]:
    return tuple(values.astype(np.float32).tolist())


def _read(document: Node) -> Corrections:
    members = document.members(("schema", "scales", "samples", "means", "forms"))
    if members["schema"].text() != SCHEMA:
        raise members["schema"].malformed(f'"{SCHEMA}"')
    return Corrections(
        scales=members["scales"].text(),
        samples=members["samples"].integer(1),
        means={name: _numbers(node) for name, node in members["means"].entries()},
        forms=tuple(_read_form(node) for node in members["forms"].items()),
    )


def _read_form(node: Node) -> FormCorrections:
    found = node.members(("form", "layers", "excluded"))
    return FormCorrections(
        found["form"].text(),
        tuple(_read_layer(item) for item in found["layers"].items()),
        tuple(_read_layer(item) for item in found["excluded"].items()),
    )


def _read_layer(node: Node) -> LayerCorrection:
    found = node.members(("layer", "weight", "delta", "sqnr_db"))
    return LayerCorrection(
        found["layer"].text(), found["weight"].text(), _numbers(found["delta"]), found["sqnr_db"].number_or_null()
    )


def _numbers(node: Node) -> tuple[float, ...]:
    return tuple(item.number() for item in node.items())
