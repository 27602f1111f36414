"""What every session on a GPU does alike: a batch goes there and back on one stream. Not for what computes it."""

from abc import abstractmethod
from collections.abc import Mapping

from ..base import Array, Session
from .transfers import OnDevice, Transfers


class StreamSession(Session):
    """A session whose batches are in `transfers`."""

    def __init__(self, transfers: Transfers) -> None:
        self.transfers = transfers

    @abstractmethod
    def compute(self) -> Mapping[str, OnDevice]:
        """Put the model's work on the stream, and say where its outputs will lie. Raises
        QuantfleetError(ENGINE_FAILED)."""

    def run_bound(self) -> None:
        """Copy the inputs to the device, infer, and copy all outputs back, on one stream. Raises as `compute`."""
        self.transfers.run(self.compute)

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last `run_bound`."""
        return self.transfers.outputs()

    def parts_ns(self) -> Mapping[str, int]:
        """Nanoseconds of the last run's `h2d`, `compute` and `d2h`, by CUDA events around each."""
        return self.transfers.parts_ns()
