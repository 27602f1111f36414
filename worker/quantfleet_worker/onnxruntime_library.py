"""ONNX Runtime, imported in one place with its telemetry off: a node talks to its coordinator and to nobody else."""

import ast
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

CPU = "onnxruntime"
GPU = "onnxruntime-gpu"
"""The distribution with the providers for NVIDIA GPUs; it has the CPU's too."""


@dataclass(frozen=True)
class Installed:
    """The distribution whose files the module consists of, and its version."""

    distribution: str
    version: str


def load() -> ModuleType:
    """The module. Raises ImportError where it is not installed."""
    module = importlib.import_module("onnxruntime")
    module.disable_telemetry_events()
    return module


def installed() -> Installed | None:
    """What is there, without importing it; None where nothing is.

    Two distributions share the module's name, and pip puts the files of the later one over those of the earlier while
    it lists both. So what is asked is the module's own note of where it comes from.
    """
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    try:
        note = (Path(spec.origin).parent / "capi/build_and_package_info.py").read_text()
    except OSError:
        return None
    facts = {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(note).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    return Installed(str(facts["package_name"]), str(facts["__version__"]))
