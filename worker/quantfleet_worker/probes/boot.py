"""The identity of the running machine. Not of a node: several nodes may run on one machine."""

from pathlib import Path


def boot_id(root: Path = Path("/")) -> str:
    """The kernel's id of this boot: the same for every container and process on the machine, new after a restart.

    It is the measurement domain of every CPU device (random(4), /proc/sys/kernel/random/boot_id).
    """
    return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
