"""A model loaded in Paddle on a GPU, ready to run. Not for how its predictor is made."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import said

from .. import feeds as session_feeds
from ..base import Array
from ..cuda import device
from ..cuda.memory import Stream
from ..cuda.stream_session import StreamSession
from ..cuda.transfers import OnDevice, Transfers
from ..feeds import Inputs
from .bound import Outputs, PaddleMemory, allocate
from .model import Shapes
from .summary import read_summary


class GpuSession(StreamSession):
    """A predictor on a stream of its own, on which its inputs come in and its outputs go out.

    `inputs` are the declared ones, `expected` what may be bound.
    """

    def __init__(self, paddle: Any, inputs: Inputs, expected: Inputs, *, pinned: bool) -> None:
        self.paddle = paddle
        self.stream = paddle.device.cuda.Stream()
        self._inputs = inputs
        self._expected = expected
        self._device = device.current()
        super().__init__(
            Transfers(pinned=pinned, stream=Stream(int(self.stream.cuda_stream)), allocate=self._input_memory)
        )
        self._memory: dict[str, PaddleMemory] = {}
        self._outputs: Outputs
        self._shapes: Shapes = {}
        self._config: Any = None
        self._predictor: Any = None

    @abstractmethod
    def prepare(self, shapes: Shapes) -> tuple[Any, Any]:
        """A configuration on `stream` and its predictor, for inputs of these shapes."""

    @property
    def inputs(self) -> Inputs:
        """See Session."""
        return self._inputs

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """See Session. A first run finds what outputs there are, and checks that they come out right."""
        session_feeds.check(self._expected, feeds)
        shapes = {name: tuple(array.shape) for name, array in feeds.items()}
        self.open(shapes)
        self.transfers.feed(feeds)
        if shapes != self._shapes:
            self._shapes = {}
            for name, memory in self._memory.items():
                self._predictor.get_input_handle(name).share_external_data(memory.tensor)
            self._outputs = Outputs(self.paddle, self._predictor)
            self.transfers.run(self._compute_unknown)
            self._outputs.share(self._outputs.own())
            self.transfers.run(self.compute)
            self._outputs.require(self.transfers.outputs())
            self._shapes = shapes

    def settings_in_effect(self) -> dict[str, str]:
        """What Paddle's configuration says of itself, the GPU, and what the CUDA runtime says of the host's memory."""
        told = read_summary(self._config.summary()) if self._config is not None else {}
        return {
            "paddle": str(self.paddle.__version__),
            **device.settings(self._device),
            **told,
            "host_memory": self.transfers.host_memory(),
            "clock_of_parts": "CUDA events on the predictor's stream",
        }

    def bind_zeros(self) -> None:
        """Bind zeros where nothing is bound: for looking at the model."""
        if not self._shapes:
            self.bind(session_feeds.zeros(self._expected))

    def open(self, shapes: Shapes) -> None:
        """Make the predictor where there is none yet, for inputs of these shapes."""
        if self._predictor is None:
            self._config, self._predictor = self.prepare(shapes)

    def _input_memory(self, name: str, array: Array) -> PaddleMemory:
        self._memory[name] = allocate(self.paddle, array.shape, array.dtype, name)
        return self._memory[name]

    def _compute_unknown(self) -> Mapping[str, OnDevice]:
        self._run()
        return {}

    def compute(self) -> Mapping[str, OnDevice]:
        """See StreamSession."""
        self._run()
        return self._outputs.tensors()

    def _run(self) -> None:
        try:
            self._predictor.run()
        except Exception as error:  # Paddle raises whatever its C++ core meets: there is no common class
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED, f"Paddle cannot run the model: {said(error)}", "read the attempt's log"
            ) from error
