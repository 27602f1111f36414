"""Which kept partial statistics serve a job again, and under which indices. Not for where they are kept.

Samples are known by their content, so a manifest that was extended, cut or put in another order still finds its own.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from quantfleet_domain.calibration.auto import part_of
from quantfleet_domain.calibration.partial import Partial
from quantfleet_domain.jobs.manifest import Manifest


@dataclass(frozen=True)
class Kept:
    """A partial statistic and the manifest that its samples are indices in; `name` orders equals."""

    name: str
    manifest: Manifest
    partial: Partial

    def digests(self) -> Counter[str]:
        """What its samples are, by content."""
        return Counter(self.manifest.samples[index].digest for index in self.partial.samples)

    def is_sound(self) -> bool:
        """Whether its samples are all in its manifest, and of one part (see `calibration.auto`).

        A job with other statistics has failed by them; the next one is not to.
        """
        known = self.manifest.samples
        if not all(index < len(known) for index in self.partial.samples):
            return False
        return len({part_of(known[index].digest) for index in self.partial.samples}) == 1


def recall(wanted: Manifest, kept: Sequence[Kept]) -> tuple[tuple[Kept, ...], Manifest]:
    """The kept partials to use for `wanted`, each wholly within it and no two of one sample, and the samples missing.

    Those that are not sound are left aside; the largest come first: fewer merges, and less in the way of others.
    """
    remaining = Counter(sample.digest for sample in wanted.samples)
    chosen = []
    sound = (item for item in kept if item.is_sound())
    for item in sorted(sound, key=lambda item: (-len(item.partial.samples), item.name)):
        digests = item.digests()
        if digests <= remaining:
            remaining -= digests
            chosen.append(item)
    missing = []
    for sample in wanted.samples:
        if remaining[sample.digest] > 0:
            remaining[sample.digest] -= 1
            missing.append(sample)
    return tuple(chosen), Manifest(tuple(missing))


class Renumbering:
    """Gives partials the indices of one manifest. A sample that occurs twice in it gets each of its indices once."""

    def __init__(self, manifest: Manifest) -> None:
        self._free: dict[str, deque[int]] = defaultdict(deque)
        for index, sample in enumerate(manifest.samples):
            self._free[sample.digest].append(index)

    def take(self, partial: Partial, manifest: Manifest) -> Partial:
        """The partial, whose samples are indices in `manifest`, in indices of this one.

        Raises KeyError where a sample is not, or not often enough, in it.
        """
        indices = {}
        for index in sorted(partial.samples):
            free = self._free[manifest.samples[index].digest]
            if not free:
                raise KeyError(manifest.samples[index].name)
            indices[index] = free.popleft()
        return partial.renumbered(indices)
