"""The samples of a task `train`, read from the worker's files. Not for which of them an iteration takes."""

from dataclasses import dataclass
from functools import cached_property

from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.work import Slice
from quantfleet_worker.engines.base import Array
from quantfleet_worker.tasks.feeding import Feeder
from quantfleet_worker.tasks.workspace import Workspace
from quantfleet_worker.training.samples import TrainingSample


@dataclass(frozen=True)
class _Source:
    """Samples of a task by their place in its slice."""

    workspace: Workspace
    part: Slice

    @property
    def count(self) -> int:
        """How many there are."""
        return self.part.count

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The whole manifest."""
        return Manifest.from_json(self.workspace.read(self.part.manifest)).samples


class Pictures(_Source):
    """Samples as a user's recipe takes them."""

    def get(self, index: int) -> TrainingSample:
        """See `Samples`."""
        sample = self.samples[self.part.first + index]
        content = self.workspace.read(FileRef(sample.name, sample.digest, sample.size))
        mask = self.workspace.read(sample.mask) if sample.mask else None
        return TrainingSample(sample.name, content, sample.label, mask)


@dataclass(frozen=True)
class Tensors(_Source):
    """Samples as model inputs."""

    feed: Feeder

    def get(self, index: int) -> dict[str, Array]:
        """See `Samples`."""
        sample = self.samples[self.part.first + index]
        content = self.workspace.read(FileRef(sample.name, sample.digest, sample.size))
        return self.feed.prepare(content, sample.name).feeds
