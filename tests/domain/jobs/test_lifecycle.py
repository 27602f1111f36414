"""The life of tasks under any interleaving of what nodes, users and clocks do."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quantfleet_domain.errors import CATALOGUE, Category, ErrorCode, QuantfleetError
from quantfleet_domain.jobs.lifecycle import (
    ENDED,
    ENGINE_RETRIES,
    INFRASTRUCTURE_RETRIES,
    Cancelled,
    Completed,
    Effect,
    Event,
    Failed,
    Failure,
    Job,
    JobEnded,
    JobState,
    Leased,
    Lost,
    Retried,
    Started,
    Starved,
    Task,
    TaskChanged,
    TaskKind,
    TaskState,
    ended_state,
    step,
)

CODES = (
    ErrorCode.ENGINE_CRASHED,
    ErrorCode.STORAGE_FULL,
    ErrorCode.WORKER_FAILED,
    ErrorCode.SAMPLE_UNREADABLE,
    ErrorCode.DIGEST_MISMATCH,
)
GRAPH = (
    Task("a/inspect", TaskKind.INSPECT),
    Task("a/calibrate/0", TaskKind.CALIBRATE, ("a/inspect",)),
    Task("a/calibrate/1", TaskKind.CALIBRATE, ("a/inspect",)),
    Task("a/merge", TaskKind.MERGE, ("a/inspect", "a/calibrate/0", "a/calibrate/1")),
    Task("a/benchmark", TaskKind.BENCHMARK, ("a/inspect", "a/merge")),
    Task("a/evaluate", TaskKind.EVALUATE, ("a/inspect",)),
)
REPORT = Task("report", TaskKind.REPORT, after=tuple(task.id for task in GRAPH))
NODES_DRAWN = st.sampled_from(("n1", "n1", "n1", "n2"))
BACK = st.sampled_from((0, 0, 0, 0, 0, 1, 2, -1))
"""How far behind the present epoch an event is: mostly not at all, or nothing would ever succeed."""
NAMES = tuple(task.id for task in (*GRAPH, REPORT))


def new_job() -> Job:
    return step(Job("j", {task.id: task for task in (*GRAPH, REPORT)}), Started())[0]


def lease(job: Job, task: str, node: str = "n1") -> Job:
    return step(job, Leased(task, node, "cpu:0"))[0]


def complete(job: Job, task: str, partial: bool = False) -> Job:
    job = lease(job, task)
    return step(job, Completed(task, job.tasks[task].epoch, "n1", "digest", partial))[0]


def fail(job: Job, task: str, code: ErrorCode) -> Job:
    job = lease(job, task)
    return step(job, Failed(task, job.tasks[task].epoch, "n1", Failure(code, "it broke", "mend it")))[0]


def complete_all(job: Job) -> Job:
    while ready := [task.id for task in job.tasks.values() if task.state is TaskState.READY]:
        job = complete(job, ready[0])
    return job


class Lives(RuleBasedStateMachine):
    """Any events in any order, with present and past epochs, right and wrong nodes, the same and other results."""

    @initialize()
    def start(self) -> None:
        self.job = new_job()
        self.accepted: dict[tuple[str, int], str] = {}
        self.leases: dict[tuple[str, int], str] = {}

    def take(self, event: Event) -> tuple[Effect, ...] | ErrorCode:
        before = self.job
        try:
            after, effects = step(before, event)
        except QuantfleetError as error:
            assert self.job is before
            return error.code
        self.job = after
        told = {effect.after.id: effect for effect in effects if isinstance(effect, TaskChanged)}
        assert len(told) == sum(isinstance(effect, TaskChanged) for effect in effects)
        for name in NAMES:
            was, now = before.tasks[name], after.tasks[name]
            assert now.epoch >= was.epoch
            assert (name in told) == (was != now)
            if name in told:
                assert (told[name].before, told[name].after) == (was, now)
            if TaskState.LEASED in (was.state, now.state) and was.state is not now.state:
                assert now.epoch > was.epoch or isinstance(event, Leased | Completed | Failed | Lost)
        began = before.state is JobState.RUNNING and after.state is not JobState.RUNNING
        assert [e for e in effects if isinstance(e, JobEnded)] == ([JobEnded(after.state)] if began else [])
        return effects

    @rule(task=st.sampled_from(NAMES), node=NODES_DRAWN)
    def leased(self, task: str, node: str) -> None:
        was = self.job.tasks[task]
        outcome = self.take(Leased(task, node, "cpu:0"))
        assert (outcome == ErrorCode.LEASE_STALE) == (was.state is not TaskState.READY)
        if was.state is TaskState.READY:
            key = (task, was.epoch)
            assert key not in self.leases  # no two leases under one epoch
            self.leases[key] = node

    @rule(
        task=st.sampled_from(NAMES),
        back=BACK,
        node=NODES_DRAWN,
        digest=st.sampled_from("xy"),
        partial=st.booleans(),
    )
    def completed(self, task: str, back: int, node: str, digest: str, partial: bool) -> None:
        was = self.job.tasks[task]
        epoch = was.epoch - back
        outcome = self.take(Completed(task, epoch, node, digest, partial))
        holds = was.state is TaskState.LEASED and (was.epoch, was.node) == (epoch, node)
        repeats = was.state is TaskState.SUCCEEDED and (was.epoch, was.node) == (epoch, node)
        if holds:
            assert not isinstance(outcome, ErrorCode)
            assert (task, epoch) not in self.accepted
            self.accepted[task, epoch] = digest
            assert self.job.tasks[task].result == digest
        elif repeats:
            same = self.accepted[task, epoch] == digest
            assert outcome == (() if same else ErrorCode.RESULT_CONFLICT)
        else:
            assert outcome is ErrorCode.LEASE_STALE

    @rule(task=st.sampled_from(NAMES), back=BACK, node=NODES_DRAWN, code=st.sampled_from(CODES))
    def failed(self, task: str, back: int, node: str, code: ErrorCode) -> None:
        was = self.job.tasks[task]
        epoch = was.epoch - back
        outcome = self.take(Failed(task, epoch, node, Failure(code, "what", "todo")))
        now = self.job.tasks[task]
        if was.state is TaskState.LEASED and (was.epoch, was.node) == (epoch, node):
            if code is ErrorCode.SAMPLE_UNREADABLE:
                assert now.state is TaskState.FAILED
            assert now.state is TaskState.FAILED or (now.state, now.epoch) == (TaskState.READY, was.epoch + 1)
        elif not (was.state is TaskState.FAILED and (was.epoch, was.node) == (epoch, node)):
            assert outcome is ErrorCode.LEASE_STALE
        else:
            assert outcome == ()

    @rule(task=st.sampled_from(NAMES), back=BACK)
    def lost(self, task: str, back: int) -> None:
        was = self.job.tasks[task]
        outcome = self.take(Lost(task, was.epoch - back, "its node went away"))
        assert (outcome is ErrorCode.LEASE_STALE) == (was.state is not TaskState.LEASED or back != 0)

    @rule(task=st.sampled_from(NAMES))
    def starved(self, task: str) -> None:
        was = self.job.tasks[task]
        effects = self.take(Starved(task, "no such device"))
        assert (effects == ()) == (was.state is not TaskState.READY)

    @rule()
    def cancelled(self) -> None:
        self.take(Cancelled())
        assert self.job.state is not JobState.RUNNING

    @rule()
    def retried(self) -> None:
        was = self.job
        outcome = self.take(Retried())
        wanted = any(task.partial or task.state is not TaskState.SUCCEEDED for task in was.tasks.values())
        allowed = was.state is not JobState.RUNNING and wanted
        assert (outcome is ErrorCode.JOB_NOT_RETRYABLE) == (not allowed)

    @invariant()
    def the_state_follows_from_the_tasks(self) -> None:
        job = self.job
        assert job.state is ended_state(job.tasks)
        assert (job.state is JobState.RUNNING) == any(task.state not in ENDED for task in job.tasks.values())
        for task in job.tasks.values():
            needs = [job.tasks[name] for name in task.needs]
            assert task.infrastructure_failures <= INFRASTRUCTURE_RETRIES + 1
            assert task.engine_failures <= ENGINE_RETRIES + 1
            if task.state in (TaskState.READY, TaskState.LEASED, TaskState.SUCCEEDED):
                assert all(need.state is TaskState.SUCCEEDED for need in needs)
            if task.state is TaskState.SKIPPED:
                assert task.failure is not None
                assert any(need.state not in (TaskState.SUCCEEDED, *_UNENDED) for need in needs)
            if task.state is TaskState.PENDING:
                assert not all(need.state is TaskState.SUCCEEDED for need in needs) or any(
                    job.tasks[name].state not in ENDED for name in task.after
                )
            assert (task.state is TaskState.LEASED) <= bool(task.node)


_UNENDED = tuple(state for state in TaskState if state not in ENDED)
TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_one_attempt_has_one_result() -> None:
    job = complete(new_job(), "a/inspect")
    assert step(job, Completed("a/inspect", 1, "n1", "digest")) == (job, ())
    for event, code in (
        (Completed("a/inspect", 1, "n1", "another"), ErrorCode.RESULT_CONFLICT),
        (Completed("a/inspect", 1, "n2", "digest"), ErrorCode.LEASE_STALE),
        (Completed("a/inspect", 0, "n1", "digest"), ErrorCode.LEASE_STALE),
        (Failed("a/inspect", 1, "n1", Failure(ErrorCode.INTERNAL, "", "")), ErrorCode.LEASE_STALE),
    ):
        with pytest.raises(QuantfleetError) as caught:
            step(job, event)
        assert caught.value.code is code


def test_a_job_goes_from_start_to_success() -> None:
    job = complete_all(new_job())
    assert job.state is JobState.SUCCEEDED


def test_a_job_without_anything_that_can_fail_moves_at_once() -> None:
    job, effects = step(Job("j", {task.id: task for task in (*GRAPH, REPORT)}), Started())
    assert [task.id for task in job.tasks.values() if task.state is TaskState.READY] == ["a/inspect"]
    assert len(effects) == len(NAMES)
    assert all(isinstance(effect, TaskChanged) and effect.before is None for effect in effects)


@pytest.mark.parametrize(
    ("code", "attempts"),
    [
        (ErrorCode.ENGINE_CRASHED, ENGINE_RETRIES + 1),
        (ErrorCode.ENGINE_FAILED, ENGINE_RETRIES + 1),
        (ErrorCode.STORAGE_FULL, INFRASTRUCTURE_RETRIES + 1),
        (ErrorCode.PHONE_LOST, INFRASTRUCTURE_RETRIES + 1),
        (ErrorCode.DIGEST_MISMATCH, INFRASTRUCTURE_RETRIES + 1),
        (ErrorCode.INTERNAL, INFRASTRUCTURE_RETRIES + 1),
        *(
            (code, 1)
            for code, category in CATALOGUE.items()
            if category is Category.BAD_INPUT and code is not ErrorCode.DIGEST_MISMATCH
        ),
    ],
)
def test_a_budget_ends(code: ErrorCode, attempts: int) -> None:
    job, count = new_job(), 0
    while job.tasks["a/inspect"].state is TaskState.READY:
        job = fail(job, "a/inspect", code)
        count += 1
    assert count == attempts
    assert job.tasks["a/inspect"].failure == Failure(code, "it broke", "mend it")


def test_losses_and_crashes_have_budgets_of_their_own() -> None:
    job = new_job()
    for _ in range(INFRASTRUCTURE_RETRIES):
        job = lease(job, "a/inspect")
        job = step(job, Lost("a/inspect", job.tasks["a/inspect"].epoch, "gone"))[0]
    job = fail(job, "a/inspect", ErrorCode.ENGINE_CRASHED)
    assert job.tasks["a/inspect"].state is TaskState.READY
    assert complete(job, "a/inspect").tasks["a/inspect"].state is TaskState.SUCCEEDED


def test_what_cannot_be_reached_is_skipped_with_its_cause() -> None:
    job = complete(new_job(), "a/inspect")
    job = fail(job, "a/calibrate/1", ErrorCode.SAMPLE_UNREADABLE)
    for name in ("a/merge", "a/benchmark"):
        assert job.tasks[name].state is TaskState.SKIPPED
        assert job.tasks[name].failure == Failure(ErrorCode.SAMPLE_UNREADABLE, "it broke", "mend it")
    assert job.tasks["report"].state is TaskState.PENDING
    job = complete_all(job)
    assert job.state is JobState.PARTIAL


def test_a_job_of_which_nothing_came_has_failed() -> None:
    job = fail(new_job(), "a/inspect", ErrorCode.MODEL_UNREADABLE)
    assert complete_all(job).state is JobState.FAILED


@pytest.mark.parametrize("partial", [False, True])
def test_a_retry_takes_up_what_is_missing_and_keeps_the_rest(partial: bool) -> None:
    job = complete(new_job(), "a/inspect")
    job = complete(job, "a/evaluate")
    for name in ("a/calibrate/0", "a/calibrate/1", "a/merge"):
        job = complete(job, name)
    if partial:
        job = complete(job, "a/benchmark", partial=True)
    else:
        job = fail(job, "a/benchmark", ErrorCode.MODEL_UNSUPPORTED)
    job = complete(job, "report")
    assert job.state is JobState.PARTIAL
    again = step(job, Retried())[0]
    assert again.state is JobState.RUNNING
    changed = {name for name in NAMES if again.tasks[name] != job.tasks[name]}
    assert changed == {"a/benchmark", "report"}
    for name in changed:
        task = again.tasks[name]
        assert (task.epoch, task.failure, task.result, task.partial) == (job.tasks[name].epoch + 1, None, "", False)
    assert complete_all(again).state is JobState.SUCCEEDED


def test_a_job_that_succeeded_or_runs_is_not_retried() -> None:
    jobs: list[Any] = [new_job(), complete_all(new_job())]
    for job in jobs:
        with pytest.raises(QuantfleetError) as caught:
            step(job, Retried())
        assert caught.value.code is ErrorCode.JOB_NOT_RETRYABLE


def test_a_result_that_comes_after_the_cancellation_is_refused() -> None:
    job = step(lease(new_job(), "a/inspect"), Cancelled())[0]
    assert job.state is JobState.CANCELLED
    with pytest.raises(QuantfleetError) as caught:
        step(job, Completed("a/inspect", 1, "n1", "digest"))
    assert caught.value.code is ErrorCode.LEASE_STALE
    assert step(job, Cancelled()) == (job, ())
