"""An Android phone's account of itself over this host: its processor, its memory and its properties are made up, and
the processes, the load and the clocks are the host's. For `AdbDevice`."""

from pathlib import Path

from tests.worker.phones.test_facts import CPUINFO, MEMINFO, PROPERTIES

SOC = "msmnile"
_OWN = {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO, "proc/sys/kernel/random/boot_id": "4f9c-1\n"}
_CAT = """#!/bin/sh
case "$1" in {own}) exec /bin/cat "{told}/$1" ;; esac
exec /bin/cat "$@"
"""


def android(root: Path) -> Path:
    """The tree of such a phone."""
    told, programs = root / "told", root / "system" / "bin"
    programs.mkdir(parents=True)
    (root / "proc").symlink_to("/proc")
    for name, text in _OWN.items():
        (told / name).parent.mkdir(parents=True, exist_ok=True)
        (told / name).write_text(text)
    answers = {"uname": "aarch64\n", "getprop": PROPERTIES}
    scripts = {name: f"#!/bin/sh\n/bin/cat <<'END'\n{text}END\n" for name, text in answers.items()}
    for name, script in {**scripts, "cat": _CAT.format(own="|".join(_OWN), told=told)}.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    return root
