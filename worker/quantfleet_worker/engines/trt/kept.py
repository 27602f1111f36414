"""Engines and timings that TensorRT made before, and for what they are good. Pure: not for making them.

A serialized engine is good for the GPU and the TensorRT version that it was built with, and for nothing else (NVIDIA,
TensorRT developer guide, "Engine portability"). The driver does not matter, nor which of two equal GPUs it is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from ..cuda import sealed_file
from ..cuda.device import CudaDevice

_DIGITS = 16


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on: `gpu` and `capability` (`7.5`), the TensorRT version, the model's digest (with its
    calibration cache), and the options it was built with, in words."""

    gpu: str
    capability: str
    tensorrt: str
    model: str
    options: str

    def path(self, folder: Path) -> Path:
        """Where such an engine is kept; engines of one model and options have names that begin alike."""
        return folder / f"{_digest(self._subject())}-{_digest(asdict(self))}.plan"

    def relatives(self, folder: Path) -> list[Path]:
        """Kept engines of the same model and options, for whatever GPU and version."""
        return sorted(folder.glob(f"{_digest(self._subject())}-*.plan"))

    def _subject(self) -> Mapping[str, str]:
        return {"model": self.model, "options": self.options}


@dataclass(frozen=True)
class Kept:
    """A serialized engine to load, or None; `note` says why one that is there is not used."""

    engine: bytes | None
    note: str = ""


def find(folder: Path, key: EngineKey) -> Kept:
    """The engine that was kept for exactly this key."""
    path = key.path(folder)
    sealed = sealed_file.read(path, asdict(key))
    if sealed.content is not None:
        return Kept(sealed.content)
    if path.exists():
        return Kept(None, f"built anew: the kept engine is not used, for {sealed.problem}")
    for relative in key.relatives(folder):
        problem = sealed_file.read(relative, asdict(key)).problem
        return Kept(None, f"built anew: the kept engine is not used, for {problem}")
    return Kept(None)


def keep(folder: Path, key: EngineKey, engine: bytes) -> None:
    """Keep a serialized engine for the next time."""
    sealed_file.write(key.path(folder), asdict(key), engine)


def find_timings(folder: Path, device: CudaDevice, version: str) -> bytes:
    """The timing cache of this GPU and version; empty where there is none, or none that is whole."""
    return sealed_file.read(*_timings(folder, device, version)).content or b""


def keep_timings(folder: Path, device: CudaDevice, version: str, timings: bytes) -> None:
    """Keep a timing cache: what was timed for one model serves the next."""
    sealed_file.write(*_timings(folder, device, version), timings)


def _timings(folder: Path, device: CudaDevice, version: str) -> tuple[Path, Mapping[str, str]]:
    facts = {"gpu": device.name, "capability": device.capability_text, "tensorrt": version}
    return folder / f"{_digest(facts)}.timings", facts


def _digest(facts: Mapping[str, str]) -> str:
    return sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:_DIGITS]
