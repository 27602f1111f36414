"""What a measurement runs over and over: one variant, loaded and fed. Not for timing it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from quantfleet_domain.jobs.work import BenchmarkWork, ModelForm
from quantfleet_domain.measurement.protocol import Mode, Protocol
from quantfleet_worker.engines.base import Array, Session
from quantfleet_worker.postprocessing.reading import reader
from quantfleet_worker.preprocessing.preprocessor import Prepared
from quantfleet_worker.tasks.feeding import Feeder, feeder, inputs_of
from quantfleet_worker.tasks.workspace import Workspace

_SEED = 20
_MODEL_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Contender:
    """A variant ready to be timed: `run` is one timed run, `parts_ns` what its parts took by the device's own clock;
    `feeds` are the arrays of one batch."""

    form: ModelForm
    session: Session
    feeds: Mapping[str, Array]
    run: Callable[[], object]
    parts_ns: Callable[[], Mapping[str, int]] = dict

    @property
    def model_bytes(self) -> int:
        """Size of the model's own files, bytes; its configuration does not count."""
        return sum(ref.size for ref in self.form.files if not ref.name.endswith(_MODEL_SUFFIXES))


class Inputs:
    """The batches that are fed: real samples where the job has them, else noise from a fixed seed."""

    def __init__(self, work: BenchmarkWork, workspace: Workspace) -> None:
        self._work = work
        self._workspace = workspace
        self._encoded: list[tuple[str, bytes]] = []
        if work.data is not None:
            self._encoded = [(sample.name, content) for _, sample, content in workspace.samples(work.data)]

    def contender(self, session: Session, form: ModelForm, protocol: Protocol) -> Contender:
        """Feed a session as the protocol's mode asks. Raises PREPROCESS_INVALID, SAMPLE_UNREADABLE."""
        inputs = inputs_of(session, self._work.input_shapes)
        if not self._encoded:
            random = np.random.default_rng(_SEED)
            feeds: dict[str, Array] = {
                item.name: random.random((protocol.batch, *item.shape[1:])).astype(item.dtype) for item in inputs
            }
            session.bind(feeds)
            return Contender(form, session, feeds, session.run_bound, session.parts_ns)
        feed = feeder(self._workspace, inputs, self._work.preprocess)
        batch = islice(cycle(self._encoded), protocol.batch)
        feeds = _stacked([feed.prepare(content, name) for name, content in batch])
        session.bind(feeds)  # in every mode: its nodes are counted on what it will be fed
        if protocol.mode == Mode.RUNTIME:
            return Contender(form, session, feeds, session.run_bound, session.parts_ns)
        return Contender(form, session, feeds, self._end_to_end(session, feed, protocol.batch))

    def _end_to_end(self, session: Session, feed: Feeder, batch: int) -> Callable[[], object]:
        batches = cycle([list(islice(cycle(self._encoded), i, i + batch)) for i in range(len(self._encoded))])
        kind = self._work.kind or feed.configuration.kind
        read = reader(kind, feed.configuration.suppression, restored=feed.restored)

        def end_to_end() -> object:
            prepared = [feed.prepare(content, sample) for sample, content in next(batches)]
            return read(session.run(_stacked(prepared)), [item.geometry for item in prepared])

        return end_to_end


def _stacked(prepared: Sequence[Prepared]) -> dict[str, Array]:
    return {name: np.concatenate([item.feeds[name] for item in prepared]) for name in prepared[0].feeds}
