"""Reads the samples of a network that `networks.py` wrote. Not for running it."""

from pathlib import Path

import numpy as np


def read(network: Path) -> list[dict[str, np.ndarray]]:
    """The feeds of each sample, in order."""
    with np.load(network) as stored:
        samples: list[dict[str, np.ndarray]] = [{} for _ in {name.split()[0] for name in stored.files}]
        for name in stored.files:
            index, entry = name.split()
            samples[int(index)][entry] = stored[name]
    return samples
