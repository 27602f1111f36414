"""The files of one task: inputs by digest under the names readers expect, outputs by content. Not for fetching."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.work import Slice


class Workspace:
    """Reads from `cache`, writes to `outputs`, lays out bundles in `scratch`. Each is a directory that exists."""

    def __init__(self, cache: Path, outputs: Path, scratch: Path) -> None:
        self._cache = cache
        self._outputs = outputs
        self._scratch = scratch

    def read(self, ref: FileRef) -> bytes:
        """The bytes of an input file."""
        return (self._cache / ref.digest).read_bytes()

    def bundle(self, name: str, files: Iterable[FileRef]) -> Path:
        """A directory that holds these files under their own names."""
        directory = self._scratch / name
        for ref in files:
            path = directory / _safe(ref.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                try:
                    os.link(self._cache / ref.digest, path)
                except OSError:  # the cache is on another file system
                    shutil.copyfile(self._cache / ref.digest, path)
        return directory

    def scratch(self, name: str) -> Path:
        """A fresh path for a temporary file or directory."""
        path = self._scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def outputs(self) -> "Workspace":
        """The same place, reading what was kept: outputs of this task that are inputs of its next step."""
        return Workspace(self._outputs, self._outputs, self._scratch)

    def keep(self, name: str, content: bytes) -> FileRef:
        """Make an output of these bytes, to be read under `name`."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._outputs / digest
        if not path.exists():
            temporary = self._outputs / f".{digest}"
            temporary.write_bytes(content)
            temporary.replace(path)
        return FileRef(name, digest, len(content))

    def samples(self, part: Slice, key: Callable[[Sample], int] = lambda _: 0) -> Iterator[tuple[int, Sample, bytes]]:
        """(index in the manifest, sample, bytes) of every sample of a slice, by `key` and then in order."""
        samples = Manifest.from_json(self.read(part.manifest)).samples
        for index in sorted(range(part.first, part.first + part.count), key=lambda index: key(samples[index])):
            sample = samples[index]
            yield index, sample, (self._cache / sample.digest).read_bytes()


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE, f"{name!r} points out of the model's own folder", "keep a model in one folder"
        )
    return name


def entry_point(directory: Path, files: Iterable[FileRef]) -> Path:
    """What an engine is given to load: the `.onnx` or `.nb` file of a bundle, or the directory of a Paddle model."""
    single = [ref.name for ref in files if ref.name.endswith((".onnx", ".nb"))]
    return directory / single[0] if single else directory
