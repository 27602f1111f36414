"""The raw samples as an artifact: what every figure of a report can be computed from again. Not for summaries."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.measurement.protocol import Protocol

SCHEMA = "quantfleet/samples/v1"


@dataclass(frozen=True)
class Samples:
    """Latencies of one interleaved measurement: per variant (by name), block by block, nanoseconds in timed order.

    Raises ValueError where a variant has other blocks than the protocol says, or a sample is not positive.
    """

    protocol: Protocol
    variants: Mapping[str, tuple[tuple[int, ...], ...]]

    def __post_init__(self) -> None:
        for name, blocks in self.variants.items():
            if tuple(len(block) for block in blocks) != self.protocol.block_sizes:
                raise ValueError(f"variant {name} does not have the blocks of its protocol")
            if any(type(sample) is not int or sample <= 0 for block in blocks for sample in block):
                raise ValueError(f"variant {name} has a sample that is not a positive whole number of ns")


def encode(samples: Samples) -> bytes:
    """The artifact's bytes: canonical JSON (sorted keys, no spaces, UTF-8), the same for the same samples."""
    document = {
        "schema": SCHEMA,
        "unit": "ns",
        "protocol": asdict(samples.protocol),
        "variants": {name: [list(block) for block in blocks] for name, blocks in samples.variants.items()},
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes) -> Samples:
    """Read `encode`'s bytes. Raises QuantfleetError(REPORT_INVALID) for anything else."""
    try:
        document: Any = json.loads(data)
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}")
        if document["unit"] != "ns":
            raise ValueError(f"its unit is {document['unit']!r}")
        variants = {name: tuple(tuple(block) for block in blocks) for name, blocks in document["variants"].items()}
        return Samples(Protocol(**document["protocol"]), variants)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QuantfleetError(
            ErrorCode.REPORT_INVALID,
            f"this is no raw samples file: {error}",
            f"give a file of schema {SCHEMA}",
        ) from error
