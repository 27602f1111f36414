"""Which codes of an unsigned activation x86 without VNNI can multiply. Not for weights: see `paired_weights`.

There oneDNN multiplies u8 activations by s8 weights with VPMADDUBSW, which adds two neighbouring products in int16.
Paddle derives the scales of weights itself, so they cannot be raised; the range of an activation is widened instead,
until the largest code within it times the largest pair of weights that it meets fits. Depthwise convolutions do not add
in pairs, so what only they read keeps all its codes.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from quantfleet_worker.quantizers.paired_weights import largest_pairs

CODES = 255.0
"""The largest code of an unsigned activation."""
_ROUNDING = 1.0  # two weights may each be rounded up by a half
_INT16 = float(np.iinfo(np.int16).max)


def code_limit(weight: NDArray[np.float32], axis: int, scales: NDArray[np.float32], groups: int) -> float:
    """The largest code, up to 255, that this weight, quantized with `scales` (C,) along `axis`, can be multiplied by.

    `weight` and `groups` are as in `paired_scales`.
    """
    pair = float(np.max(largest_pairs(weight, axis, groups) / scales.astype(np.float64))) + _ROUNDING
    return min(CODES, _INT16 / pair)


class CodeLimits:
    """The largest codes of the tensors of a network, by name."""

    def __init__(self, limits: Iterable[tuple[str, float]], shared: Iterable[tuple[str, ...]]) -> None:
        """`limits` are of what layers read; the tensors of each of `shared` have one scale, as around a pooling."""
        self._limits: dict[str, float] = {}
        for name, limit in limits:
            self._limits[name] = min(limit, self[name])
        groups = [group for group in shared if group]
        settled = False
        while not settled:
            settled = True
            for group in groups:
                least = min(self[name] for name in group)
                settled = settled and all(self[name] == least for name in group)
                self._limits.update(dict.fromkeys(group, least))

    def __getitem__(self, name: str) -> float:
        return self._limits.get(name, CODES)

    def widening(self, name: str) -> float:
        """The factor, at least 1, by which to widen a tensor's range so that its codes end at its limit."""
        return CODES / self[name]
