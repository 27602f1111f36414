"""What a phone is, by its own account: its files under /proc and /sys and its properties. Not how fast it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import CpuFacts, PhoneFacts
from quantfleet_worker.phones.transports.base import Transport
from quantfleet_worker.probes import cpu

_PATIENCE_S = 60.0
_MACHINE, _PROPERTIES = "uname", "getprop"
_BOOT = "proc/sys/kernel/random/boot_id"
_BOARD = "proc/device-tree/compatible"
_BOARD_SERIAL = "proc/device-tree/serial-number"
_RELEASE = "etc/os-release"
_HEAD = "@@ "
_FILES = (*cpu.FILES, _BOOT, _BOARD, _BOARD_SERIAL, _RELEASE)
# Android's /sys is closed in places: what cannot be read is absent.
_LOOK = f"""
cd /
for file in {" ".join(_FILES)}; do
  [ -r "$file" ] && {{ echo "{_HEAD}$file"; cat "$file" 2>/dev/null; echo; }}
done
echo "{_HEAD}{_MACHINE}"; uname -m
echo "{_HEAD}{_PROPERTIES}"; getprop 2>/dev/null
true
"""
_PROPERTY = re.compile(r"^\[(.*?)\]: \[(.*)\]$", re.MULTILINE)
# By the kernel's name of the machine, Android's of the interfaces that it runs: developer.android.com/ndk/guides/abis.
_ABIS = {
    "aarch64": ("arm64-v8a",),
    "armv7l": ("armeabi-v7a",),
    "armv8l": ("armeabi-v7a",),
    "x86_64": ("x86_64",),
}


@dataclass(frozen=True)
class Found:
    """A phone as it was found.

    `serial` is its own serial number, the same over every transport, and empty where it does not tell one; `boot` is
    its kernel's id of this boot, as a machine's in `probes.boot`.
    """

    phone: PhoneFacts
    hardware: CpuFacts
    serial: str
    boot: str


def find(transport: Transport) -> Found:
    """Look at a phone: one command, well under a second on a good link.

    Raises QuantfleetError: as `Transport.run`, and ENGINE_FAILED where the phone does not say what processor it has.
    """
    ran = transport.run(["sh", "-c", _LOOK], _PATIENCE_S)
    texts = sections(ran.stdout)
    if not {"proc/cpuinfo", "proc/meminfo"} <= texts.keys():
        what = f"{transport.name} does not say what it is: {ran.stderr.strip()[-200:] or 'it has no /proc/cpuinfo'}"
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED, what, "it must run Linux or Android, and let its user read /proc"
        )
    return described(texts, transport.kind, transport.address)


def sections(printed: str) -> dict[str, str]:
    """The texts by name that the phone printed under heads."""
    parts = re.split(rf"^{_HEAD}(\S+)\r?\n", printed, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def described(texts: Mapping[str, str], kind: str, address: str) -> Found:
    """What the texts mean: files by path below the root, the machine under `uname`, properties under `getprop`."""
    machine = texts.get(_MACHINE, "").strip()
    properties = dict(_PROPERTY.findall(texts.get(_PROPERTIES, "")))
    # Old kernels number a phone's clusters as if they were sockets.
    hardware = replace(cpu.facts_of(texts, machine), sockets=1, vnni_missing="INT8 is not timed on a phone beforehand")
    listed = properties.get("ro.product.cpu.abilist", "")
    phone = PhoneFacts(
        transport=kind,
        address=address,
        soc=_soc(texts, properties),
        system=_system(texts, properties),
        abis=tuple(listed.split(",")) if listed else _ABIS.get(machine, ()),
    )
    serial = properties.get("ro.serialno") or texts.get(_BOARD_SERIAL, "").strip("\0\n ")
    return Found(phone, hardware, serial, texts.get(_BOOT, "").strip())


def _soc(texts: Mapping[str, str], properties: Mapping[str, str]) -> str:
    """The system on a chip: since Android 12 a property, before that the board's platform; on a board with a device
    tree the last, most general name of `compatible` (devicetree.org, 2.3.1), e.g. `rockchip,rk3588`."""
    if model := properties.get("ro.soc.model"):
        return f"{properties.get('ro.soc.manufacturer', '')} {model}".strip()
    compatible = [name for name in texts.get(_BOARD, "").strip("\n").split("\0") if name]
    return properties.get("ro.board.platform") or next(reversed(compatible), "")


def _system(texts: Mapping[str, str], properties: Mapping[str, str]) -> str:
    if release := properties.get("ro.build.version.release"):
        return f"Android {release}"
    named = re.search(r'^PRETTY_NAME="?(.*?)"?$', texts.get(_RELEASE, ""), re.MULTILINE)
    return named[1] if named else "Linux"
