"""Real child processes: how each way to end is reported, and that nothing outlives a run."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.outcome import Cancelled, Crashed, Failed, Result
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.execution.supervisor import TAIL_BYTES, ChildRun

SpecOf = Callable[..., RunSpec]


def test_a_result_comes_back_with_progress_and_usage(spec_of: SpecOf) -> None:
    heard: list[tuple[float, str]] = []
    outcome = ChildRun(spec_of("echo"), lambda *step: heard.append(step)).run(b"abc")
    assert isinstance(outcome, Result)
    assert outcome.payload == b"cba"
    assert heard == [(0.5, "half"), (1.0, "done")]
    assert outcome.usage.peak_rss_bytes is not None
    assert outcome.usage.peak_rss_bytes > 1_000_000
    assert outcome.usage.cpu_seconds > 0
    assert outcome.usage.wall_seconds > 0


def test_a_request_and_a_result_of_many_megabytes_pass(spec_of: SpecOf) -> None:
    request = os.urandom(8_000_000)
    outcome = ChildRun(spec_of("echo")).run(request)
    assert isinstance(outcome, Result)
    assert outcome.payload == request[::-1]


@pytest.mark.parametrize("core", sorted(os.sched_getaffinity(0))[:2])
def test_every_thread_of_the_child_inherits_its_cores_and_ours_stay_ours(spec_of: SpecOf, core: int) -> None:
    before = os.sched_getaffinity(0)
    outcome = ChildRun(spec_of("surroundings", (core,), threads=3)).run(b"")
    assert isinstance(outcome, Result), outcome
    seen = json.loads(outcome.payload)
    assert seen["own"] == [core]
    assert seen["threads"] == [[core]]
    assert seen["thread_count"] >= 4
    assert os.sched_getaffinity(0) == before


def test_the_child_gets_named_variables_only(spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_ID", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    outcome = ChildRun(spec_of("surroundings", threads=3)).run(b"")
    assert isinstance(outcome, Result)
    seen = json.loads(outcome.payload)
    assert seen["leads_group"]
    assert seen["environment"]["OMP_NUM_THREADS"] == "3"
    assert seen["environment"]["LANG"] == "C.UTF-8"
    assert not [name for name in seen["environment"] if name.startswith("RAY_")]


def test_what_libraries_print_is_kept_apart_from_the_answer_and_bounded(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("print_much")).run(b"")
    assert isinstance(outcome, Result)
    assert outcome.payload == b"ok"
    assert outcome.log.endswith("the last line")
    assert len(outcome.log) <= TAIL_BYTES


def test_peak_memory_is_the_childs_own_and_not_inherited_from_a_large_parent(spec_of: SpecOf) -> None:
    ballast = b"\1" * 400_000_000
    small, large = (ChildRun(spec_of("allocate")).run(b"%d" % size) for size in (1_000_000, 200_000_000))
    del ballast
    assert isinstance(small, Result)
    assert isinstance(large, Result)
    assert small.usage.peak_rss_bytes is not None
    assert large.usage.peak_rss_bytes is not None
    assert small.usage.peak_rss_bytes < 200_000_000 < large.usage.peak_rss_bytes < 400_000_000


def test_a_users_error_keeps_its_code_and_its_advice(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("refuse")).run(b"")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.MODEL_UNREADABLE
    assert (outcome.error.what, outcome.error.todo) == ("model.onnx has no graph", "export it again")
    assert outcome.log == ""


def test_any_other_exception_is_an_engine_failure_with_its_traceback_in_the_log(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("divide")).run(b"")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.ENGINE_FAILED
    assert outcome.error.what.startswith("ZeroDivisionError: ")
    assert "child_handlers.py" in outcome.log


def test_a_handler_that_does_not_exist_is_an_engine_failure(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("absent")).run(b"")
    assert isinstance(outcome, Failed)
    assert "absent" in outcome.error.what


def test_a_segmentation_fault_is_a_crash_by_name(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("segfault")).run(b"")
    assert isinstance(outcome, Crashed)
    assert outcome.signal == "SIGSEGV"
    assert "child_handlers.py" in outcome.tail
    assert outcome.usage.peak_rss_bytes is None
    assert outcome.error.code is ErrorCode.ENGINE_CRASHED


def test_an_abort_is_a_crash_with_the_engines_last_words(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("abort")).run(b"")
    assert isinstance(outcome, Crashed)
    assert outcome.signal == "SIGABRT"
    assert outcome.error.what.endswith("its last words: [F analysis.cc:12] no such kernel")


def test_an_exit_without_an_answer_is_a_crash_with_its_code(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("leave")).run(b"")
    assert isinstance(outcome, Crashed)
    assert (outcome.signal, outcome.exit_code) == ("", 7)


def test_a_child_that_never_reads_its_request_does_not_hold_up_the_supervisor(spec_of: SpecOf) -> None:
    spec = RunSpec(spec_of("echo").cores, interpreter="/bin/false")
    outcome = ChildRun(spec).run(bytes(5_000_000))
    assert isinstance(outcome, Crashed)
    assert outcome.exit_code == 1


def test_rubbish_on_the_answer_pipe_ends_the_run(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("babble")).run(b"")
    assert isinstance(outcome, Crashed)
    assert "broken answer" in outcome.reason


def test_a_memory_limit_turns_an_allocation_beyond_it_into_a_failure(spec_of: SpecOf) -> None:
    outcome = ChildRun(spec_of("allocate", memory_bytes=300_000_000)).run(b"500000000")
    assert isinstance(outcome, Failed)
    assert "MemoryError" in outcome.error.what


def test_an_interpreter_that_is_not_there_is_told(spec_of: SpecOf) -> None:
    with pytest.raises(QuantfleetError, match="/nowhere/python") as error:
        ChildRun(RunSpec((0,), interpreter="/nowhere/python")).run(b"")
    assert error.value.code is ErrorCode.ENGINE_MISSING


def test_cores_that_do_not_exist_are_told_and_ours_stay_ours() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(QuantfleetError, match="4000") as error:
        ChildRun(RunSpec((4000,))).run(b"")
    assert error.value.code is ErrorCode.WORKER_FAILED
    assert os.sched_getaffinity(0) == before


def test_a_kill_ends_a_child_that_ignores_every_polite_signal(spec_of: SpecOf, gone: Callable[[int], bool]) -> None:
    pids: list[int] = []

    def kill(_: float, message: str) -> None:
        pids.append(int(message))
        threading.Thread(target=run.kill).start()

    run = ChildRun(spec_of("hang"), kill)
    outcome = run.run(b"")
    assert isinstance(outcome, Cancelled)
    assert gone(pids[0])
    run.kill()  # once more, after the end: nothing happens


def test_a_kill_before_the_start_starts_nothing(spec_of: SpecOf) -> None:
    run = ChildRun(spec_of("hang"))
    run.kill()
    assert isinstance(run.run(b""), Cancelled)


def test_a_kill_reaches_a_grandchild(spec_of: SpecOf, gone: Callable[[int], bool]) -> None:
    pids: list[int] = []

    def kill(_: float, message: str) -> None:
        pids.extend(map(int, message.split()))
        run.kill()

    run = ChildRun(spec_of("hang_with_grandchild"), kill)
    assert isinstance(run.run(b""), Cancelled)
    assert all(gone(pid) for pid in pids)


def test_a_grandchild_that_keeps_the_pipes_open_neither_blocks_nor_survives(
    spec_of: SpecOf, gone: Callable[[int], bool]
) -> None:
    outcome = ChildRun(spec_of("leave_grandchild")).run(b"")
    assert isinstance(outcome, Result)
    assert gone(int(outcome.payload))


def test_an_error_in_the_progress_callback_leaves_no_child_behind(spec_of: SpecOf, gone: Callable[[int], bool]) -> None:
    pids: list[int] = []

    def fail(_: float, message: str) -> None:
        pids.append(int(message))
        raise KeyError(message)

    with pytest.raises(KeyError):
        ChildRun(spec_of("hang"), fail).run(b"")
    assert gone(pids[0])


def test_a_child_dies_with_a_supervisor_that_is_killed(spec_of: SpecOf, gone: Callable[[int], bool]) -> None:
    program = textwrap.dedent(
        f"""
        from quantfleet_worker.execution.spec import RunSpec
        from quantfleet_worker.execution.supervisor import ChildRun
        ChildRun({spec_of("hang")!r}, lambda _, message: print(message, flush=True)).run(b"")
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        supervisor.kill()
    assert gone(child)
