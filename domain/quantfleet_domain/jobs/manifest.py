"""The manifest: the ordered samples of a data set, by digest. Not for finding them on a disk (the client does that)."""

import json
from dataclasses import dataclass
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

SCHEMA = "quantfleet/manifest/v1"


@dataclass(frozen=True)
class Sample:
    """One sample: its file name, SHA-256 in hex, size in bytes, and its class label where there is one."""

    name: str
    digest: str
    size: int
    label: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The samples in order; a sample's index in it is its name everywhere else."""

    samples: tuple[Sample, ...]

    def to_json(self) -> bytes:
        """Canonical JSON: one sample an object, keys sorted, no white space but a final newline."""
        rows = [
            {"digest": s.digest, "name": s.name, "size": s.size}
            if s.label is None
            else {"digest": s.digest, "label": s.label, "name": s.name, "size": s.size}
            for s in self.samples
        ]
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


def _sample(row: Any) -> Sample:
    sample = Sample(row["name"], row["digest"], row["size"], row.get("label"))
    texts = isinstance(sample.name, str) and isinstance(sample.digest, str)
    # A bool is an int to isinstance, and none here.
    if not texts or type(sample.size) is not int or sample.size < 0 or type(sample.label) not in (int, type(None)):
        raise ValueError(f"{row!s:.100} is no sample")
    return sample
