"""Files for users, which appear whole or not at all; the report in all its forms. Not for what stands in them."""

import importlib.util
import os
import tempfile
from pathlib import Path

from quantfleet_domain.reporting.csv import to_csv
from quantfleet_domain.reporting.markdown import to_markdown
from quantfleet_domain.reporting.report import Report
from quantfleet_wire.content import disk_error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, and its directory where there is none. Raises STORAGE_FULL, STORE_FAILED."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise disk_error(error, path) from error


def write_report(directory: Path, report: Report, content: bytes) -> Path | None:
    """Write report.json (`content`, as it came), .md, .csv and .html; returns the path of the HTML page.

    None, and no page, where the extra `report`, which draws it, is not installed.
    """
    from quantfleet.rendering.html import to_html

    write_atomically(directory / "report.json", content)
    write_atomically(directory / "report.md", to_markdown(report).encode())
    write_atomically(directory / "report.csv", to_csv(report).encode())
    if not all(importlib.util.find_spec(package) for package in ("jinja2", "matplotlib")):
        return None
    page = directory / "report.html"
    write_atomically(page, to_html(report).encode())
    return page


def _umask() -> int:
    """The mask that a new file of this process would get (mkstemp makes private files, and these are for sharing)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
