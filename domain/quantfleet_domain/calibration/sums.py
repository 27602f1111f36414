"""Sums over samples that merge exactly: what one shard, or many merged, add up. Not for what the sums are used for.

A sample's contribution is a float32 vector; each element is rounded once, on its own, to a whole number of a unit that
is a power of two and the same for all shards. Integers are added from then on, so neither the order of samples nor
their sharding can change a bit.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.canonical import MalformedError, Node, canonical_json, parse_json
from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.numerics import read_numerics
from quantfleet_domain.calibration.statistic import samples_overlap
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SCHEMA = "quantfleet/sums/v1"

_FINEST = 30
_MOST_SAMPLES = 1 << 22
_MOST = float(1 << 40)
_FURTHEST = 1023


def unit_exponent(bound: float) -> int:
    """The exponent of the unit for values up to about `bound` in magnitude: 2^-30 of it, which leaves room for values a
    thousand times as large and for four million samples."""
    return int(np.frexp(max(bound, float(np.finfo(np.float32).tiny)))[1]) - _FINEST


@dataclass(frozen=True, eq=False)
class ExactSum:
    """A vector added up over samples: `totals`, int64 (C,), in units of 2^exponent. A value: its array is read-only."""

    exponent: int
    totals: NDArray[np.int64]

    def __post_init__(self) -> None:
        self.totals.flags.writeable = False

    def mean(self, samples: int) -> NDArray[np.float64]:
        """The mean over so many samples, float64 (C,)."""
        return np.ldexp(self.totals.astype(np.float64), self.exponent) / samples


@dataclass(frozen=True)
class Sums:
    """Sums by name over the named samples, computed within one numerics class.

    `subject` is the SHA-256 of whatever else decides them (scale tables, corrections, stage): only sums of one subject
    merge. `samples` are manifest indices.
    """

    numerics_class: NumericsClass
    subject: str
    samples: frozenset[int]
    quantities: Mapping[str, ExactSum]

    def merge(self, other: "Sums") -> "Sums":
        """The sums of both sample sets: associative, commutative and exact.

        Raises QuantfleetError: NUMERICS_MISMATCH where the two are of different things, SAMPLES_OVERLAP.
        """
        here = {name: (item.exponent, item.totals.size) for name, item in self.quantities.items()}
        there = {name: (item.exponent, item.totals.size) for name, item in other.quantities.items()}
        if (self.numerics_class, self.subject, here) != (other.numerics_class, other.subject, there):
            raise QuantfleetError(
                ErrorCode.NUMERICS_MISMATCH,
                "two shards added up different things, or in different numerics classes",
                "run one version of quantfleet on all nodes of one kind",
            )
        overlap = self.samples & other.samples
        if overlap:
            raise samples_overlap(min(overlap), len(overlap))
        return Sums(
            self.numerics_class,
            self.subject,
            self.samples | other.samples,
            {
                name: ExactSum(item.exponent, item.totals + other.quantities[name].totals)
                for name, item in self.quantities.items()
            },
        )

    def mean(self, name: str) -> NDArray[np.float64]:
        """The mean of one quantity over the samples, float64 (C,)."""
        return self.quantities[name].mean(len(self.samples))

    def to_json(self) -> bytes:
        """Canonical JSON, schema quantfleet/sums/v1: the same sums give the same bytes on every machine."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "numerics_class": asdict(self.numerics_class),
                "subject": self.subject,
                "samples": sorted(self.samples),
                "quantities": {
                    name: {"exponent": item.exponent, "totals": item.totals.tolist()}
                    for name, item in self.quantities.items()
                },
            }
        )

    @staticmethod
    def from_json(data: bytes) -> "Sums":
        """The sums of their JSON. Raises QuantfleetError(PARTIAL_INVALID): where, what."""
        try:
            return _read(parse_json(data))
        except MalformedError as error:
            raise QuantfleetError(
                ErrorCode.PARTIAL_INVALID, f"not a sum over samples: {error}", "run the task again"
            ) from error


def merge_sums(parts: list[Sums]) -> Sums:
    """All parts as one; their order does not matter. Raises as `Sums.merge`, and DATA_EMPTY for an empty list."""
    if not parts:
        raise QuantfleetError(ErrorCode.DATA_EMPTY, "there is nothing to add up", "give at least one sample")
    return reduce(Sums.merge, parts)


class SumsAccumulator:
    """Adds a shard's samples up for `Sums`. `exponents` gives each quantity's unit (see `unit_exponent`)."""

    def __init__(self, numerics_class: NumericsClass, subject: str, exponents: Mapping[str, int]) -> None:
        self._numerics_class = numerics_class
        self._subject = subject
        self._exponents = dict(exponents)
        self._samples: set[int] = set()
        self._totals: dict[str, NDArray[np.int64]] = {}

    def add(self, sample_index: int, sample_name: str, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Add one sample: `values` maps every quantity to its float32 vector (C,).

        Raises QuantfleetError: SAMPLES_OVERLAP, SAMPLE_NOT_FINITE where a value is not finite or out of all proportion.
        """
        if sample_index in self._samples:
            raise samples_overlap(sample_index, 1)
        self._samples.add(sample_index)
        if len(self._samples) > _MOST_SAMPLES:
            raise QuantfleetError(
                ErrorCode.JOB_INVALID, f"more than {_MOST_SAMPLES} samples", "calibrate with fewer samples"
            )
        for name, exponent in self._exponents.items():
            scaled = np.ldexp(values[name].astype(np.float64), -exponent)
            if not (np.abs(scaled) < _MOST).all():
                raise QuantfleetError(
                    ErrorCode.SAMPLE_NOT_FINITE,
                    f"{name} is not finite, or far beyond its range, on sample {sample_name!r}",
                    "check the preprocessing of this sample, or leave it out of the calibration data",
                )
            rounded = np.rint(scaled).astype(np.int64)
            self._totals[name] = self._totals[name] + rounded if name in self._totals else rounded

    def sums(self) -> Sums:
        """What was added up so far, as a value of its own."""
        return Sums(
            self._numerics_class,
            self._subject,
            frozenset(self._samples),
            {name: ExactSum(self._exponents[name], total.copy()) for name, total in self._totals.items()},
        )


def _read(document: Node) -> Sums:
    members = document.members(("schema", "numerics_class", "subject", "samples", "quantities"))
    if members["schema"].text() != SCHEMA:
        raise members["schema"].malformed(f'"{SCHEMA}"')
    samples = frozenset(node.integer(0) for node in members["samples"].items())
    quantities = {
        name: _read_sum(node.members(("exponent", "totals")), len(samples))
        for name, node in members["quantities"].entries()
    }
    return Sums(read_numerics(members["numerics_class"]), members["subject"].text(), samples, quantities)


def _read_sum(found: Mapping[str, Node], samples: int) -> ExactSum:
    exponent = found["exponent"].integer(-_FURTHEST)
    if exponent > _FURTHEST:
        raise found["exponent"].malformed(f"an exponent up to {_FURTHEST}")
    # What no so many samples can add up to would overflow when it is merged.
    most = min(samples, _MOST_SAMPLES) * int(_MOST)
    totals = [(item, item.integer(-most)) for item in found["totals"].items()]
    for item, total in totals:
        if total > most:
            raise item.malformed(f"at most {most}, for so many samples")
    return ExactSum(exponent, np.array([total for _, total in totals], np.int64))
