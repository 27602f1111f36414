"""Training samples by index, and which of them an iteration takes. Not for decoding them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError

SEED = 0
"""Of the samples' order and of everything that is random in a training."""
Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class TrainingSample:
    """A sample as the job's data has it: its bytes, and its class label or its mask's bytes where it has one."""

    name: str
    content: bytes
    label: int | None = None
    mask: bytes | None = None


class Samples(Protocol[Item_co]):
    """Random access to a data set."""

    @property
    def count(self) -> int:
        """How many samples there are."""
        ...

    def get(self, index: int) -> Item_co:
        """Sample `index`, 0 ≤ index < count. Raises IndexError where the data ends before."""
        ...


def batch(done: int, size: int, count: int) -> list[int]:
    """The samples of the iteration after `done` others: a permutation per epoch, whole batches only."""
    epoch, place = divmod(done, count // size)
    order = np.random.default_rng((SEED, epoch)).permutation(count)
    return [int(index) for index in order[place * size : (place + 1) * size]]


def batches(
    samples: Samples[Item], make: Callable[[Item, int, int], Made], first: int, count: int, size: int, workers: int
) -> Iterator[tuple[int, list[Made]]]:
    """(done, what `make(sample, done, index)` made of each sample) for iterations first … first + count − 1.

    With `workers`, as many threads prepare the next iteration while the caller is at this one; the values are the same.
    Raises QuantfleetError(DATA_EMPTY) where there is less than one batch, or the source ends before its count.
    """
    if samples.count < size:
        raise QuantfleetError(
            ErrorCode.DATA_EMPTY,
            f"iteration {first + 1} needs a batch of {size} samples, and the training data has {samples.count}",
            "give more samples or a smaller batch size",
        )

    def one(done: int, index: int) -> Made:
        try:
            sample = samples.get(index)
        except IndexError as error:
            raise QuantfleetError(
                ErrorCode.DATA_EMPTY,
                f"iteration {done + 1} needs sample {index + 1} of {samples.count}, and the training data ends before",
                "check that the data is complete",
            ) from error
        return make(sample, done, index)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(workers)) if workers else None

        def ask(done: int) -> list[Future[Made]]:
            assert pool is not None
            return [pool.submit(one, done, index) for index in batch(done, size, samples.count)]

        ahead = ask(first) if pool else []
        for done in range(first, first + count):
            if pool is None:
                yield done, [one(done, index) for index in batch(done, size, samples.count)]
                continue
            current, ahead = ahead, ask(done + 1) if done + 1 < first + count else []
            yield done, [future.result() for future in current]
