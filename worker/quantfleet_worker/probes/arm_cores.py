"""What /proc/cpuinfo's numbers of ARM cores mean. Not what the cores can do: their flags say that.

Implementers: arch/arm64/include/asm/cputype.h of the kernel. Parts: sys-utils/lscpu-arm.c of util-linux, as far as
phones, boards and servers of the last ten years have them.
"""

_IMPLEMENTERS = {
    "0x41": "ARM",
    "0x46": "Fujitsu",
    "0x48": "HiSilicon",
    "0x4e": "NVIDIA",
    "0x51": "Qualcomm",
    "0x53": "Samsung",
    "0x61": "Apple",
    "0xc0": "Ampere",
}
_PARTS = {
    ("0x41", "0xc07"): "Cortex-A7",
    ("0x41", "0xc08"): "Cortex-A8",
    ("0x41", "0xc09"): "Cortex-A9",
    ("0x41", "0xc0e"): "Cortex-A17",
    ("0x41", "0xc0f"): "Cortex-A15",
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd0e"): "Cortex-A76AE",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4b"): "Cortex-A78C",
    ("0x41", "0xd4c"): "Cortex-X1C",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4e"): "Cortex-X3",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4",
    ("0x41", "0xd84"): "Neoverse-V3",
    ("0x41", "0xd85"): "Cortex-X925",
    ("0x41", "0xd87"): "Cortex-A725",
    ("0x51", "0x001"): "Oryon",
    ("0x51", "0x800"): "Kryo-2XX-Gold",
    ("0x51", "0x801"): "Kryo-2XX-Silver",
    ("0x51", "0x802"): "Kryo-3XX-Gold",
    ("0x51", "0x803"): "Kryo-3XX-Silver",
    ("0x51", "0x804"): "Kryo-4XX-Gold",
    ("0x51", "0x805"): "Kryo-4XX-Silver",
}


def vendor(implementer: str) -> str:
    """Who made the core, e.g. `ARM` for `0x41`; an unknown number stands for itself."""
    return _IMPLEMENTERS.get(implementer, implementer)


def core(implementer: str, part: str) -> str:
    """Maker and name of the core, e.g. `ARM Cortex-A76`, or `ARM part 0xfff` where the number is not known."""
    name = _PARTS.get((implementer, part)) or (part and f"part {part}")
    return f"{vendor(implementer)} {name}".strip()
