"""Every command explains itself, every error is one message with an exit code, and nothing is loaded needlessly."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.client.cli.conftest import Run
from tests.domain.reporting.sample_reports import sample_report

from quantfleet.cli.main import app
from quantfleet_domain.reporting.report import Report


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            assert command.help, name
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_and_each_of_its_options_has_help(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{' '.join(path)} {parameter.name}"


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_json(path: tuple[str, ...]) -> None:
    assert "--json" in {option for parameter in ALL[path].params for option in parameter.opts}


def test_the_commands_are_those_of_the_design() -> None:
    assert {" ".join(path) for path in ALL} == {
        *("run", "calibrate", "benchmark", "login", "audit", "check", "coordinator serve"),
        *("worker join", "worker run", "worker probe", "worker doctor"),
        *("token create", "token list", "token revoke", "user create", "user list", "user revoke"),
        *(
            f"job {name}"
            for name in ["submit", "list", "status", "watch", "explain", "logs", "cancel", "retry", "report"]
        ),
        *(f"node {name}" for name in ["list", "cordon", "uncordon", "drain", "revoke"]),
        *("pool list", "pool put", "report show"),
        *(f"scales {name}" for name in ["show", "diff", "import", "export"]),
    }


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "nowhere.yaml"], 2),
        (["run"], 2),
        (["rum"], 2),
        ([], 2),
        (["token"], 2),
        (["job", "list", "--credentials", "/nowhere"], 5),
        (["report", "show", "nowhere.json"], 2),
        (["report", "show", "nowhere.json", "--format", "pdf"], 2),
        (["scales", "show", "nowhere.json"], 2),
        (["benchmark", "nowhere.onnx"], 2),
        (["benchmark", "nowhere.onnx", "--threads", "many"], 2),
        (["benchmark", "nowhere.onnx", "--input-shape", "1,3"], 2),
        (["benchmark", "nowhere.onnx", "--fastdeploy-config", "nowhere.txt"], 2),
        (["scales", "import", "nowhere.cache", "--model", "nowhere.onnx", "--out", "scales.json"], 2),
        (["scales", "export", "nowhere.json", "--form", "tensorrt-cache", "--out", "a.cache"], 2),
        (["scales", "export", "nowhere.json", "--form", "other", "--out", "a.cache"], 2),
        (["worker", "join", "no-token"], 2),
        (["worker", "probe", "--cores", "all"], 2),
        (["worker", "run", "--state", "/nowhere", "--log-level", "loud"], 2),
        (["worker", "run", "--state", "/nowhere"], 5),
        (["--help"], 0),
        (["--version"], 0),
        (["job", "submit", "--help"], 0),
    ],
)
def test_an_exit_code_says_what_kind_of_trouble_it_is(run: Run, words: list[str], code: int) -> None:
    assert run(*words).code == code


def test_an_error_is_one_message_on_standard_error_with_what_to_do(run: Run) -> None:
    ran = run("run", "nowhere.yaml")
    assert ran.out == ""
    assert ran.err.splitlines() == [
        "error: the job file nowhere.yaml cannot be read: No such file or directory",
        "  to do: give the path of a job file",
    ]


def test_with_json_an_error_is_json_on_standard_output(run: Run) -> None:
    ran = run("run", "nowhere.yaml", "--json")
    assert ran.json["error"]["code"] == "job-invalid"
    assert ran.err == ""
    assert run("run", "--json").json["error"]["code"] == "usage"


def test_an_unknown_command_names_the_nearest(run: Run) -> None:
    assert "Did you mean 'token'?" in run("tokn").err


def test_more_workers_than_cores_is_bad_usage(run: Run, job_file: Path) -> None:
    ran = run("run", job_file, "--workers", 4096)
    assert ran.code == 2
    assert "4096 workers cannot share" in ran.err


@pytest.mark.parametrize("command", [["run", "job.yaml"], ["worker", "run", "--state", "/nowhere"]])
@pytest.mark.parametrize("package", ["nobodys_recipes", "nobodys_recipes.inner"])
def test_a_package_that_is_allowed_and_not_installed_is_told_before_any_work(
    run: Run, command: list[str], package: str
) -> None:
    ran = run(*command, "--allow-code", package)
    assert ran.code == 1
    assert f"the package {package} is not installed here" in ran.err


def test_a_traceback_is_shown_only_for_who_asks_for_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in run("run", "nowhere.yaml").err
    monkeypatch.setenv("QUANTFLEET_DEBUG", "1")
    assert "Traceback" in run("run", "nowhere.yaml").err


def test_importing_the_package_and_asking_for_help_load_no_engine_no_ray_and_no_server() -> None:
    heavy = (
        "ray onnxruntime onnx paddle sqlalchemy matplotlib jinja2 cv2 sklearn quantfleet_worker quantfleet_coordinator"
    )
    program = (
        "import sys, quantfleet, quantfleet.client, quantfleet.embedded\n"
        "from quantfleet.cli.main import main\n"
        "assert main(['run', '--help']) == 0\n"
        f"loaded = [name for name in {heavy.split()} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [["--version"], ["report", "show", "REPORT"], ["run", "nowhere.yaml", "--json"]])
def test_a_reader_that_closes_standard_output_gets_no_complaint(
    tmp_path: Path, words: list[str], buffered: bool
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(sample_report().to_json())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [
            sys.executable,
            *([] if buffered else ["-u"]),
            "-m",
            "quantfleet",
            *(w.replace("REPORT", str(path)) for w in words),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("form", "beginning"),
    [("terminal", "Runtime latency"), ("md", "# "), ("html", "<!doctype html>"), ("csv", "model,")],
)
def test_a_report_is_shown_in_each_form(run: Run, tmp_path: Path, form: str, beginning: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(sample_report().to_json())
    ran = run("report", "show", path, "--format", form)
    assert ran.code == 0
    assert ran.out.lower().startswith(beginning.lower())


def test_a_report_shown_as_json_is_the_report(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(sample_report().to_json())
    assert Report.from_json(run("report", "show", path, "--json").out.encode()) == sample_report()


def test_a_file_that_is_no_report_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": "other"}))
    ran = run("report", "show", path)
    assert ran.code == 2
    assert str(path) in ran.err


def test_worker_probe_says_what_this_host_is(run: Run) -> None:
    first = min(os.sched_getaffinity(0))
    (device,) = run("worker", "probe", "--json", "--cores", first).json
    assert (device["device"], device["verified"], device["slots"]) == ("cpu:0", True, [first])
    assert "onnxruntime-cpu" in run("worker", "probe").out
