"""How a job goes on, on standard error: bars on a terminal, plain lines elsewhere. Not for results."""

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from quantfleet.rendering.terminal import printable
from quantfleet_protos.v1.control_pb2 import TaskStatus, WatchJobResponse

_ENDED = ("succeeded", "failed", "skipped", "cancelled")


class Display:
    """Shows stages, notes and a job's tasks on standard error, as a context manager. Use `display()` to make one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def stage(self, name: str, done: int, total: int) -> None:
        """So much of a countable stage (hashing, uploading) is done."""
        if done == total:
            self.note(f"{name}: {total}")

    def note(self, text: str) -> None:
        """One line that stays."""
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201 - the plain display is these lines

    def tasks(self, tasks: Iterable[TaskStatus]) -> None:
        """The job's tasks as they are at the beginning."""
        counts = Counter(task.kind for task in tasks)
        self.note("tasks: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))

    def event(self, event: WatchJobResponse) -> None:
        """Something happened in the job."""
        if not event.sequence or not event.HasField("task"):
            return
        task = event.task
        word = {"succeeded": "done", "leased": "started", "ready": "is to be tried again"}.get(task.state, task.state)
        if task.state == "pending" or (task.state == "ready" and not task.failure.what):
            return
        reason = f": {task.failure.what}" if task.failure.what and task.state != "succeeded" else ""
        self.note(f"[{event.ended_tasks}/{event.tasks}] {task.task_id} {word}{_where(task)}{reason}")


class _Bars(Display):
    """A bar for each kind of task, and a line for each task that is at work."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16, table_column=Column(no_wrap=True, min_width=16)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[doing]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            expand=True,
            # Each drawing takes a moment of a core that may be measuring.
            refresh_per_second=2,
            transient=True,
        )
        self._rows: dict[str, TaskID] = {}
        self._states: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        self._row(name, done, total, "")
        if done >= total:
            self._forget(name)

    def note(self, text: str) -> None:
        self._bars.console.print(escape(printable(text)), highlight=False)

    def tasks(self, tasks: Iterable[TaskStatus]) -> None:
        self._states = {task.task_id: (task.kind, task.state) for task in tasks}
        self._draw()

    def event(self, event: WatchJobResponse) -> None:
        if not event.HasField("task"):
            return
        task = event.task
        self._states[task.task_id] = (task.kind, task.state)
        if task.state == "leased":
            self._row(f"  {task.task_id}", round(100 * task.progress), 100, f"{task.doing}{_where(task)}")
        else:
            self._forget(f"  {task.task_id}")
        if event.sequence and task.failure.what:
            self.note(f"{task.task_id} {task.state}: {task.failure.what}")
        self._draw()

    def _draw(self) -> None:
        totals = Counter(kind for kind, _ in self._states.values())
        ended = Counter(kind for kind, state in self._states.values() if state in _ENDED)
        for kind, total in totals.items():
            self._row(kind, ended[kind], total, "")

    def _row(self, name: str, done: int, total: int, doing: str) -> None:
        doing = escape(printable(doing))
        if name not in self._rows:
            self._rows[name] = self._bars.add_task(escape(printable(name)), total=total, doing=doing)
        self._bars.update(self._rows[name], completed=done, total=total, doing=doing)

    def _forget(self, name: str) -> None:
        if name in self._rows:
            self._bars.remove_task(self._rows.pop(name))


def _where(task: TaskStatus) -> str:
    place = "/".join(part for part in (task.node, task.device) if part)
    return f" on {place}" if place else ""


def display() -> Display:
    """Bars where standard error is a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    return _Bars(console) if console.is_terminal else Display()
