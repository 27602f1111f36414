from pathlib import Path

import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import PhoneFacts
from quantfleet_worker.phones.facts import described, find, sections
from quantfleet_worker.phones.testing import AdbDevice, AdbServer
from quantfleet_worker.phones.transports.adb import AdbTransport
from quantfleet_worker.phones.transports.local import LocalTransport
from quantfleet_worker.probes.cpu import cpu_facts

CORE = """processor\t: {n}
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x51
CPU architecture: 8
CPU variant\t: 0xd
CPU part\t: {part}
CPU revision\t: 14

"""
CPUINFO = (
    "Processor\t: AArch64 Processor rev 14 (aarch64)\n"
    + "".join(CORE.format(n=n, part="0x805" if n < 4 else "0x804") for n in range(8))
    + "Hardware\t: Qualcomm Technologies, Inc SM8150\n"
)
MEMINFO = "MemTotal:        7811108 kB\nMemFree:          211116 kB\n"
PROPERTIES = """[ro.board.platform]: [msmnile]
[ro.build.version.release]: [10]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a,armeabi]
[ro.serialno]: [0A1B2C3D]
[ro.product.model]: [A [rare] phone]
"""
CPU = "sys/devices/system/cpu"
FILES = {
    "proc/cpuinfo": CPUINFO,
    "proc/meminfo": MEMINFO,
    "proc/sys/kernel/random/boot_id": "4f9c\n",
    **{f"{CPU}/cpu{n}/topology/core_id": f"{n % 4}\n" for n in range(8)},
    **{f"{CPU}/cpu{n}/topology/physical_package_id": f"{n // 4}\n" for n in range(8)},
    **{f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": "1785600\n" if n < 4 else "2841600\n" for n in range(8)},
    f"{CPU}/cpu0/cpufreq/scaling_governor": "schedutil\n",
}
BOARD = {
    "uname": "aarch64\n",
    "proc/cpuinfo": CORE.format(n=0, part="0x805"),
    "proc/meminfo": MEMINFO,
    "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0\n",
    "proc/device-tree/serial-number": "c0ffee\0\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
}


def test_an_android_phone_is_told_by_its_own_files_and_properties(
    tmp_path: Path, adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in adb_server.environment.items():
        monkeypatch.setenv(name, value)
    for name, text in FILES.items():
        (tmp_path / "phone" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "phone" / name).write_text(text)
    programs = tmp_path / "phone" / "system" / "bin"
    programs.mkdir(parents=True)
    for name, text in {"uname": "aarch64\n", "getprop": PROPERTIES}.items():
        (programs / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        (programs / name).chmod(0o755)
    with AdbDevice(tmp_path / "phone") as device:
        adb_server.connect(device.address)
        found = find(AdbTransport(device.address))
        address = device.address
    assert found.phone == PhoneFacts("adb", address, "msmnile", "Android 10", ("arm64-v8a", "armeabi-v7a", "armeabi"))
    assert (found.serial, found.boot) == ("0A1B2C3D", "4f9c")
    hardware = found.hardware
    assert hardware.model_name == "4x Qualcomm Kryo-4XX-Silver, 4x Qualcomm Kryo-4XX-Gold"
    assert (hardware.vendor, hardware.architecture) == ("Qualcomm", "aarch64")
    assert hardware.isa == ("asimd", "asimddp", "fphp")
    assert (hardware.sockets, hardware.physical_cores, hardware.logical_cores) == (1, 8, 8)
    assert hardware.memory_bytes == 7811108 * 1024
    assert (hardware.max_khz, hardware.governor) == (2_841_600, "schedutil")
    assert hardware.vnni is None
    assert hardware.vnni_missing


def test_a_board_is_told_by_its_device_tree_and_its_release() -> None:
    found = described(BOARD, "ssh", "board")
    assert found.phone == PhoneFacts(
        "ssh", "board", "rockchip,rk3588", "Debian GNU/Linux 12 (bookworm)", ("arm64-v8a",)
    )
    assert found.serial == "c0ffee"


def test_since_android_12_the_chip_has_a_name_of_its_own() -> None:
    named = "[ro.soc.manufacturer]: [QTI]\n[ro.soc.model]: [SM8550]\n"
    assert described({**BOARD, "getprop": PROPERTIES + named}, "adb", "").phone.soc == "QTI SM8550"


def test_a_32_bit_kernel_runs_32_bit_programs_only() -> None:
    assert described({**BOARD, "uname": "armv7l\n"}, "ssh", "").phone.abis == ("armeabi-v7a",)


def test_what_a_machine_does_not_tell_is_left_open() -> None:
    bare = {name: BOARD[name] for name in ("uname", "proc/cpuinfo", "proc/meminfo")}
    found = described(bare, "ssh", "")
    assert (found.phone.soc, found.phone.system, found.serial, found.boot) == ("", "Linux", "", "")
    assert (found.hardware.max_khz, found.hardware.governor) == (None, None)


def test_this_host_is_told_as_its_own_probe_tells_it(tmp_path: Path) -> None:
    found = find(LocalTransport(str(tmp_path)))
    own = cpu_facts(None, "")
    assert found.phone.transport == "local"
    for field in ("model_name", "vendor", "architecture", "isa", "physical_cores", "logical_cores", "max_khz"):
        assert getattr(found.hardware, field) == getattr(own, field)


def test_a_phone_that_hides_its_processor_is_an_error_that_names_it(
    tmp_path: Path, adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in adb_server.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "proc").mkdir()
    with AdbDevice(tmp_path) as device:
        adb_server.connect(device.address)
        with pytest.raises(QuantfleetError, match=rf"{device.address}.*does not say what it is") as caught:
            find(AdbTransport(device.address))
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_a_text_that_holds_anything_keeps_to_its_section() -> None:
    assert sections("@@ a/b\none\n@@two\n\n@@ c\n") == {"a/b": "one\n@@two\n\n", "c": ""}
