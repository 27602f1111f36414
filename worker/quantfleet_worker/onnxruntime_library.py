"""ONNX Runtime, imported in one place with its telemetry off: a node talks to its coordinator and to nobody else."""

import importlib
from types import ModuleType


def load() -> ModuleType:
    """The module. Raises ImportError where it is not installed."""
    module = importlib.import_module("onnxruntime")
    module.disable_telemetry_events()
    return module
