"""The scale table, which calibration hands to every quantizer: a value and canonical JSON. Not for engines' forms."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np

from quantfleet_domain.calibration.calibrators import Calibrator
from quantfleet_domain.calibration.canonical import (
    MalformedError,
    Node,
    canonical_json,
    parse_json,
)
from quantfleet_domain.calibration.forms import clip_range
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.numerics import read_numerics
from quantfleet_domain.calibration.partial import Partial
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SCHEMA = "quantfleet/scales/v1"

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ScalesHeader:
    """What the table is a function of (law L1): digests are hexadecimal SHA-256.

    `model` is the submitted model, `manifest` the ordered samples, `preprocessing` what made tensors of them.
    `parameter` is the calibrator's, None where it takes none.
    """

    model: str
    manifest: str
    preprocessing: str
    calibrator: str
    parameter: float | None
    numerics_class: NumericsClass


@dataclass(frozen=True)
class ActivationRow:
    """The clip range [lo, hi] of one activation, float32 values, by its reference and its native name.

    `native_name` is None for a tensor that the submitted model lacks; `tied_to` names the activation whose range this
    one shares, else None; `samples` counts the samples that had elements in this tensor (0: none, range [0, 0]; or not
    known, where the row was imported).
    """

    tensor: str
    native_name: str | None
    calibrator: str
    lo: float
    hi: float
    tied_to: str | None
    samples: int


@dataclass(frozen=True)
class WeightRow:
    """A weight: `absmax[i]` is the largest magnitude of slice i of `axis`."""

    tensor: str
    native_name: str | None
    axis: int
    absmax: tuple[float, ...]


@dataclass(frozen=True)
class ScaleTable:
    """A header, the activations in the order of the reference graph's recipe, and the weights in its order."""

    header: ScalesHeader
    activations: tuple[ActivationRow, ...]
    weights: tuple[WeightRow, ...]

    @staticmethod
    def build(
        partial: Partial, graph: CalibrationGraph, calibrator: Calibrator, *, manifest: str, preprocessing: str
    ) -> "ScaleTable":
        """The table of a merged partial that covers the manifest.

        Each activation's range is the calibrator's own. All of a group in `graph.ties` then get the narrowest range
        that covers those of the group, and are `tied_to` its first member.

        Raises QuantfleetError: NUMERICS_MISMATCH where the partial was made with another recipe than the graph's,
        PARTIAL_INVALID where its tensors are not the graph's activations.
        """
        if partial.numerics_class.recipe != graph.recipe:
            raise QuantfleetError(
                ErrorCode.NUMERICS_MISMATCH,
                f"the partial statistic was made with recipe {partial.numerics_class.recipe!r}, "
                f"and the graph's is {graph.recipe!r}",
                "inspect the model and calibrate with one version of the worker",
            )
        differing = sorted(partial.tensors.keys() ^ set(graph.activations))
        if differing:
            raise QuantfleetError(
                ErrorCode.PARTIAL_INVALID,
                f"the partial statistic and the graph differ in {', '.join(map(repr, differing[:5]))}",
                "calibrate with the instrumented graph of this job",
            )
        header = ScalesHeader(
            model=partial.numerics_class.model,
            manifest=manifest,
            preprocessing=preprocessing,
            calibrator=calibrator.name,
            parameter=calibrator.parameter,
            numerics_class=partial.numerics_class,
        )
        activations = []
        for name in graph.activations:
            statistic = partial.tensors[name]
            choice = calibrator.choose(statistic)
            lo, hi = clip_range(statistic.minimum, statistic.maximum, choice.threshold)
            native = graph.native_names.get(name)
            activations.append(ActivationRow(name, native, choice.calibrator, lo, hi, None, statistic.samples.size))
        return ScaleTable(header, tied(activations, graph.ties), weight_rows(graph))

    def to_json(self) -> bytes:
        """Canonical JSON, schema quantfleet/scales/v1: the same table gives the same bytes on every machine."""
        return self._canonical

    @cached_property
    def _canonical(self) -> bytes:
        return canonical_json(
            {
                "schema": SCHEMA,
                "header": asdict(self.header),
                "activations": [asdict(row) for row in self.activations],
                "weights": [asdict(row) for row in self.weights],
            }
        )

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of the canonical JSON."""
        return sha256(self._canonical).hexdigest()

    def require_model(self, digest: str, name: str) -> None:
        """Raise QuantfleetError(SCALES_INVALID) where it is not the table of the model with this SHA-256, `name`."""
        if self.header.model != digest:
            raise QuantfleetError(
                ErrorCode.SCALES_INVALID,
                f"the scale table is of a model with SHA-256 {self.header.model}, and that of {name} is {digest}",
                "calibrate this model itself, or import its scales again",
            )

    @staticmethod
    def from_json(data: bytes) -> "ScaleTable":
        """The table of its JSON, in any key order and spacing. Raises QuantfleetError(SCALES_INVALID): where, what."""
        try:
            return _read(parse_json(data))
        except MalformedError as error:
            raise QuantfleetError(
                ErrorCode.SCALES_INVALID, f"not a scale table: {error}", f"give a file of schema {SCHEMA}"
            ) from error


def weight_rows(graph: CalibrationGraph) -> tuple[WeightRow, ...]:
    """The rows of a graph's weights, in its order."""
    return tuple(
        WeightRow(weight.name, graph.native_weights.get(weight.name), weight.axis, weight.absmax)
        for weight in graph.weights
    )


def tied(rows: Iterable[ActivationRow], ties: Iterable[tuple[str, ...]]) -> tuple[ActivationRow, ...]:
    """The rows in their order, where all of a group have the narrowest range that covers those of the group."""
    own = {row.tensor: row for row in rows}
    tied = dict(own)
    for group in ties:
        lo, hi = min(own[name].lo for name in group), max(own[name].hi for name in group)
        for name in group:
            tied[name] = replace(own[name], lo=lo, hi=hi, tied_to=None if name == group[0] else group[0])
    return tuple(tied.values())


def _read(document: Node) -> ScaleTable:
    members = document.members(("schema", "header", "activations", "weights"))
    if members["schema"].text() != SCHEMA:
        raise members["schema"].malformed(f'"{SCHEMA}"')
    activations = tuple(_read_activation(node) for node in members["activations"].items())
    weights = tuple(_read_weight(node) for node in members["weights"].items())
    names = _unique("activations", (row.tensor for row in activations))
    _unique("weights", (row.tensor for row in weights))
    for index, row in enumerate(activations):
        if row.tied_to is not None and row.tied_to not in names:
            raise MalformedError(f"activations[{index}].tied_to: there is no activation {row.tied_to!r}")
    return ScaleTable(_read_header(members["header"]), activations, weights)


def _read_header(node: Node) -> ScalesHeader:
    names = ("model", "manifest", "preprocessing", "calibrator", "parameter", "numerics_class")
    found = node.members(names)
    return ScalesHeader(
        model=found["model"].text(),
        manifest=found["manifest"].text(),
        preprocessing=found["preprocessing"].text(),
        calibrator=found["calibrator"].text(),
        parameter=found["parameter"].number_or_null(),
        numerics_class=read_numerics(found["numerics_class"]),
    )


def _read_activation(node: Node) -> ActivationRow:
    found = node.members(("tensor", "native_name", "calibrator", "lo", "hi", "tied_to", "samples"))
    row = ActivationRow(
        tensor=found["tensor"].text(),
        native_name=found["native_name"].text_or_null(),
        calibrator=found["calibrator"].text(),
        lo=_float32_range(found["lo"]),
        hi=_float32_range(found["hi"]),
        tied_to=found["tied_to"].text_or_null(),
        samples=found["samples"].integer(0),
    )
    if row.lo > row.hi:
        raise found["hi"].malformed(f"a number of at least lo, {row.lo!r}")
    return row


def _read_weight(node: Node) -> WeightRow:
    found = node.members(("tensor", "native_name", "axis", "absmax"))
    absmax = found["absmax"].items()
    for peak in absmax:
        if _float32_range(peak) < 0:
            raise peak.malformed("a magnitude")
    return WeightRow(
        tensor=found["tensor"].text(),
        native_name=found["native_name"].text_or_null(),
        axis=found["axis"].integer(0),
        absmax=tuple(peak.number() for peak in absmax),
    )


def _float32_range(node: Node) -> float:
    value = node.number()
    if abs(value) > _FLOAT32_MAX:
        raise node.malformed("a number within float32")
    return value


def _unique(list_name: str, names: Iterable[str]) -> frozenset[str]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise MalformedError(f"{list_name}[{index}].tensor: {name!r} occurs twice")
        seen.add(name)
    return frozenset(seen)
