"""Where a task's process runs: its cores, its GPU and its interpreter."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.domain.jobs.sample_jobs import DATA, device, gpu, phone

from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    EvaluateWork,
    InspectWork,
    NativeWork,
    QuantizeWork,
    Slice,
    Variant,
    Work,
)
from quantfleet_worker.agent.placing import engine_of, placed
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.execution.spec import RunSpec, environment_of

EQUIPMENT = Equipment(Path("kept"), {"paddle-tensorrt": "/opt/paddle26/bin/python"})
SAMPLES = Slice(DATA.manifest, 0, 1)
HOST = replace(device(cores=6), slots=(4, 5))


def run(facts: DeviceFacts = HOST, engine: str = "", alone: int = 0, slot: int = 0) -> RunSpec:
    return placed(facts, engine, alone, slot, EQUIPMENT)


def test_a_shared_task_runs_on_the_core_of_its_slot_and_a_measurement_on_the_first_cores() -> None:
    assert [(run(slot=slot).cores, run(slot=slot).threads) for slot in (0, 1)] == [((4,), 1), ((5,), 1)]
    assert (run(alone=3).cores, run(alone=3).threads) == ((0, 1, 2), 3)


def test_what_runs_on_a_gpu_sees_that_one_alone_whatever_the_worker_sees() -> None:
    first, second = (run(gpu(uuid=uuid)) for uuid in ("GPU-1", "GPU-2"))
    assert (first.cores, first.environment["CUDA_VISIBLE_DEVICES"]) == ((3,), "GPU-1")
    assert environment_of(second, {"CUDA_VISIBLE_DEVICES": "0,1", "PATH": "/bin"})["CUDA_VISIBLE_DEVICES"] == "GPU-2"
    assert set(first.environment) == {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}
    assert run().environment == run(phone()).environment == {}


def test_what_runs_on_a_phone_takes_the_core_of_its_proxy_however_many_threads_the_phone_uses() -> None:
    for alone in (0, 1, 4):
        found = run(phone(), alone=alone)
        assert (found.cores, found.threads) == ((2,), 1)


@pytest.mark.parametrize(
    ("engine", "interpreter"),
    [("paddle-tensorrt", "/opt/paddle26/bin/python"), ("paddle-gpu", sys.executable), ("", sys.executable)],
)
def test_an_engine_of_an_environment_of_its_own_has_its_interpreter_and_no_other_engine(
    engine: str, interpreter: str
) -> None:
    assert run(gpu(), engine).interpreter == interpreter
    assert run(engine=engine).interpreter == interpreter


FILE = FileRef("net.onnx", "a" * 64, 1)
VARIANT = Variant("int8", "static", ())


@pytest.mark.parametrize(
    ("work", "engine"),
    [
        (BenchmarkWork("net", "tensorrt", (), (), (1,), (1,), 1, 1, False, (), None, None), "tensorrt"),
        (EvaluateWork("net", "paddle-gpu", VARIANT, (), SAMPLES, None), "paddle-gpu"),
        (NativeWork("net", "paddle-tensorrt", "paddle-tensorrt", (), (), SAMPLES, None), "paddle-tensorrt"),
        (InspectWork("net", "paddle", (), (), None), ""),
        (QuantizeWork("net", "paddle-tensorrt", "static", "paddle", (), FILE, None, None), ""),
    ],
)
def test_only_what_an_engine_itself_does_is_done_in_its_environment(work: Work, engine: str) -> None:
    assert engine_of(work) == engine
