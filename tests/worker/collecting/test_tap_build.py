"""The wheel brings the compiled tap where there is a compiler, and is whole where there is none."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = ("protos", "domain", "wire", "coordinator", "worker", "client")
LIBRARY = "quantfleet_worker/collecting/_tap.so"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is made of, without anything compiled."""
    folder = tmp_path_factory.mktemp("checkout")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "_tap.*"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def build(checkout: Path, output: Path, **environment: str) -> tuple[Path, str]:
    """The wheel, and what the build said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)]
    done = subprocess.run(
        command, cwd=checkout, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    (wheel,) = output.glob("*.whl")
    return wheel, done.stdout + done.stderr


def test_with_a_compiler_the_wheel_is_for_this_platform_and_brings_the_tap(checkout: Path, tmp_path: Path) -> None:
    wheel, _ = build(checkout, tmp_path)
    assert "-py3-none-linux_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {LIBRARY, "quantfleet_worker/collecting/tap.c", "quantfleet_worker/collecting/counting.h"} <= set(names)


@pytest.mark.parametrize(
    ("compiler", "said"), [("/nowhere/cc", "no C compiler (No such file"), ("false", "the C compiler failed")]
)
def test_without_a_compiler_the_install_succeeds_and_says_what_it_lacks(
    checkout: Path, tmp_path: Path, compiler: str, said: str
) -> None:
    wheel, output = build(checkout, tmp_path, CC=compiler)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY not in zipfile.ZipFile(wheel).namelist()
    assert said in output
    assert "count with numpy" in output


def test_a_wheel_without_the_tap_does_not_bring_an_old_one(checkout: Path, tmp_path: Path) -> None:
    build(checkout, tmp_path / "first")
    wheel, _ = build(checkout, tmp_path / "second", CC="/nowhere/cc")
    assert LIBRARY not in zipfile.ZipFile(wheel).namelist()


def test_the_installed_tap_is_of_the_installed_sources() -> None:
    from quantfleet_worker.collecting import tap_library

    assert tap_library.load()
