"""What a measurement runs over and over: one variant, loaded and fed. Not for timing it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.jobs.work import BenchmarkWork, ModelForm
from quantfleet_domain.measurement.protocol import Mode, Protocol
from quantfleet_worker.engines.base import Array, Session
from quantfleet_worker.preprocessing.postprocess import top_classes
from quantfleet_worker.tasks.evaluating import BEST
from quantfleet_worker.tasks.feeding import feeder
from quantfleet_worker.tasks.workspace import Workspace

_SEED = 20
_MODEL_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Contender:
    """A variant ready to be timed: `run` is one timed run; `feeds` are the arrays of one batch."""

    form: ModelForm
    session: Session
    feeds: Mapping[str, Array]
    run: Callable[[], object]

    @property
    def model_bytes(self) -> int:
        """Size of the model's own files, bytes; its configuration does not count."""
        return sum(ref.size for ref in self.form.files if not ref.name.endswith(_MODEL_SUFFIXES))


class Inputs:
    """The batches that are fed: real samples where the job has them, else noise from a fixed seed."""

    def __init__(self, work: BenchmarkWork, workspace: Workspace) -> None:
        self._shapes = [InputTensor(shape.name, shape.dims, "float32") for shape in work.input_shapes]
        self._encoded: list[tuple[str, bytes]] = []
        self._tensors: list[Array] = []
        if work.data is not None:
            self._feeder = feeder(workspace, tuple(self._shapes), work.preprocess)
            self._encoded = [(sample.name, content) for _, sample, content in workspace.samples(work.data)]
            self._tensors = [self._feeder.tensor(content, name) for name, content in self._encoded]

    def contender(self, session: Session, form: ModelForm, protocol: Protocol) -> Contender:
        """Feed a session as the protocol's mode asks."""
        feeds = self._feeds(session, protocol.batch)
        session.bind(feeds)  # in every mode: its nodes are counted on what it will be fed
        if protocol.mode == Mode.RUNTIME:
            return Contender(form, session, feeds, session.run_bound)
        batches = cycle([list(islice(cycle(self._encoded), i, i + protocol.batch)) for i in range(len(self._encoded))])
        name = next(iter(feeds))

        def end_to_end() -> Array:
            batch = [self._feeder.tensor(content, sample) for sample, content in next(batches)]
            return top_classes(next(iter(session.run({name: np.concatenate(batch)}).values())), BEST)

        return Contender(form, session, feeds, end_to_end)

    def _feeds(self, session: Session, batch: int) -> dict[str, Array]:
        if self._tensors:
            name = next(iter(session.inputs))
            return {name: np.concatenate(list(islice(cycle(self._tensors), batch)))}
        random = np.random.default_rng(_SEED)
        shapes = {item.name: item.shape for item in self._shapes}
        return {
            name: random.random((batch, *shapes[name][1:])).astype(dtype) for name, (_, dtype) in session.inputs.items()
        }
