"""Where a task's child process runs: its cores, its GPU, its interpreter. Not for which device a task is given."""

import sys

from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.jobs.work import BenchmarkWork, EvaluateWork, NativeWork, Work
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.execution.spec import RunSpec


def placed(facts: DeviceFacts, work: Work, alone: int, slot: int, equipment: Equipment) -> RunSpec:
    """How a task runs on a device: alone on its first `alone` cores, or (0) on the core of its slot.

    What runs on a phone takes the core of its proxy; what runs on a GPU sees that GPU only.
    """
    cores = facts.feeding or (facts.cores[:alone] if alone else (facts.slots[slot],))
    interpreter = sys.executable
    if isinstance(work, BenchmarkWork | EvaluateWork | NativeWork):
        interpreter = equipment.interpreters.get(work.engine, sys.executable)
    environment = {}
    if facts.gpu:
        environment = {"CUDA_VISIBLE_DEVICES": facts.gpu.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return RunSpec(cores, threads=len(cores), interpreter=interpreter, environment=environment)
