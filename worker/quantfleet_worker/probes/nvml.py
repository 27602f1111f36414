"""NVIDIA's management library, opened where there is a driver, with what it will not say made None. Not for facts.

It is nvidia-ml-py (module `pynvml`), which loads the driver's own libnvidia-ml.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Nvml:
    """The library, or None; then `problem` says what is wrong, and is empty where there simply is no NVIDIA driver."""

    module: ModuleType | None
    problem: str = ""


def opened() -> Nvml:
    """The library, initialised: once or several times is the same to it."""
    try:
        module = importlib.import_module("pynvml")
    except ImportError:
        return Nvml(None)
    try:
        module.nvmlInit()
    except (module.NVMLError_LibraryNotFound, module.NVMLError_DriverNotLoaded):
        return Nvml(None)
    except module.NVMLError as error:
        return Nvml(None, f"the NVIDIA driver does not answer: {error}")
    return Nvml(module)


def told(module: ModuleType, ask: Callable[..., Any], *arguments: Any) -> Any:
    """What a function says, or None where this GPU has no such thing or this user may not ask."""
    try:
        return ask(*arguments)
    except module.NVMLError:
        return None
