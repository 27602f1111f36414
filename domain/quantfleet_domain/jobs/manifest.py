"""The manifest: the ordered samples of a data set, by digest. Not for finding them on a disk (the client does that)."""

import json
from dataclasses import dataclass
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import FileRef

SCHEMA = "quantfleet/manifest/v1"


@dataclass(frozen=True)
class Sample:
    """One sample: its file name, SHA-256 in hex, size in bytes, and what is known of it.

    `label` is its class, `mask` an 8-bit picture of the class of each of its pixels (255: not judged), where there is
    one.
    """

    name: str
    digest: str
    size: int
    label: int | None = None
    mask: FileRef | None = None

    @property
    def digests(self) -> frozenset[str]:
        """Everything that a task which reads the sample reads: its own digest, and its mask's."""
        return frozenset({self.digest, *([self.mask.digest] if self.mask else [])})


@dataclass(frozen=True)
class Manifest:
    """The samples in order; a sample's index in it is its name everywhere else."""

    samples: tuple[Sample, ...]

    def digests(self, first: int = 0, count: int | None = None) -> frozenset[str]:
        """The digests of `count` samples (None: of all the rest) from index `first` on, and of their masks."""
        part = self.samples[first : None if count is None else first + count]
        return frozenset().union(*(sample.digests for sample in part))

    def to_json(self) -> bytes:
        """Canonical JSON: one sample an object, keys sorted, no white space but a final newline."""
        rows = [_row(sample) for sample in self.samples]
        return (json.dumps({"samples": rows, "schema": SCHEMA}, separators=(",", ":")) + "\n").encode()

    @staticmethod
    def from_json(data: bytes) -> "Manifest":
        """Read what `to_json` wrote. Raises QuantfleetError(DATA_NOT_FOUND) where it is anything else."""
        try:
            document = json.loads(data)
            if not isinstance(document, dict) or document.get("schema") != SCHEMA:
                raise ValueError(f"it is not of schema {SCHEMA}")
            return Manifest(tuple(_sample(row) for row in document["samples"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise QuantfleetError(
                ErrorCode.DATA_NOT_FOUND, f"the data set's manifest cannot be read: {error}", "submit the job again"
            ) from error


def _row(sample: Sample) -> dict[str, Any]:
    row: dict[str, Any] = {"digest": sample.digest}
    if sample.label is not None:
        row["label"] = sample.label
    if sample.mask is not None:
        row["mask"] = {"digest": sample.mask.digest, "name": sample.mask.name, "size": sample.mask.size}
    return {**row, "name": sample.name, "size": sample.size}


def _sample(row: Any) -> Sample:
    own = _file(row)
    mask = row.get("mask")
    sample = Sample(own.name, own.digest, own.size, row.get("label"), None if mask is None else _file(mask))
    # A bool is an int to isinstance, and none here.
    if type(sample.label) not in (int, type(None)):
        raise ValueError(f"{row!s:.100} is no sample")
    return sample


def _file(row: Any) -> FileRef:
    ref = FileRef(row["name"], row["digest"], row["size"])
    texts = isinstance(ref.name, str) and isinstance(ref.digest, str)
    if not texts or type(ref.size) is not int or ref.size < 0:
        raise ValueError(f"{row!s:.100} is no sample")
    return ref
