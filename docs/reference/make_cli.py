"""Writes cli.md from the command line's own definitions, so that it cannot say anything else. Not part of the package.

Run it after a change of a command: .venv/bin/python docs/reference/make_cli.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from quantfleet.cli.main import app

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command line

Written by `docs/reference/make_cli.py` from the commands themselves; a test compares the two.
Every command has `--help` too.

Results go to standard output, progress and errors to standard error. With `--json` the result is JSON, and so is an
error: `{"error": {"code", "what", "todo"}}`; the codes are in [errors.md](errors.md).

| exit code | meaning |
|---|---|
| 0 | it worked; for a followed job: it succeeded and every gate was passed |
| 1 | failed, or a job that ended `partial`, `failed` or `cancelled`; `scales diff`: they differ; `check`: faults |
| 2 | wrong usage or bad input |
| 3 | the job succeeded and a gate was missed |
| 4 | the coordinator or its store cannot be reached |
| 5 | refused: no credentials, not allowed, in conflict, or nothing left of something |
| 130, 143 | interrupted by Ctrl-C, ended by SIGTERM |

| environment variable | meaning |
|---|---|
| `QUANTFLEET_CREDENTIALS` | as `--credentials` |
| `QUANTFLEET_DEBUG=1` | print the traceback of an error too |
| `XDG_CONFIG_HOME`, `XDG_DATA_HOME` | instead of `~/.config` (credentials) and `~/.local/share` (state) |
"""


def render() -> str:
    """The whole page as Markdown with a final newline."""
    # Typer brings its own click or uses the installed one, by version: there is no one type to name.
    root: Any = typer.main.get_command(app)
    return HEAD + "".join(_section(words, command) for words, command in commands(root, ("quantfleet",)))


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below this one that does something, with its words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for name, inner in below.items():
        if not inner.hidden:
            yield from commands(inner, (*words, name))


def _section(words: tuple[str, ...], command: Any) -> str:
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    options = [parameter for parameter in shown if parameter.param_type_name == "option"]
    usage = " ".join([*words, *("[OPTIONS]" for _ in options[:1]), *(_metavar(argument) for argument in arguments)])
    text = f"\n## `{' '.join(words)}`\n\n```\n{usage}\n```\n\n{(command.help or '').strip()}\n\n"
    rows = [f"| `{_metavar(argument)}` | {_cell(argument.help)} |" for argument in arguments]
    rows += [f"| `{_option(option)}` | {_cell(option.help)}{_extra(option)} |" for option in options]
    return text + "| argument or option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


def _metavar(parameter: Any) -> str:
    return parameter.metavar or str(parameter.name).upper()


def _option(option: Any) -> str:
    names = ", ".join(option.opts)
    return names if option.is_flag else f"{names} {_metavar(option)}"


def _extra(option: Any) -> str:
    default = "" if option.is_flag or option.default in (None, "") else f" Default: `{option.default}`."
    return default + (f" Environment: `{option.envvar}`." if option.envvar else "")


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render())
