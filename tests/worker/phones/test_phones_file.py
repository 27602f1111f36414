from pathlib import Path

import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.phones.fleet_file import read
from quantfleet_worker.phones.transports.adb import AdbTransport
from quantfleet_worker.phones.transports.local import LocalTransport
from quantfleet_worker.phones.transports.ssh import SshTransport

GOOD = """\
phones:
  - {name: pixel, transport: adb, address: 01234567, benchmark_bin: {armv8: tools/b8, armv7: tools/b7}, power_mode: low}
  - name: rk3588
    transport: ssh
    address: board
    directory: /tmp/quantfleet/
    benchmark_bin: {armv8: tools/b8}
  - {name: here, transport: local, directory: /tmp/q, benchmark_bin: {armv7: tools/b7}}
opt: {interpreter: tools/python}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    for name in ("b8", "b7", "python"):
        (tmp_path / "tools" / name).touch()
    (tmp_path / "phones.yaml").write_text(GOOD)
    return tmp_path / "phones.yaml"


def test_phones_are_read_with_their_ways_and_their_tools(file: Path) -> None:
    pixel, board, here = read(file).phones
    tools = file.parent / "tools"
    assert (pixel.name, pixel.power_mode) == ("pixel", "low")
    assert pixel.tools == {"arm64-v8a": tools / "b8", "armeabi-v7a": tools / "b7"}
    assert isinstance(pixel.transport, AdbTransport)
    assert (pixel.transport.address, pixel.transport.directory) == ("01234567", "/data/local/tmp/quantfleet")
    assert isinstance(board.transport, SshTransport)
    assert (board.transport.address, board.transport.directory, board.power_mode) == (
        "board",
        "/tmp/quantfleet",
        "high",
    )
    assert isinstance(here.transport, LocalTransport)
    assert here.tools == {"armeabi-v7a": tools / "b7"}
    assert read(file).opt_interpreter == tools / "python"


def test_without_an_interpreter_there_is_none(file: Path) -> None:
    file.write_text(GOOD[: GOOD.index("opt:")])
    assert read(file).opt_interpreter is None


@pytest.mark.parametrize(
    ("instead", "of", "what", "todo"),
    [
        ("phone:", "phones:", "1:1: a phones file has no key 'phone'", "did you mean 'phones'?"),
        ("adress: board", "address: board", "5:5: phones[1] has no key 'adress'", "did you mean 'address'?"),
        ("transport: usb", "transport: adb", "2:30: there is no transport 'usb'", "adb, ssh, local"),
        ("arm8: ", "armv8: ", "2:70: phones[0].benchmark_bin has no key 'arm8'", "did you mean 'armv8'?"),
        ("power_mode: lo", "power_mode: low", "there is no power mode 'lo'", "did you mean 'low'?"),
        ("armv8: tools/b9", "armv8: tools/b8", "2:77: there is no benchmark_bin", "the program on this host"),
        ("benchmark_bin: {}", "benchmark_bin: {armv7: tools/b7}", "no build of benchmark_bin is named", "armv8, armv7"),
        ("interpreter: nowhere", "interpreter: tools/python", "there is no interpreter", "the program on this host"),
        ("local, address: x", "local", "phones[2] has no key 'address'", "there are"),
        ("address: -oProxyCommand=x", "address: board", "'-oProxyCommand=x' is no address", "dash"),
        ("directory: tmp", "directory: /tmp/quantfleet/", "'tmp' is no directory of its own", "absolute"),
        ("directory: /", "directory: /tmp/quantfleet/", "'/' is no directory of its own", "absolute"),
        ("name: pixel", "name: rk3588", "2 phones are called 'pixel'", "a name of its own"),
        ("", "    directory: /tmp/quantfleet/\n", "3:5: this phone has no directory", "write `directory:`"),
        ("phones: [", "phones:", "this is no YAML", "mend"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(file: Path, instead: str, of: str, what: str, todo: str) -> None:
    file.write_text(GOOD.replace(of, instead, 1))
    with pytest.raises(QuantfleetError) as caught:
        read(file)
    assert caught.value.code is ErrorCode.USAGE
    assert what in caught.value.what
    assert str(file) in caught.value.what
    assert todo in caught.value.todo


@pytest.mark.parametrize(
    ("text", "todo"), [("", "describe a phones file"), ("opt: {}", "`phones:`"), ("[]", "mapping")]
)
def test_a_file_without_phones_says_so(file: Path, text: str, todo: str) -> None:
    file.write_text(text)
    with pytest.raises(QuantfleetError) as caught:
        read(file)
    assert (caught.value.code, todo in caught.value.todo) == (ErrorCode.USAGE, True)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError, match=r"phones\.yaml cannot be read: No such file") as caught:
        read(tmp_path / "phones.yaml")
    assert caught.value.code is ErrorCode.USAGE
