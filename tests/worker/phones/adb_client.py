"""The real adb client that the tests run: the one in the adbutils package, or the system's where that has none."""

import shutil
from importlib.util import find_spec
from pathlib import Path


def adb_client() -> Path:
    spec = find_spec("adbutils")
    packaged = Path(spec.origin).parent / "binaries" / "adb" if spec and spec.origin else None
    found = str(packaged) if packaged and packaged.is_file() else shutil.which("adb")
    assert found, "these tests need an adb client: pip install adbutils (x86-64), or sudo apt install adb"
    return Path(found)
