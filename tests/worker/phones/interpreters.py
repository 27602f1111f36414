"""Programs in the place of an interpreter with paddlelite, for hosts without: they answer what it would, or die as it
does. What opt really does is tested in tests/opt_in/phones."""

import json
import sys
from pathlib import Path

ANSWER = json.dumps({"version": "v2.13-rc"})


def interpreter(folder: Path, body: str) -> str:
    """A Python program that gets opt_script's request as `asked`."""
    path = folder / "interpreter"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, shutil, signal, sys\nasked = json.loads(sys.argv[2])\n{body}\n"
    )
    path.chmod(0o755)
    return str(path)


def converting(folder: Path, choose: str) -> str:
    """One that gives a file of which the expression `choose` is the path, where it is asked for one."""
    return interpreter(folder, f"if asked: shutil.copyfile({choose}, asked['out'] + '.nb')\nprint({ANSWER!r})")
