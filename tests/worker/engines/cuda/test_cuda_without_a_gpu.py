"""cuda-python is installed where tests run, and no NVIDIA driver: its errors are real ones."""

import re
from pathlib import Path

import numpy as np
import pytest
from cuda.bindings import runtime

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.cuda import device
from quantfleet_worker.engines.cuda.calls import call
from quantfleet_worker.engines.cuda.memory import DeviceBuffer, Event, HostBuffer, Stream
from quantfleet_worker.engines.cuda.transfers import Transfers

ROOM = Path(device.__file__).parent
FLOAT32 = np.dtype(np.float32)


@pytest.mark.parametrize(
    "attempt",
    [
        Stream,
        Event,
        lambda: DeviceBuffer(4),
        lambda: HostBuffer((2, 2), FLOAT32, pinned=True),
        lambda: Transfers(pinned=False),
        device.current,
    ],
)
def test_every_failure_is_an_engine_failure_in_the_runtimes_words(attempt: object) -> None:
    assert callable(attempt)
    with pytest.raises(QuantfleetError, match=r"^cuda\w+: .*\(cudaError\w+\)") as caught:
        attempt()
    assert caught.value.code is ErrorCode.ENGINE_FAILED
    assert "driver for CUDA" in caught.value.todo


STREAM, EVENT = runtime.cudaStream_t(7), runtime.cudaEvent_t(9)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cudaStreamSynchronize", (STREAM,)),
        ("cudaStreamDestroy", (STREAM,)),
        ("cudaEventRecord", (EVENT, STREAM)),
        ("cudaEventElapsedTime", (EVENT, EVENT)),
        ("cudaEventDestroy", (EVENT,)),
        ("cudaMemcpyAsync", (4096, 4096, 4, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, STREAM)),
        ("cudaPointerGetAttributes", (4096,)),
        ("cudaFree", (4096,)),
        ("cudaFreeHost", (4096,)),
    ],
)
def test_the_bindings_take_arguments_of_our_kinds_and_the_runtime_answers(
    name: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(QuantfleetError, match="cudaErrorInsufficientDriver"):
        call(name, *arguments)


def test_a_call_gives_what_the_function_gives_besides_its_status() -> None:
    status, version = runtime.cudaRuntimeGetVersion()
    assert status == runtime.cudaError_t.cudaSuccess
    assert call("cudaRuntimeGetVersion") == version


def test_pageable_memory_needs_no_gpu_and_is_an_array() -> None:
    buffer = HostBuffer((2, 3), FLOAT32, pinned=False)
    assert (buffer.array.shape, buffer.array.dtype, buffer.address) == ((2, 3), FLOAT32, buffer.array.ctypes.data)


def test_every_name_of_the_cuda_runtime_that_is_used_exists() -> None:
    text = "".join(path.read_text() for path in ROOM.glob("*.py"))
    called = set(re.findall(r'"(cuda[A-Z]\w+)"', text)) | set(re.findall(r"runtime\(\)\.(\w+)", text))
    called -= {"cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorInitializationError"}
    assert len(called) > 12
    assert {name for name in called if not hasattr(runtime, name)} == set()
    problems = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorInitializationError")
    assert all(hasattr(runtime.cudaError_t, name) for name in problems)
    properties = runtime.cudaDeviceProp()
    assert all(hasattr(properties, name) for name in ("name", "major", "minor", "uuid"))
    assert hasattr(runtime.cudaPointerAttributes(), "type")
