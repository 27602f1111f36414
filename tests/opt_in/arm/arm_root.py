"""An arm64 Debian root on an x86-64 host, under qemu's user emulation: for values. Not for times.

It is made once, in the folder that the environment variable ARM_ROOT names (`.arm-root/` unless set), from Debian's
mirror and from wheels; quantfleet itself is installed into it from this checkout, anew for each session of tests.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

REPOSITORY = Path(__file__).parents[3]
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
PYTHON = "3.11"  # the suite's
GLIBC = 36  # 2.36, the suite's
PACKAGES = f"python{PYTHON},gcc,libc6-dev"
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
MADE = "etc/quantfleet-root"
EXTRAS = ("report", "worker", "onnxruntime")
TOOLS = ("hatchling", "hypothesis", "pytest", "pytest-timeout")
NEEDED = ("debootstrap", "qemu-aarch64-static", "unshare", "ip")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
INTERPRETER = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")  # of Debian's qemu-user-static

# Own mounts, processes and network, so that nothing of a command outlives it and only loopback is reached.
# qemu shows the host's /proc/cpuinfo, whose flags are not the emulated processor's.
ENTER = """
ip link set lo up
mount -t proc proc "$0/proc"
mount --bind "$1" "$0/proc/cpuinfo"
mount --rbind /dev "$0/dev"
mount -o bind,ro /sys "$0/sys"
mount -t tmpfs tmpfs "$0/tmp"
mount -o bind,ro "$2" "$0/quantfleet"
mount --bind "$3" "$0/exchange"
root="$0"
shift 3
chroot "$root" "$@" || exit $?
"""

# Bits of AT_HWCAP and, from 64 on, of AT_HWCAP2 (kernel: arch/arm64/include/uapi/asm/hwcap.h).
HWCAPS = {"fp": 0, "asimd": 1, "fphp": 9, "asimddp": 20, "sve": 22, "sve2": 65, "i8mm": 77, "bf16": 78, "sme": 87}
READ_HWCAPS = (
    "import ctypes; read = ctypes.CDLL(None).getauxval; read.restype = ctypes.c_ulong; "
    "read.argtypes = [ctypes.c_ulong]; print(read(16) | read(26) << 64)"
)


@dataclass(frozen=True)
class Processor:
    """One that qemu emulates: its `model` for `-cpu`, implementer and part as /proc/cpuinfo writes them."""

    model: str
    implementer: str
    part: str


CORTEX_A72 = Processor("cortex-a72", "0x41", "0xd08")
NEOVERSE_N1 = Processor("neoverse-n1", "0x41", "0xd0c")
A64FX = Processor("a64fx", "0x46", "0x001")
SVE_512 = Processor("max,sme=off", "0x41", "0xd4f")
SVE_128 = Processor("max,sme=off,sve-max-vq=1", "0x41", "0xd4f")
EVERYTHING = Processor("max", "0x41", "0xd4f")
NARROW_SME = Processor("max,sme128=on,sme256=off,sme512=off,sme1024=off,sme2048=off", "0x41", "0xd4f")


class ArmRoot:
    """The root in `folder`; `exchange` is a folder of the host that commands in it see as /exchange.

    Raises RuntimeError where the host lacks something.
    """

    def __init__(self, folder: Path, exchange: Path) -> None:
        self._folder = folder
        self._exchange = exchange
        _check_host()
        self._lock = _alone(folder)
        _register_interpreter()
        if not (folder / MADE).exists():
            _make(folder)
        _install_needs(folder)
        self._cpuinfos = {CORTEX_A72: self._cpuinfo(CORTEX_A72)}
        self._install_quantfleet()

    def run(self, *command: str, on: Processor = CORTEX_A72, timeout_s: float = 600) -> str:
        """The standard output of a command, which is to succeed; its folder is /exchange, the checkout /quantfleet."""
        if on not in self._cpuinfos:
            self._cpuinfos[on] = self._cpuinfo(on)
        done = self._enter(self._cpuinfos[on], on, command, timeout_s)
        assert done.returncode == 0, f"on {on.model}: {command} exited {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def _cpuinfo(self, processor: Processor) -> Path:
        """What /proc/cpuinfo says on such a processor, as far as flags go that quantfleet and its engines read."""
        empty = self._exchange / "cpuinfo"
        empty.write_text("")
        done = self._enter(empty, processor, ("python3", "-c", READ_HWCAPS), 60)
        bits = int(done.stdout)
        features = " ".join(name for name, bit in HWCAPS.items() if bits >> bit & 1)
        path = self._exchange / f"cpuinfo-{processor.model}"
        path.write_text(
            "".join(
                f"processor\t: {core}\nFeatures\t: {features}\nCPU implementer\t: {processor.implementer}\n"
                f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {processor.part}\nCPU revision\t: 0\n\n"
                for core in sorted(os.sched_getaffinity(0))
            )
        )
        return path

    def _enter(
        self, cpuinfo: Path, processor: Processor, command: tuple[str, ...], timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        spaces = ["unshare", "--mount", "--propagation=private", "--net", "--pid", "--fork", "--kill-child"]
        enter = ["sh", "-euc", ENTER, str(self._folder), str(cpuinfo), str(REPOSITORY), str(self._exchange)]
        clean = ["env", "-i", "-C", "/exchange", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return subprocess.run(
            [*spaces, *enter, *clean, f"QEMU_CPU={processor.model}", *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _install_quantfleet(self) -> None:
        """As `pip install` on a board does it: built there; from a copy, as the build writes beside the sources."""
        copy = self._exchange / "build"
        packages = _pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        for package in packages:
            shutil.copytree(
                REPOSITORY / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "_tap.*")
            )
        for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
            shutil.copy(REPOSITORY / name, copy)
        for package in packages:
            shutil.rmtree(self._folder / SITE / Path(package).name, ignore_errors=True)
        pip = ["python3", "-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--no-index", "--no-deps"]
        self.run(*pip, "--no-build-isolation", "--upgrade", "--target", f"/{SITE}", "/exchange/build")


def _check_host() -> None:
    missing = [name for name in NEEDED if not shutil.which(name)]
    if os.geteuid() or missing:
        raise RuntimeError(
            "an ARM root needs root and Debian's debootstrap, qemu-user-static, util-linux and iproute2"
            f" (missing here: {', '.join(missing) or 'root'})"
        )


def _alone(folder: Path) -> TextIO:
    """Held as long as this session lives, so that no other installs into the root meanwhile; waits for others."""
    lock = folder.with_name(f"{folder.name}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _register_interpreter() -> None:
    """Tell the kernel to run arm64 programs by qemu, as Debian's package does where the machine booted with it."""
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    if not (BINFMT / "qemu-aarch64").exists():
        (BINFMT / "register").write_bytes(INTERPRETER.read_bytes().strip())


def _make(folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    subprocess.run(
        ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(unfinished), MIRROR],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for name in ("quantfleet", "exchange"):
        (unfinished / name).mkdir()
    (unfinished / "usr/bin/python3").unlink(missing_ok=True)
    (unfinished / "usr/bin/python3").symlink_to(f"python{PYTHON}")
    (unfinished / MADE).write_text("")
    unfinished.rename(folder)


def _install_needs(folder: Path) -> None:
    """The wheels that a worker on ARM needs, unpacked by this host's pip, which is faster than one under emulation."""
    needs = _needs()
    constraints = REPOSITORY / "constraints.txt"
    wanted = sha256("\n".join(needs).encode() + constraints.read_bytes()).hexdigest()
    if (folder / MADE).read_text() == wanted:
        return
    shutil.rmtree(folder / SITE, ignore_errors=True)
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(GLIBC, 16, -1)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder / SITE)),
            *("--constraint", str(constraints), *platforms, "--platform=manylinux2014_aarch64"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", "pip", *needs),
        ],
        check=True,
    )
    (folder / MADE).write_text(wanted)


def _needs() -> list[str]:
    project = _pyproject()["project"]
    optional = project["optional-dependencies"]
    tools = [need for need in optional["dev"] if need.split(">")[0] in TOOLS]
    return [*project["dependencies"], *(need for extra in EXTRAS for need in optional[extra]), *tools]


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
