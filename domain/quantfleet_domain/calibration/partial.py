"""A partial statistic: what one shard, or many merged, saw of a model's activations. Not for thresholds or scales.

Bytes of a partial, format 1, the same for the same content on every machine (so nothing is compressed here: compressors
differ between machines):

    b"QFPARTIAL" 0x01
    varint length, canonical JSON {"numerics_class": {...}, "tensors": [names in code point order]}
    index list of the samples
    per tensor, in that order:
        varint B, then B varints: the bins (first, then differences less one), then B varints: the counts less one
        0x01 if the tensor saw every sample, else 0x00 and an index list of those it saw: N samples
        N float32 minima, N float32 maxima, little-endian
    SHA-256 of everything before, 32 bytes

An index list is varint N, then N varints: the first index, then differences less one. Varints are LEB128.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import reduce
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.canonical import MalformedError, canonical_json, parse_json
from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.numerics import read_numerics
from quantfleet_domain.calibration.statistic import (
    BINS,
    MOST_ELEMENTS,
    StatisticAccumulator,
    TensorStatistic,
    bin_of,
    extremes_statistic,
    is_finite_bin,
    samples_overlap,
)
from quantfleet_domain.calibration.varint import decode_varints, encode_varints
from quantfleet_domain.errors import ErrorCode, QuantfleetError

_MAGIC = b"QFPARTIAL\x01"
_DIGEST_BYTES = 32
_ALL_SAMPLES = b"\x01"
_SOME_SAMPLES = b"\x00"


@dataclass(frozen=True)
class Partial:
    """Statistics per tensor of the named samples, computed within one numerics class.

    `samples` are manifest indices; `tensors` maps a reference graph's activation to its statistic.
    """

    numerics_class: NumericsClass
    samples: frozenset[int]
    tensors: Mapping[str, TensorStatistic]

    def merge(self, other: "Partial") -> "Partial":
        """The partial of both sample sets: associative, commutative and exact.

        Raises QuantfleetError: NUMERICS_MISMATCH where the numerics classes differ, PARTIAL_INVALID where the tensors
        do, SAMPLES_OVERLAP where a sample is in both.
        """
        if self.numerics_class != other.numerics_class:
            raise _numerics_mismatch(self.numerics_class, other.numerics_class)
        if self.tensors.keys() != other.tensors.keys():
            lonely = sorted(self.tensors.keys() ^ other.tensors.keys())
            raise QuantfleetError(
                ErrorCode.PARTIAL_INVALID,
                f"two partial statistics are of different tensors: only one has {', '.join(map(repr, lonely[:5]))}",
                "calibrate all shards with one instrumented graph",
            )
        overlap = self.samples & other.samples
        if overlap:
            raise samples_overlap(min(overlap), len(overlap))
        return Partial(
            self.numerics_class,
            self.samples | other.samples,
            {name: statistic.merge(other.tensors[name]) for name, statistic in self.tensors.items()},
        )

    def without(self, other: "Partial") -> "Partial":
        """The partial that gives this one when it is merged with `other`, whose samples must be among this one's."""
        return Partial(
            self.numerics_class,
            self.samples - other.samples,
            {name: _without(statistic, other.tensors[name]) for name, statistic in self.tensors.items()},
        )

    def renumbered(self, indices: Mapping[int, int]) -> "Partial":
        """The same samples under other indices: `indices` maps each to its new one, no two to the same."""
        return Partial(
            self.numerics_class,
            frozenset(indices[index] for index in self.samples),
            {name: _renumbered(statistic, indices) for name, statistic in self.tensors.items()},
        )

    def encode(self) -> bytes:
        """The canonical bytes (see the module's first lines)."""
        names = sorted(self.tensors)
        header = canonical_json({"numerics_class": asdict(self.numerics_class), "tensors": names})
        everything = np.array(sorted(self.samples), np.int64)
        parts = [_MAGIC, _varint(len(header)), header, _index_list(everything)]
        for name in names:
            statistic = self.tensors[name]
            parts += [_index_list(statistic.bins), encode_varints(statistic.counts - 1)]
            whole = statistic.samples.size == everything.size
            parts += [_ALL_SAMPLES] if whole else [_SOME_SAMPLES, _index_list(statistic.samples)]
            parts += [_floats(statistic.sample_minimum), _floats(statistic.sample_maximum)]
        body = b"".join(parts)
        return body + sha256(body).digest()

    @staticmethod
    def decode(data: bytes) -> "Partial":
        """The partial of its canonical bytes; any other bytes raise QuantfleetError(PARTIAL_INVALID)."""
        try:
            partial = _decode(data)
            # Several spellings of one content (padded varints, spaces in the header) would be several digests of it.
            if partial.encode() != data:
                raise MalformedError("its encoding is not the canonical one")
        except ValueError as error:
            raise QuantfleetError(
                ErrorCode.PARTIAL_INVALID,
                f"not a partial statistic of format 1: {error}",
                "fetch the artifact again, or calibrate the shard again",
            ) from error
        return partial


def _without(statistic: TensorStatistic, other: TensorStatistic) -> TensorStatistic:
    counts = statistic.counts.copy()
    counts[np.searchsorted(statistic.bins, other.bins)] -= other.counts
    left, kept = counts > 0, ~np.isin(statistic.samples, other.samples)
    return TensorStatistic(
        statistic.bins[left],
        counts[left],
        statistic.samples[kept],
        statistic.sample_minimum[kept],
        statistic.sample_maximum[kept],
    )


def _renumbered(statistic: TensorStatistic, indices: Mapping[int, int]) -> TensorStatistic:
    samples = np.array([indices[index] for index in statistic.samples.tolist()], np.int64)
    order = np.argsort(samples)
    return TensorStatistic(
        statistic.bins,
        statistic.counts,
        samples[order],
        statistic.sample_minimum[order],
        statistic.sample_maximum[order],
    )


def merge_partials(partials: list[Partial]) -> Partial:
    """All partials as one; their order does not matter. Raises as `Partial.merge`, and DATA_EMPTY for an empty list."""
    if not partials:
        raise QuantfleetError(
            ErrorCode.DATA_EMPTY, "there is no partial statistic to merge", "calibrate at least one sample"
        )
    return reduce(Partial.merge, partials)


class PartialAccumulator:
    """Observes a shard's samples for a `Partial`. `tensors` are the activations that every sample must bring."""

    def __init__(self, numerics_class: NumericsClass, tensors: tuple[str, ...]) -> None:
        self._numerics_class = numerics_class
        extremes_only = numerics_class.extremes_only
        self._tensors = {name: StatisticAccumulator(name, extremes_only=extremes_only) for name in tensors}
        self._samples: set[int] = set()

    def observe(self, sample_index: int, sample_name: str, activations: Mapping[str, NDArray[np.float32]]) -> None:
        """Counts one sample: `activations` maps every tensor to its float32 array of any shape.

        Raises as `StatisticAccumulator.observe`; after an error the shard is to be begun anew.
        """
        if sample_index in self._samples:
            raise samples_overlap(sample_index, 1)
        self._samples.add(sample_index)
        for name, accumulator in self._tensors.items():
            accumulator.observe(sample_index, activations[name], sample_name)

    def partial(self) -> Partial:
        """What was observed so far, as a value of its own."""
        return Partial(
            self._numerics_class,
            frozenset(self._samples),
            {name: accumulator.statistic() for name, accumulator in self._tensors.items()},
        )


def _numerics_mismatch(one: NumericsClass, other: NumericsClass) -> QuantfleetError:
    pairs = [(field.name, getattr(one, field.name), getattr(other, field.name)) for field in fields(NumericsClass)]
    values = "; ".join(f"{name}: {here!r} and {there!r}" for name, here, there in pairs if here != there)
    return QuantfleetError(
        ErrorCode.NUMERICS_MISMATCH,
        f"two partial statistics are of different numerics classes ({values})",
        "calibrate all shards of a job on workers of one numerics class",
    )


def _varint(value: int) -> bytes:
    return encode_varints(np.array([value], np.int64))


def _index_list(indices: NDArray[np.int64]) -> bytes:
    """Strictly increasing, non-negative indices."""
    return _varint(indices.size) + encode_varints(np.diff(indices, prepend=-1) - 1)


def _floats(values: NDArray[np.float32]) -> bytes:
    return values.astype("<f4").tobytes()


def _decode(data: bytes) -> Partial:
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not body.startswith(_MAGIC):
        raise MalformedError("it begins with other bytes")
    if sha256(body).digest() != digest:
        raise MalformedError("it is cut off or damaged")
    reader = _Reader(body, len(_MAGIC))
    members = parse_json(reader.take(reader.number())).members(("numerics_class", "tensors"))
    numerics_class = read_numerics(members["numerics_class"])
    names = [node.text() for node in members["tensors"].items()]
    samples = reader.indices()
    tensors = {name: _decode_statistic(reader, name, samples) for name in names}
    if numerics_class.extremes_only and any(
        found != extremes_statistic(found.samples, found.sample_minimum, found.sample_maximum)
        for found in tensors.values()
    ):
        raise MalformedError("it counts more than the extremes that its numerics class says")
    reader.expect_end()
    return Partial(numerics_class, frozenset(samples.tolist()), tensors)


def _decode_statistic(reader: "_Reader", name: str, all_samples: NDArray[np.int64]) -> TensorStatistic:
    bins = reader.indices()
    counts = reader.numbers(bins.size) + 1
    samples = all_samples if reader.take(1) == _ALL_SAMPLES else reader.indices()
    minimum, maximum = reader.floats(samples.size), reader.floats(samples.size)
    if not _among(samples, all_samples):
        raise MalformedError(f"tensor {name!r} saw samples that the partial does not name")
    if bins.size and (bins[-1] >= BINS or not is_finite_bin(bins).all()):
        raise MalformedError(f"tensor {name!r} has a bin outside the partition")
    if (counts < 1).any() or counts.astype(np.float64).sum() > MOST_ELEMENTS:
        raise MalformedError(f"tensor {name!r} has counts beyond {MOST_ELEMENTS}")
    if not (np.isfinite(minimum).all() and np.isfinite(maximum).all() and (minimum <= maximum).all()):
        raise MalformedError(f"tensor {name!r} has extremes that are not finite or not in order")
    if not _among(bin_of(np.concatenate((minimum, maximum))), bins) or (bins.size and not samples.size):
        raise MalformedError(f"tensor {name!r} has extremes that its counts do not hold")
    # Adding zero turns −0 into +0, which is then seen not to be the canonical encoding.
    return TensorStatistic(bins, counts, samples, minimum + np.float32(0), maximum + np.float32(0))


def _among(values: NDArray[np.int64], ordered: NDArray[np.int64]) -> bool:
    """Whether all values are in an array of strictly increasing ones."""
    if not ordered.size:
        return not values.size
    places = np.searchsorted(ordered, values)
    return bool((ordered[np.minimum(places, ordered.size - 1)] == values).all())


class _Reader:
    """Takes the parts of a body one after another; ValueError where it ends too early."""

    def __init__(self, body: bytes, position: int) -> None:
        self._bytes = np.frombuffer(body, np.uint8)
        self._position = position

    def take(self, length: int) -> bytes:
        if length > self._bytes.size - self._position:
            raise MalformedError(f"it ends before byte {self._position + length}")
        self._position += length
        return self._bytes[self._position - length : self._position].tobytes()

    def numbers(self, count: int) -> NDArray[np.int64]:
        values, length = decode_varints(self._bytes[self._position :], count)
        self._position += length
        return values

    def number(self) -> int:
        return int(self.numbers(1)[0])

    def indices(self) -> NDArray[np.int64]:
        differences = self.numbers(self.number())
        indices = np.cumsum(differences + 1) - 1
        if (indices < 0).any():
            raise MalformedError("an index list runs past 63 bits")
        return indices

    def floats(self, count: int) -> NDArray[np.float32]:
        return np.frombuffer(self.take(4 * count), "<f4").astype(np.float32)

    def expect_end(self) -> None:
        if self._position != self._bytes.size:
            raise MalformedError(f"{self._bytes.size - self._position} bytes follow its end")
