"""Every command of the documentation exists, and every command, option and role of the code is documented."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from quantfleet.cli.main import app
from quantfleet_coordinator.servicers.control import ROLES
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.identity import Role

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", *sorted((ROOT / "examples").glob("*/README.md"))]


def _make_cli() -> Any:
    spec = importlib.util.spec_from_file_location("make_cli", DOCS / "reference/make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_line_is_what_its_script_writes() -> None:
    assert (DOCS / "reference/cli.md").read_text() == _make_cli().render(), (
        "run: .venv/bin/python docs/reference/make_cli.py"
    )


def test_every_command_and_option_has_a_help_text() -> None:
    for words, command in _make_cli().commands(typer.main.get_command(app), ("quantfleet",)):
        assert command.help, words
        for parameter in command.params:
            assert getattr(parameter, "hidden", False) or parameter.help, (*words, parameter.name)


def _shown_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in re.findall(r"(?ms)^```(?:sh|console)\n(.*?)^```", page.read_text()):
            for line in re.split(r"\n| && ", block.replace("\\\n", " ")):
                # What stands before the program is a prompt, or who runs it.
                found = re.match(r"(?:[\w.-]*\$ +)?[\w./-]*\bquantfleet (\w.*)", line)
                if found:
                    yield str(page.relative_to(ROOT)), found[1].strip()


@pytest.mark.parametrize(("page", "line"), sorted(set(_shown_commands())))
def test_every_command_shown_in_a_page_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        word = words.pop(0)
        assert word in command.commands, f"{page}: there is no command {word!r} in {line!r}"
        command = command.commands[word]
    known = {name: option for option in command.params for name in option.opts if name.startswith("--")}
    positional = 0
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            assert word in known, f"{page}: there is no option {word} in {line!r}"
            if not known[word].is_flag:
                words.pop(0)
        else:
            positional += 1
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    assert len([a for a in arguments if a.required]) <= positional <= len(arguments), f"{page}: {line}"


def test_every_control_call_is_in_the_table_of_roles_with_its_role_and_an_existing_command() -> None:
    table = (DOCS / "guide/security.md").read_text()
    rows = {name: (role, shown) for name, role, shown in re.findall(r"(?m)^\| `(\w+)` \| (\w+) \| (.*) \|$", table)}
    methods = [method.name for method in control_pb2.DESCRIPTOR.services_by_name["Control"].methods]
    assert sorted(rows) == sorted(methods)
    commands = {" ".join(words[1:]) for words, _ in _make_cli().commands(typer.main.get_command(app), ("quantfleet",))}
    for method, (role, shown) in rows.items():
        assert role == str(ROLES.get(f"/quantfleet.v1.Control/{method}", Role.ADMIN)), method
        assert set(re.findall(r"`([^`]+)`", shown)) <= commands, method
