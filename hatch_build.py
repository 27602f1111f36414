"""Compiles the tap, the one piece of C in quantfleet, into the wheel. A machine without a compiler does without it."""

import os
import shlex
import shutil
import subprocess
import sysconfig
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("worker/quantfleet_worker/collecting")
LIBRARY = FOLDER / "_tap.so"
COMPILERS = ("cc", "gcc", "clang")


class TapBuildHook(BuildHookInterface[Any]):
    """Puts `_tap.so` beside its sources, and into the wheel, which then is for this platform. An install never fails.

    The compiler is the one that the environment variable CC names, or else the first of COMPILERS.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 # hatchling's signature
        """Compile before the files are collected."""
        root = Path(self.root)
        (root / LIBRARY).unlink(missing_ok=True)
        problem = _compile(root)
        if problem:
            self.app.display_warning(f"{problem}: calibration will count with numpy, which is slower")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"].append(f"/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"


def _compile(root: Path) -> str:
    """Compile the library; what went wrong, or nothing."""
    wanted = os.environ.get("CC", "")
    compiler = shlex.split(wanted) or [next(filter(shutil.which, COMPILERS), COMPILERS[0])]
    digest = sha256(b"".join(path.read_bytes() for path in sorted((root / FOLDER).glob("*.[ch]")))).hexdigest()
    unfinished = (root / LIBRARY).with_suffix(f".{os.getpid()}")
    command = [*compiler, "-std=gnu11", "-O3", "-fPIC", "-shared", f'-DSOURCE_DIGEST="{digest}"']
    try:
        subprocess.run(
            [*command, "-o", str(unfinished), str(root / FOLDER / "tap.c")], check=True, capture_output=True, text=True
        )
    except OSError as error:
        return f"there is no C compiler ({error.strerror}: {compiler[0]})"
    except subprocess.CalledProcessError as error:
        return f"the C compiler failed ({error.stderr.strip() or error})"
    unfinished.replace(root / LIBRARY)
    return ""
