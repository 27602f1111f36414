"""The contract of an engine. Every engine passes its contract suite; nothing here knows one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.measured import Conversion

Array = NDArray[Any]


@dataclass(frozen=True)
class NodeCounts:
    """How much of a loaded model really runs in INT8, from the engine's own account (profile, graph, log).

    `quantizable` counts the nodes that the quantizer meant to run in INT8 (convolutions and matrix products),
    `int8` those that did; `fallbacks` names the rest, as `name (operator): reason`. `ran` names those that did, as
    `name (operator)`. `conversions` are what the engine put between nodes: changes of layout, and conversions between
    integers and floating point.
    """

    int8: int
    quantizable: int
    fallbacks: tuple[str, ...]
    ran: tuple[str, ...] = ()
    conversions: tuple[Conversion, ...] = ()


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded: `precision` is one of PRECISIONS, `threads` are intra-op, `batch` is the size to come.

    `form` is that of the model's files, where they are quantized. `shapes` are those of its inputs at that batch, where
    they are known. `kept` is a directory of the worker for what takes long to build; None where nothing is kept.
    """

    precision: str
    threads: int
    batch: int = 1
    form: str = ""
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    kept: Path | None = None


class Session(ABC):
    """A model loaded in one engine, ready to run. Not thread-safe. It lives in one child process and dies with it."""

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """Shape (None for a dynamic dimension) and dtype of every input, by name, in the model's order."""

    @abstractmethod
    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Prepare a batch for `run_bound`; arrays are C-contiguous, their dtype is the input's."""

    @abstractmethod
    def run_bound(self) -> None:
        """Copy the bound inputs in, infer, copy all outputs out: what mode `runtime` times. Allocates little."""

    @abstractmethod
    def outputs(self) -> dict[str, Array]:
        """The outputs of the last `run_bound`, by name, in the model's order."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Infer one batch: `bind`, `run_bound`, `outputs`."""
        self.bind(feeds)
        self.run_bound()
        return self.outputs()

    def parts_ns(self) -> Mapping[str, int]:
        """Nanoseconds that the parts of the last `run_bound` took (`h2d`, `compute`, `d2h`), in that order, by the
        device's own clock. Empty where all is one: on a CPU."""
        return {}

    @abstractmethod
    def settings_in_effect(self) -> dict[str, str]:
        """Settings as read back from the engine (threads, optimisation level, oneDNN, …), not as asked."""

    @abstractmethod
    def node_counts(self) -> NodeCounts:
        """How many nodes ran in INT8. May run the model once; call it outside any timing."""


class Engine(ABC):
    """A runtime. Constructing one imports nothing heavy; `version` and `load` do."""

    name: str
    """The engine's name in jobs and reports, e.g. `onnxruntime-cpu`."""
    runtime: str
    """The family of files it reads: `onnx` or `paddle`."""
    kind: str
    """The kind of device it runs on: `cpu`, `cuda` or `arm`."""
    precisions: tuple[str, ...]
    """What it offers on some device; a particular device may lack one: see `precisions_on`."""
    distribution: str
    """The distribution that brings it, as `pip install` names it."""

    @abstractmethod
    def version(self) -> str:
        """The version of the installed runtime. Raises QuantfleetError(ENGINE_MISSING) where it is not installed."""

    def start(self) -> None:  # noqa: B027 - most engines look at their cores whenever they start threads
        """Have the runtime count its cores, where it counts them once only; called before a process is pinned to fewer.

        Raises QuantfleetError(ENGINE_MISSING) where it is not installed.
        """

    def precisions_on(self, isa: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG002 - most engines have all everywhere
        """Of `precisions`, what a device of this `isa` (see `DeviceFacts.isa`) really has. Imports no runtime."""
        return self.precisions

    def int8_warning(self, isa: tuple[str, ...]) -> str:  # noqa: ARG002 - most engines have nothing to say
        """What a user should expect of INT8 on such a device, where that is less than usual; else empty."""
        return ""

    @abstractmethod
    def load(self, model: Path, options: LoadOptions) -> Session:
        """Load an `.onnx` file, or a directory with a Paddle inference model.

        Raises QuantfleetError(MODEL_UNREADABLE) or QuantfleetError(ENGINE_FAILED).
        """

    @abstractmethod
    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:
        """The form that is fastest in a quantized precision, and does not saturate, on a device of this `isa`."""

    def calibrate_natively(
        self,
        model: Path,
        batches: Iterable[Mapping[str, Array]],
        options: LoadOptions,  # noqa: ARG002 - most engines have no calibrator
        out: Path,  # noqa: ARG002 - likewise
    ) -> None:
        """Find ranges by the engine's own calibrator over all `batches`, and write to directory `out` every file that
        `load` wants in form `native`, the model among them.

        Raises QuantfleetError(ENGINE_FAILED), also where the engine, or this version of it, has no calibrator.
        """
        del model, batches
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED, f"{self.name} has no calibrator of its own", "use quantization static"
        )
