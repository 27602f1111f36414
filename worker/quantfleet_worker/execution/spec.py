"""Where and how a child process runs, and the environment it gets. Not what it runs: that is its request."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

TASK_HANDLER = "quantfleet_worker.tasks:dispatch"
"""The handler of a node's tasks."""

_PASSED_ON = (
    "ADB_SERVER_SOCKET",
    "ADB_VENDOR_KEYS",
    "ANDROID_ADB_SERVER_ADDRESS",
    "ANDROID_ADB_SERVER_PORT",
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "PATH",
    "SSH_AUTH_SOCK",
    "TMPDIR",
    "TZ",
)
TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
_THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class RunSpec:
    """Where and how a child runs.

    `cores` are the logical cores it is pinned to, `threads` what the libraries' thread counts are set to. `handler` is
    `module:function`, `interpreter` the Python that the engine lives in (with quantfleet importable), `environment`
    variables on top of the few that are passed on, `memory_bytes` a limit on its private writable memory (0: none).
    """

    cores: tuple[int, ...]
    threads: int = 1
    handler: str = TASK_HANDLER
    interpreter: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0


def environment_of(spec: RunSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the child: nothing of a Ray worker's reaches it but the few variables named here.

    NVIDIA's libraries are told not to use TF32, which rounds the factors of FP32 products to 10 bits of mantissa: what
    is called FP32 is to be FP32 in every engine, and not all of them have a setting for it.
    """
    kept = {name: inherited[name] for name in _PASSED_ON if name in inherited}
    counts = dict.fromkeys(_THREAD_COUNTS, str(spec.threads))
    always = {TF32_OVERRIDE: "0", "PYTHONFAULTHANDLER": "1", "PYTHONSAFEPATH": "1"}
    return kept | counts | always | dict(spec.environment)
