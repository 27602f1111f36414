"""One watch over all that a measurement's device consists of. Not what is watched of each part."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from quantfleet_domain.measurement.quiet import Conditions

from .conditions import ConditionsWatch
from .gpu_conditions import GpuConditionsWatch

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Watch:
    """The host, and the GPU of this UUID where there is one."""

    def __init__(self, host: ConditionsWatch, gpu: GpuConditionsWatch | None) -> None:
        self._host = host
        self._gpu = gpu

    def sample(self) -> None:
        """Look once at everything, outside of anything timed."""
        if self._gpu is not None:
            # First the GPU, whose clocks fall as soon as it has nothing to do.
            self._gpu.sample()
        self._host.sample()

    def conditions(self) -> Conditions:
        """What was seen from the first sample to the last."""
        seen = self._host.conditions()
        return seen if self._gpu is None else replace(seen, gpu=self._gpu.conditions())


def watch_over(
    kind: str,
    cores: Sequence[int],
    own_pids: Collection[int],
    domain: Sequence[int],
    environment: Mapping[str, str] = os.environ,
) -> Watch:
    """The watch for a device of this `kind` that is fed by `cores`; a GPU is the one that this process sees, by the
    UUID in CUDA_VISIBLE_DEVICES. The rest as for `ConditionsWatch`."""
    gpu = GpuConditionsWatch(environment.get(_VISIBLE, "").split(",")[0], own_pids) if kind == "cuda" else None
    return Watch(ConditionsWatch(cores, own_pids, domain=domain), gpu)
