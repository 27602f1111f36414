"""Every value of the chart says in values.yaml what it is, and stands in the chart's README with its default."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.deploy.chart import CHART
from tests.deploy.commands import assert_known
from tests.docs.pages import rows_of

README = (CHART / "README.md").read_text()
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def _documented() -> Iterator[tuple[str, ...]]:
    """The path of every key below a `# --` comment, and of every other key that has a value on its line."""
    path: list[tuple[int, str]] = []
    commented = False
    for line in (CHART / "values.yaml").read_text().splitlines():
        found = re.match(r"( *)([\w.]+):(.*)", line)
        if found is None:
            commented = commented or line.strip().startswith("# --")
            continue
        depth = len(found[1])
        path = [entry for entry in path if entry[0] < depth] + [(depth, found[2])]
        names = tuple(name for _, name in path)
        assert commented or not found[3].strip(), f"{'.'.join(names)} does not say what it is"
        if commented and names != ("pools",):
            yield names
        commented = False


def _default(names: tuple[str, ...]) -> Any:
    value = VALUES
    for name in names:
        value = value[name]
    return value


DOCUMENTED = list(_documented())


def test_the_readme_has_a_row_for_every_value_and_no_other() -> None:
    rows = set(rows_of(README, width=3)) | {f"pools.*.{name}" for name in rows_of(README, width=4)}
    expected = {".".join(("pools", "*", *names[2:]) if names[0] == "pools" else names) for names in DOCUMENTED}
    assert rows == expected


@pytest.mark.parametrize("names", DOCUMENTED, ids=".".join)
def test_the_default_of_a_value_is_in_its_row(names: tuple[str, ...]) -> None:
    pools = ("cpu", "gpu")
    if names[0] == "pools":
        cell = rows_of(README, width=4)[".".join(names[2:])][1 + pools.index(names[1])]
    else:
        cell = rows_of(README, width=3)[".".join(names)][1]
    assert yaml.safe_load(cell.strip("`")) == _default(names)


def test_both_pools_have_the_same_keys_and_the_schema_no_other() -> None:
    known = set(SCHEMA["definitions"]["pool"]["properties"])
    assert set(VALUES["pools"]["cpu"]) == set(VALUES["pools"]["gpu"]) == known
    assert set(VALUES) == set(SCHEMA["properties"]) - {"global"}


def _commands() -> Iterator[str]:
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```", README):
        # A command in a pod follows `--`; the shell's own words end it.
        yield from re.findall(r"(?:-- |^)quantfleet (.*?)(?= \||\n)", block.replace("\\\n", " "))


@pytest.mark.parametrize("command", sorted(set(_commands())))
def test_every_command_of_the_readme_is_one_that_the_cli_has(command: str) -> None:
    assert_known("README.md", shlex.split(command, comments=True))


def test_the_readme_makes_tokens() -> None:
    assert any(command.startswith("token create --node") for command in _commands())
