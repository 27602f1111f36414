"""Files that are good for stated facts only, and are known to be whole. Not for anything that cannot be made again.

A file is one line of JSON, `{"facts": {…}, "sha256": …}`, and the content behind it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

_MISSING = "there is none"


@dataclass(frozen=True)
class Sealed:
    """A file's content, or None and why not in `problem`."""

    content: bytes | None
    problem: str = ""


def write(path: Path, facts: Mapping[str, str], content: bytes) -> None:
    """Write the file whole or not at all; readers of an older one are not disturbed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({"facts": dict(facts), "sha256": sha256(content).hexdigest()}, sort_keys=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(head.encode() + b"\n" + content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path, facts: Mapping[str, str]) -> Sealed:
    """The content, if the file is whole and was written for exactly these facts."""
    try:
        head, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return Sealed(None, _MISSING)
    try:
        record = json.loads(head)
        found, digest = dict(record["facts"]), str(record["sha256"])
    except (ValueError, KeyError, TypeError):
        return Sealed(None, "it is damaged")
    if found != dict(facts):
        names = sorted(name for name in {*found, *facts} if found.get(name) != facts.get(name))
        differences = (f"{name} {found.get(name, 'none')}, here {facts.get(name, 'none')}" for name in names)
        return Sealed(None, f"it was made for {'; '.join(differences)}")
    if sha256(content).hexdigest() != digest:
        return Sealed(None, "it is damaged")
    return Sealed(content)
