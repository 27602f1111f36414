"""What a collector of activations does: run samples through the reference graph and count. Not how it does it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.partial import Partial


class Collector(ABC):
    """Counts the observed tensors of one shard's samples. All collectors count the same. Not thread-safe.

    `name` says what counts, and why where that is not the fastest: for the record.
    """

    name: str

    @abstractmethod
    def observe(self, sample_index: int, sample_name: str, feeds: Mapping[str, NDArray[np.float32]]) -> None:
        """Run one sample, the graph's inputs by name, and count it as the `sample_index`-th of the manifest.

        Raises QuantfleetError: ENGINE_FAILED, SAMPLE_NOT_FINITE where a tensor holds a NaN or an infinity,
        SAMPLES_OVERLAP where this sample was observed before. After an error the shard is to be begun anew.
        """

    @abstractmethod
    def partial(self) -> Partial:
        """What was observed so far, as a value of its own."""
