"""Where a task's child process runs: its cores, its GPU, its interpreter. Not for which device a task is given."""

import sys

from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.jobs.work import BenchmarkWork, EvaluateWork, NativeWork, Work
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.execution.spec import RunSpec


def engine_of(work: Work) -> str:
    """The engine whose process does a task; empty for what is done in the worker's own environment."""
    return work.engine if isinstance(work, BenchmarkWork | EvaluateWork | NativeWork) else ""


def placed(facts: DeviceFacts, engine: str, alone: int, slot: int, equipment: Equipment) -> RunSpec:
    """How a process of an engine runs on a device: alone on its first `alone` cores, or (0) on the core of its slot.

    What runs on a phone takes the core of its proxy; what runs on a GPU sees that GPU only.
    """
    cores = facts.feeding or (facts.cores[:alone] if alone else (facts.slots[slot],))
    interpreter = equipment.interpreters.get(engine, sys.executable)
    environment = {}
    if facts.gpu:
        environment = {"CUDA_VISIBLE_DEVICES": facts.gpu.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return RunSpec(cores, threads=len(cores), interpreter=interpreter, environment=environment)
