"""The raw samples as an artifact: what every figure of a report can be computed from again. Not for summaries."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.measurement.protocol import Protocol

SCHEMA = "quantfleet/samples/v1"
Blocks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Samples:
    """Latencies of one interleaved measurement: per variant (by name), block by block, nanoseconds in timed order.

    `parts` has, for variants on a device with a clock of its own, those of each part of the same runs.
    Raises ValueError where a variant or a part has other blocks than the protocol says, a sample is not positive, or
    that of a part negative.
    """

    protocol: Protocol
    variants: Mapping[str, Blocks]
    parts: Mapping[str, Mapping[str, Blocks]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, blocks in self.variants.items():
            self._check(f"variant {name}", blocks, least=1)
        for name, parts in self.parts.items():
            if name not in self.variants:
                raise ValueError(f"it has parts of {name} and no runs of it")
            for part, blocks in parts.items():
                self._check(f"part {part} of variant {name}", blocks, least=0)

    def _check(self, what: str, blocks: Blocks, least: int) -> None:
        if tuple(len(block) for block in blocks) != self.protocol.block_sizes:
            raise ValueError(f"{what} does not have the blocks of its protocol")
        if any(type(sample) is not int or sample < least for block in blocks for sample in block):
            raise ValueError(f"{what} has a sample that is no whole number of ns from {least} on")


def encode(samples: Samples) -> bytes:
    """The artifact's bytes: canonical JSON (sorted keys, no spaces, UTF-8), the same for the same samples."""
    document = {
        "schema": SCHEMA,
        "unit": "ns",
        "protocol": asdict(samples.protocol),
        "variants": samples.variants,
    }
    if samples.parts:
        document["parts"] = samples.parts
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes) -> Samples:
    """Read `encode`'s bytes. Raises QuantfleetError(REPORT_INVALID) for anything else."""
    try:
        document: Any = json.loads(data)
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}")
        if document["unit"] != "ns":
            raise ValueError(f"its unit is {document['unit']!r}")
        parts = {name: _read(found) for name, found in document.get("parts", {}).items()}
        return Samples(Protocol(**document["protocol"]), _read(document["variants"]), parts)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QuantfleetError(
            ErrorCode.REPORT_INVALID,
            f"this is no raw samples file: {error}",
            f"give a file of schema {SCHEMA}",
        ) from error


def _read(series: Mapping[str, Any]) -> dict[str, Blocks]:
    return {name: tuple(tuple(block) for block in blocks) for name, blocks in series.items()}
