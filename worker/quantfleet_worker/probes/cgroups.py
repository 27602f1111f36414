"""What control groups leave of a machine, version 1 and 2. Reads only (kernel: cgroup-v1, cgroup-v2.rst)."""

from collections.abc import Iterator
from pathlib import Path


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The tightest memory limit of this process's control groups; None where there is none."""
    limits = [
        int(text)
        for directory in _directories(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(directory / name)).isdigit()
    ]
    return min(limits, default=None)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many CPUs' worth of time this process's control groups allow; None where they do not limit it."""
    quotas: list[float] = []
    for directory in _directories(root, "cpu"):
        quota, _, period = _read(directory / "cpu.max").partition(" ")  # version 2: "max 100000" or "150000 100000"
        if not period:
            quota, period = _read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def throttled_periods(root: Path = Path("/")) -> int | None:
    """In how many periods so far a quota stopped this process's control groups; None where there is no quota."""
    if cpu_quota(root) is None:
        return None
    rows = [
        line.split() for directory in _directories(root, "cpu") for line in _read(directory / "cpu.stat").splitlines()
    ]
    counts = [int(row[1]) for row in rows if row[0] == "nr_throttled"]
    return sum(counts) if counts else None


def _directories(root: Path, controller: str) -> Iterator[Path]:
    """The directories of the groups that a controller applies to this process, up to the topmost that is mounted."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        if controllers and not top.is_dir():
            top = mount / controller
        # In a container the path is the host's, and only its end, or nothing of it, exists here.
        group = top / path.strip("/")
        for directory in (group, *group.parents):
            if directory.is_dir():
                yield directory
            if directory == top:
                break


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
