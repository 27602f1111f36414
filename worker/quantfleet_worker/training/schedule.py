"""The learning rate as a function of the iteration alone: an interval needs no state of it. Not an optimizer."""

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int], float]
"""From the number of iterations done before to the learning rate of the next one."""


@dataclass(frozen=True)
class Constant:
    """One learning rate throughout."""

    rate: float

    def __call__(self, done: int) -> float:
        """The learning rate after `done` iterations."""
        del done
        return self.rate


@dataclass(frozen=True)
class Cosine:
    """SGDR's annealing without restarts (https://arxiv.org/abs/1608.03983), Paddle's `CosineAnnealingDecay`."""

    rate: float
    period: int
    least: float = 0.0

    def __call__(self, done: int) -> float:
        """The learning rate after `done` iterations."""
        return self.least + (self.rate - self.least) * (1 + math.cos(math.pi * done / self.period)) / 2


@dataclass(frozen=True)
class Piecewise:
    """`rates[i]` before iteration `boundaries[i]`, the last rate after them all; Paddle's `PiecewiseDecay`."""

    boundaries: tuple[int, ...]
    rates: tuple[float, ...]

    def __call__(self, done: int) -> float:
        """The learning rate after `done` iterations."""
        return self.rates[sum(done >= boundary for boundary in self.boundaries)]


@dataclass(frozen=True)
class Polynomial:
    """From `rate` to 0 over `iters` iterations with power 0.9, as PaddleSeg's configurations decay it."""

    rate: float
    iters: int

    def __call__(self, done: int) -> float:
        """The learning rate after `done` iterations."""
        return self.rate * float((1 - min(done, self.iters) / self.iters) ** 0.9)
