"""The JSON file of a benchmark: rows, and the machine and versions that they were measured on. Not the measuring."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DOCUMENTS = Path(__file__).parent.parent / "docs" / "benchmarks"
_PACKAGES = ("quantfleet", "onnxruntime", "onnx", "paddlepaddle", "paddleslim", "nncf", "openvino", "numpy")
_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


def machine() -> dict[str, Any]:
    """What the processor calls itself, how many cores this process may use, and the instruction sets that matter."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", facts.get("Features", "")).split()
    return {
        "processor": facts.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "isa": [flag for flag in _FLAGS if flag in flags],
        "system": f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """The packages that the figures depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}


def now() -> str:
    """The time for a row's `measured_at`, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def head(schema: str) -> dict[str, Any]:
    """What stands before the rows: the schema's name, and where and with what they are measured now."""
    return {"schema": schema, "machine": machine(), "versions": versions()}


def merged(path: Path, now: dict[str, Any], rows: Sequence[Row], replaced: Callable[[Row], bool]) -> list[Row]:
    """`rows`, measured under the head `now`, and those of the file at `path` that `replaced` does not name.

    SystemExit where another machine wrote them.
    """
    if not path.exists():
        return list(rows)
    before = json.loads(path.read_text())
    kept = [row for row in before["rows"] if not replaced(row)]
    if kept and before["machine"] != now["machine"]:
        raise SystemExit(f"{path} is of another machine: measure all rows again (without --only)")
    if kept and before["versions"] != now["versions"]:
        print(f"{path.name}: rows that are kept may be of other versions; each row says when it was measured")
    return [*kept, *rows]


def write(path: Path, head: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write the file, one line a row, so that a difference shows which rows moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    path.write_text("{\n" + "\n".join(lines) + '\n "rows": [\n' + body + "\n ]\n}\n")


def splice(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks of `name` in a Markdown page; what stands outside is written by hand."""
    begin, end = f"<!-- {name}: written by make, do not edit -->", f"<!-- {name}: end -->"
    whole = page.read_text()
    if begin not in whole or end not in whole:
        raise SystemExit(f"{page} lacks the marks {begin} and {end}")
    before, rest = whole.split(begin, 1)
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.split(end, 1)[1]}")
