"""Times a calibrator against the plain forward pass in one process, both on one core. Not the calibrators themselves.

Processor time is counted, not the clock: other programs on the machine then cost neither side anything but cache.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence

from bench.cases import Array

_BLOCK = 5


def one_core() -> None:
    """Keep this process, and every thread pool that a tool starts later, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"


class Interleaved(Sequence[Array]):
    """Samples to calibrate with; whoever takes them runs a block of plain forward passes before every fifth one.

    The forward passes of a block are timed, save the first, which finds a cold cache. Give it to a calibrator as soon
    as it is made: what passes until the first sample is taken is the calibrator's set-up.
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        count: int,
        forward: Callable[[Array], object],
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._arrays = arrays
        self._count = count
        self._forward = forward
        self._clock = clock
        self._excluded = 0.0
        self._timed = 0.0
        self._forwards = 0
        self._made = self._clock()
        self._first: float | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Array:  # type: ignore[override] # no tool takes slices
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index % _BLOCK == 0:
            self._block()
        return self._arrays[index % len(self._arrays)]

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(self._count))

    def times(self) -> tuple[float, float]:
        """Processor time in s until the first sample was taken, and from then until now without the forward passes."""
        if self._first is None:
            raise ValueError("no sample was taken")
        return self._first - self._made, self._clock() - self._first - self._excluded

    @property
    def forward_seconds(self) -> float:
        """The mean processor time of one forward pass in s."""
        return self._timed / self._forwards

    def _block(self) -> None:
        started = self._clock()
        if self._first is None:
            self._first = started
        for index in range(_BLOCK + 1):
            if index == 1:
                warm = self._clock()
            self._forward(self._arrays[index % len(self._arrays)])
        ended = self._clock()
        self._excluded += ended - started
        self._timed += ended - warm
        self._forwards += _BLOCK
