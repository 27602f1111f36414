"""Which samples a job means: a directory or a list, cut by skip and limit. Not for reading or hashing them."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet.jobfile.tree import Value
from quantfleet_domain.errors import ErrorCode, QuantfleetError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
TENSORS = (".npy",)
KEYS = ("path", "list", "preprocess", "limit", "skip")


@dataclass(frozen=True)
class Found:
    """A sample on this disk: its name in the manifest, its file, and its class where a list gives one."""

    name: str
    path: Path
    label: int | None


def find(data: Value, keys: dict[str, Value], base: Path, labelled: bool) -> tuple[Found, ...]:
    """The samples of a `data` mapping, in order; each has a label where `labelled`.

    A directory gives its pictures and .npy files, sorted by path, from all its folders. A list gives its lines, `path`
    or `path label`, whose paths are relative to `path` (without one, to the list's own directory).
    Raises QuantfleetError: DATA_NOT_FOUND, DATA_EMPTY, JOB_INVALID (neither path nor list; a line without a label).
    """
    if "list" in keys:
        samples = _of_list(keys["list"].path(base), keys["path"].path(base) if "path" in keys else None, labelled)
        source = keys["list"]
    elif "path" in keys:
        if labelled:
            what = "evaluation needs labels, and no list gives them"
            raise data.error(what, "add `list:`, a file with a line `path label` for each sample")
        samples = _of_directory(keys["path"], keys["path"].path(base))
        source = keys["path"]
    else:
        raise data.error("the data has neither a path nor a list", "give `path:`, a directory of samples")
    skip = keys["skip"].count(0) if "skip" in keys else 0
    limit = keys["limit"].count(1) if "limit" in keys else len(samples)
    chosen = samples[skip : skip + limit]
    if not chosen:
        what = f"no samples are left: there are {len(samples)}" + (f" and the first {skip} are skipped" if skip else "")
        todo = "give a directory with .jpg, .jpeg, .png, .bmp or .npy files, or a list that names some"
        raise source.error(what, todo, ErrorCode.DATA_EMPTY)
    return tuple(chosen)


def _of_directory(value: Value, directory: Path) -> list[Found]:
    if not directory.is_dir():
        what = f"there is no directory {directory}"
        raise value.error(what, "give a directory of samples, or a `list:`", ErrorCode.DATA_NOT_FOUND)
    files = (path for path in directory.rglob("*") if path.suffix.lower() in (*PICTURES, *TENSORS) and path.is_file())
    names = sorted((path.relative_to(directory).as_posix(), path) for path in files)
    return [Found(name, path, None) for name, path in names]


def _of_list(file: Path, directory: Path | None, labelled: bool) -> list[Found]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        what = f"the list {file} cannot be read: {reason}"
        raise QuantfleetError(ErrorCode.DATA_NOT_FOUND, what, "give a file with lines `path label`") from error
    root = file.parent if directory is None else directory
    return [_of_line(line.strip(), f"{file}:{i}", root, labelled) for i, line in enumerate(lines, 1) if line.strip()]


def _of_line(line: str, place: str, root: Path, labelled: bool) -> Found:
    # A name may hold spaces and end in a number, so the whole line is tried as a path first.
    if not labelled and (root / line).is_file():
        return Found(line, root / line, None)
    name, _, last = line.rpartition(" ") if " " in line else line.rpartition("\t")
    label = int(last) if name and last.isdecimal() else None
    name = name.strip() if label is not None else line
    if labelled and label is None:
        what = f"{place}: {line!r} has no label"
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, "write `path label`, the label a whole number from 0 on")
    if not (root / name).is_file():
        what = f"{place}: there is no file {root / name}"
        todo = "mend the line, or give as `path:` the directory that its paths are relative to"
        raise QuantfleetError(ErrorCode.DATA_NOT_FOUND, what, todo)
    return Found(name, root / name, label)
