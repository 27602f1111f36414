"""How a latency is measured: the protocol, and in which order variants take their turns. Not for running anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Mode(StrEnum):
    """What a timed run contains.

    `runtime` is the copy in, the inference and the copy out of a prepared batch; `end2end` adds decoding, pre- and
    post-processing.
    """

    RUNTIME = "runtime"
    END2END = "end2end"


@dataclass(frozen=True)
class Turn:
    """One variant's share of one block: `runs` timed runs in a row. `block` counts from 0."""

    block: int
    variant: str
    runs: int


@dataclass(frozen=True)
class Protocol:
    """One cell of a benchmark: what is timed (`mode`, a `Mode`), how often, and on how many threads and samples a run.

    `warmup` untimed runs, then `repeat` timed runs per variant, cut into `blocks` (fewer where `repeat` is smaller).
    Raises ValueError for a mode that is none, and for counts below 1 (`warmup`: below 0).
    """

    mode: str
    warmup: int = 200
    repeat: int = 1000
    blocks: int = 20
    threads: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        Mode(self.mode)
        if self.warmup < 0:
            raise ValueError(f"warmup is {self.warmup}: it cannot be negative")
        for name in ("repeat", "blocks", "threads", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Timed runs of each block: they add up to `repeat`, the longest is ceil(repeat / blocks), none is empty."""
        blocks = min(self.blocks, self.repeat)
        bounds = [-(-self.repeat * block // blocks) for block in range(blocks + 1)]
        return tuple(end - start for start, end in pairwise(bounds))

    def turns(self, variants: Sequence[str]) -> tuple[Turn, ...]:
        """The interleaved order in which `variants` are timed: every variant once a block.

        A block starts one variant further than the block before, and every second round of blocks runs backwards, so
        that no variant always goes first or always follows the same one, and a linear drift cancels (two variants:
        AB BA BA AB …). The order depends on nothing but the arguments. Raises ValueError where a name comes twice.
        """
        if len(set(variants)) != len(variants) or not variants:
            raise ValueError(f"the variants {list(variants)} must be different, and at least one")
        turns: list[Turn] = []
        for block, runs in enumerate(self.block_sizes):
            round_, first = divmod(block, len(variants))
            order = [*variants[first:], *variants[:first]]
            if round_ % 2:
                order.reverse()
            turns.extend(Turn(block, variant, runs) for variant in order)
        return tuple(turns)
