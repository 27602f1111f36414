"""A model on a phone, run by `benchmark_bin`. Not for converting it, nor for the order of measurements."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, NodeCounts, Session
from quantfleet_worker.phones.benchmark_bin import (
    INPUT_TYPES,
    MEMORY_RUNS,
    Invocation,
    ToolReport,
    parse,
    values_as_text,
    values_of_text,
)
from quantfleet_worker.phones.phone import Phone
from quantfleet_worker.phones.watching import Running, look_at

RUN_TIMEOUT_S = 1800.0
"""One call of the tool: a phone that takes longer counts as lost."""
_MANY = 1_000_000


@dataclass(frozen=True)
class OnPhone:
    """A converted model on a phone: where it is there, with the tool, and what it takes and gives.

    `inputs` are by name, in the model's order: shape (None for an open dimension) and dtype. `outputs` are the dtypes.
    """

    phone: Phone
    directory: str
    binary: str
    model: str
    inputs: Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
    outputs: Mapping[str, np.dtype[Any]]
    counts: NodeCounts


class PhoneSession(Session):
    """Runs it on `threads` threads. What is bound lies in files on the phone, named with `name`.

    Every call of the tool loads the model anew, so `run_bound` is for values, and `timed` for latencies.
    """

    def __init__(self, model: OnPhone, threads: int, name: str) -> None:
        self._model = model
        self._threads = threads
        self._name = name
        self._shapes: tuple[tuple[int, ...], ...] = ()
        self._files: tuple[str, ...] = ()
        self._results: dict[str, Array] = {}
        self._notes: tuple[str, ...] = ()
        self._running: Running | None = None
        self._library = ""

    @property
    def library(self) -> str:
        """The version of the phone's library, by its last call; empty before the first."""
        return self._library

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """See Session."""
        return self._model.inputs

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """See Session. Raises QuantfleetError: ENGINE_FAILED for other inputs than the model's, MODEL_UNSUPPORTED for a
        dtype that the tool does not read, PHONE_LOST."""
        if feeds.keys() != self.inputs.keys():
            what = f"inputs are {', '.join(self.inputs)}; given are {', '.join(feeds) or 'none'}"
            raise QuantfleetError(ErrorCode.ENGINE_FAILED, what, "feed the model's own inputs")
        foreign = [name for name, (_, dtype) in self.inputs.items() if dtype.name not in INPUT_TYPES]
        if foreign:
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"benchmark_bin cannot feed input {foreign[0]}, which is {self.inputs[foreign[0]][1].name}",
                f"give the model inputs of {', '.join(INPUT_TYPES)}",
            )
        self._shapes = tuple(feeds[name].shape for name in self.inputs)
        self._files = tuple(
            self._put(f"{self._name}-in{place}.txt", values_as_text(feeds[name]))
            for place, name in enumerate(self.inputs)
        )

    def run_bound(self) -> None:
        """See Session. Raises QuantfleetError: ENGINE_FAILED, PHONE_LOST, MODEL_UNSUPPORTED for an output that is not
        float32, which the tool would print as if it were."""
        foreign = [name for name, dtype in self._model.outputs.items() if dtype != np.float32]
        if foreign:
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"benchmark_bin writes outputs as float32, and {foreign[0]} is {self._model.outputs[foreign[0]]}",
                "evaluate a model with outputs in float, or leave the evaluation to another engine",
            )
        directory = self._model.directory
        places = {name: f"{directory}/{self._name}-out{at}.txt" for at, name in enumerate(self._model.outputs)}
        report, _ = self._call(warmup=0, repeats=1, outputs=tuple(places.values()))
        if len(report.shapes) != len(places):
            what = f"benchmark_bin tells {len(report.shapes)} outputs, and the model has {len(places)}"
            raise QuantfleetError(ErrorCode.ENGINE_FAILED, what, "convert the model again")
        pairs = zip(places.items(), report.shapes, strict=True)
        self._results = {name: values_of_text(self._get(place), shape) for (name, place), shape in pairs}

    def outputs(self) -> dict[str, Array]:
        """See Session."""
        return self._results

    def timed(self, warmup: int, repeats: int) -> tuple[ToolReport, str]:
        """One round: what the tool says of it, and the same as it was printed. Raises as `run_bound`."""
        return self._call(warmup=warmup, repeats=repeats)

    def peak_memory_mb(self) -> float | None:
        """The largest resident memory of the tool in a run of its own, MiB; None where its version does not tell."""
        return self._call(warmup=0, repeats=MEMORY_RUNS, memory=True)[0].peak_mb

    def look(self, loading_ms: float) -> Running | None:
        """What a run really has of the phone; None where it does not tell. Raises QuantfleetError(PHONE_LOST)."""
        self._running = look_at(self._model.phone.transport, self._invocation(0, _MANY).command(), loading_ms)
        return self._running

    def settings_in_effect(self) -> dict[str, str]:
        """See Session: what the last `look` saw, and what the tool noted of the power mode that was asked for."""
        seen = self._running
        return {
            "power_mode": "; ".join((self._model.phone.power_mode, *self._notes)),
            "threads": str(seen.threads) if seen else "the phone does not tell",
            "cores": ",".join(map(str, seen.cores)) if seen else "the phone does not tell",
        }

    def node_counts(self) -> NodeCounts:
        """See Session; from the kernels that the converted model names."""
        return self._model.counts

    def _call(
        self, warmup: int, repeats: int, outputs: tuple[str, ...] = (), *, memory: bool = False
    ) -> tuple[ToolReport, str]:
        command = self._invocation(warmup, repeats, outputs, memory=memory).command()
        ran = self._model.phone.transport.run(command, RUN_TIMEOUT_S)
        report = parse(ran.stdout, ran.stderr, ran.code, repeats)
        self._library = report.version
        self._notes = tuple(dict.fromkeys((*self._notes, *report.notes)))
        return report, ran.stdout

    def _invocation(
        self, warmup: int, repeats: int, outputs: tuple[str, ...] = (), *, memory: bool = False
    ) -> Invocation:
        return Invocation(
            binary=self._model.binary,
            model=self._model.model,
            backend=self._model.phone.target,
            power_mode=self._model.phone.power_mode,
            threads=self._threads,
            warmup=warmup,
            repeats=repeats,
            shapes=self._shapes,
            types=tuple(dtype.name for _, dtype in self.inputs.values()),
            inputs=self._files,
            outputs=outputs,
            memory=memory,
        )

    def _put(self, name: str, text: str) -> str:
        remote = f"{self._model.directory}/{name}"
        with tempfile.TemporaryDirectory(prefix="quantfleet-phone-") as folder:
            local = Path(folder) / name
            local.write_text(text)
            self._model.phone.transport.push(local, remote)
        return remote

    def _get(self, remote: str) -> str:
        with tempfile.TemporaryDirectory(prefix="quantfleet-phone-") as folder:
            local = Path(folder) / "pulled"
            self._model.phone.transport.pull(remote, local)
            return local.read_text()
