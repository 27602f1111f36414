"""Which samples a job means: a directory, a list or annotated pictures, cut by skip and limit. Not for reading them."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet.jobfile import coco
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import OutputKind
from quantfleet_wire.yaml_tree import Value

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
TENSORS = (".npy", ".npz")
TEXTS = (".txt",)
KEYS = ("path", "list", "annotations", "preprocess", "limit", "skip")
_TRUTHS = {OutputKind.CLASSES: "label", OutputKind.PIXELS: "mask"}


@dataclass(frozen=True)
class Found:
    """A sample on this disk: its name in the manifest, its file, and what a list says of it: its class, or the name
    and the file of its mask."""

    name: str
    path: Path
    label: int | None = None
    mask: tuple[str, Path] | None = None


def find(data: Value, keys: dict[str, Value], base: Path, kind: OutputKind | None) -> tuple[Found, ...]:
    """The samples of a `data` mapping, in order; each with what it is judged by, None where it is not judged.

    A directory gives its pictures and tensors, or where it has neither its texts, sorted by path, from all its folders.
    A list gives its lines, `path`, `path label` or `path mask`, and an annotation file its pictures; their paths are
    relative to `path` (without one, to that file's own directory).
    Raises QuantfleetError: DATA_NOT_FOUND, DATA_EMPTY, JOB_INVALID (no source, or two; a line without its truth).
    """
    directory = keys["path"].path(base) if "path" in keys else None
    if "annotations" in keys:
        source = keys["annotations"]
        if "list" in keys:
            raise source.error("the data has both annotations and a list", "keep one of them: both name the samples")
        samples = _of_annotations(source.path(base), directory)
    elif kind is OutputKind.BOXES:
        what = "boxes are judged by annotations, and there are none"
        raise data.error(what, "add `annotations:`, a COCO file that names the pictures and their boxes")
    elif "list" in keys:
        source = keys["list"]
        samples = _of_list(source.path(base), directory, kind)
    elif directory is not None:
        source = keys["path"]
        if kind is not None:
            truth = _TRUTHS[kind]
            what = f"evaluation needs {truth}s, and no list gives them"
            raise data.error(what, f"add `list:`, a file with a line `path {truth}` for each sample")
        samples = _of_directory(source, directory)
    else:
        raise data.error("the data has neither a path nor a list", "give `path:`, a directory of samples")
    skip = keys["skip"].count(0) if "skip" in keys else 0
    limit = keys["limit"].count(1) if "limit" in keys else len(samples)
    chosen = samples[skip : skip + limit]
    if not chosen:
        what = f"no samples are left: there are {len(samples)}" + (f" and the first {skip} are skipped" if skip else "")
        suffixes = ", ".join((*PICTURES, *TENSORS, *TEXTS))
        todo = f"give a directory with files of {suffixes}, or a list that names some"
        raise source.error(what, todo, ErrorCode.DATA_EMPTY)
    return tuple(chosen)


def find_taught(data: Value, keys: dict[str, Value], base: Path) -> tuple[Found, ...]:
    """The samples that a network learns from, as `find` finds them; a list may say a label or a mask of each, or
    nothing, and its first line tells which."""
    kind = None
    if "list" in keys and "annotations" not in keys:
        file = keys["list"].path(base)
        root = keys["path"].path(base) if "path" in keys else file.parent
        first = next((line.strip() for line in _lines(file) if line.strip()), "")
        name, last = _parts(first)
        if name and not (root / first).is_file() and (root / last).is_file():
            kind = OutputKind.PIXELS
    return find(data, keys, base, kind)


def _of_directory(value: Value, directory: Path) -> list[Found]:
    if not directory.is_dir():
        what = f"there is no directory {directory}"
        raise value.error(what, "give a directory of samples, or a `list:`", ErrorCode.DATA_NOT_FOUND)
    files = sorted((path.relative_to(directory).as_posix(), path) for path in directory.rglob("*") if path.is_file())
    for suffixes in ((*PICTURES, *TENSORS), TEXTS):  # a text beside pictures is a list or a licence, and no sample
        chosen = [Found(name, path) for name, path in files if path.suffix.lower() in suffixes]
        if chosen:
            return chosen
    return []


def _of_annotations(file: Path, directory: Path | None) -> list[Found]:
    root = file.parent if directory is None else directory
    found = []
    for name in coco.pictures(file):
        if not (root / name).is_file():
            what = f"the annotations {file} name {name}, and there is no file {root / name}"
            todo = "take it out of the file, or give as `path:` the directory that its names are relative to"
            raise QuantfleetError(ErrorCode.DATA_NOT_FOUND, what, todo)
        found.append(Found(name, root / name))
    return found


def _of_list(file: Path, directory: Path | None, kind: OutputKind | None) -> list[Found]:
    root = file.parent if directory is None else directory
    return [_of_line(line.strip(), f"{file}:{i}", root, kind) for i, line in enumerate(_lines(file), 1) if line.strip()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        what = f"the list {file} cannot be read: {reason}"
        raise QuantfleetError(ErrorCode.DATA_NOT_FOUND, what, "give a file with lines `path label`") from error


def _parts(line: str) -> tuple[str, str]:
    """What stands before the last space of a line, or where it has none the last tab, and what stands behind it."""
    name, _, last = line.rpartition(" ") if " " in line else line.rpartition("\t")
    return name.strip(), last


def _of_line(line: str, place: str, root: Path, kind: OutputKind | None) -> Found:
    # A name may hold spaces and end in a number, so the whole line is tried as a path first.
    if kind is None and (root / line).is_file():
        return Found(line, root / line)
    name, last = _parts(line)
    label = int(last) if name and last.isdecimal() else None
    if kind is OutputKind.CLASSES and label is None:
        what = f"{place}: {line!r} has no label"
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, "write `path label`, the label a whole number from 0 on")
    if kind is OutputKind.PIXELS and not name:
        what = f"{place}: {line!r} has no mask"
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, "write `path mask`, the mask a PNG of class numbers")
    if label is None and not (name and (kind is OutputKind.PIXELS or (root / name).is_file())):
        name = line
    mask = (last, _existing(root, last, place)) if kind is OutputKind.PIXELS else None
    return Found(name, _existing(root, name, place), label if mask is None else None, mask)


def _existing(root: Path, name: str, place: str) -> Path:
    if not (root / name).is_file():
        what = f"{place}: there is no file {root / name}"
        todo = "mend the line, or give as `path:` the directory that its paths are relative to"
        raise QuantfleetError(ErrorCode.DATA_NOT_FOUND, what, todo)
    return root / name
