"""An interval of a training, whatever is trained: what goes in, what comes out, and when it fails. Not a training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.training.checkpoint import Checkpoint

Report = Callable[[float, str], None]
"""Takes the share of the interval that is done, 0 … 1, and a line about it."""


@dataclass(frozen=True)
class Interval:
    """`checkpoint` continues the training; `losses` are (iteration, loss), iterations counted from 1."""

    checkpoint: bytes
    losses: tuple[tuple[int, float], ...]


def start(checkpoint: bytes | None, training: str, first: int) -> Checkpoint | None:
    """The state that an interval after `first` iterations continues, None for the beginning.

    Raises QuantfleetError(MODEL_UNREADABLE) where the checkpoint is not the one after `first` iterations.
    """
    if checkpoint is None:
        found, done = None, 0
    else:
        found = Checkpoint.from_bytes(checkpoint, training)
        done = found.done
    if done != first:
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"the interval continues after {first} iterations, and its checkpoint was written after {done}",
            "resume from the checkpoint of the interval before",
        )
    return found


@dataclass(frozen=True)
class Progress:
    """Keeps an interval's losses, stops it where one is not finite, and reports every `every` iterations."""

    first: int
    count: int
    every: int
    report: Report
    losses: list[tuple[int, float]]

    def note(self, done: int, loss: float) -> None:
        """Note the loss of the iteration after `done` others. Raises QuantfleetError(ENGINE_FAILED)."""
        iteration = done + 1
        if not math.isfinite(loss):
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED,
                f"the loss of iteration {iteration} is {loss}: the training has diverged",
                "give a smaller learning rate, and look for samples with extreme values",
            )
        self.losses.append((iteration, loss))
        if iteration % self.every == 0 or iteration == self.first + self.count:
            self.report((iteration - self.first) / self.count, f"iteration {iteration}: loss {loss:.6g}")


def closed(losses: Sequence[tuple[int, float]], checkpoint: Checkpoint) -> Interval:
    """The interval that ended with this state."""
    return Interval(checkpoint.to_bytes(), tuple(losses))
