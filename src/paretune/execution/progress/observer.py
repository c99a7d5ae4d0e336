"""What a user sees while a study runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from paretune.execution.progress import Snapshot, describe_end, describe_run, describe_step
from paretune.store import RunStatus
from paretune.terminal import console, echo, is_terminal
from paretune.terminal.notebook import in_notebook

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_INTERVAL_SECONDS = 30.0
"""Between two plain lines about running runs; every ended run has a line of its own."""


class Observer(Protocol):
    """Shows how a study goes on."""

    def update(self, snapshot: Snapshot) -> None:
        """Called several times a second."""

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        """Called once for every run that ended, also in another process."""

    def note(self, text: str) -> None:
        """Called with what a user should know."""


@contextmanager
def open_observer(stream: IO[str] | None = None, *, quiet: bool = False) -> Iterator[Observer]:
    """An observer that writes to ``stream``, or stdout: bars on a terminal, otherwise lines."""
    if quiet:
        yield Observer()
        return
    if not is_terminal(stream):
        yield LineObserver(stream)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=console(stream), transient=True) as progress:
        yield BarObserver(progress)


@contextmanager
def open_default_observer(observer: Observer | None, *, quiet: bool = False) -> Iterator[Observer]:
    """The caller's observer; without one, progress in a terminal or a notebook, or silence."""
    if observer is not None:
        yield observer
        return
    with open_observer(quiet=quiet or not _is_watched()) as default:
        yield default


def default_tell(*, quiet: bool = False) -> Callable[[str], None]:
    """Shows sentences where :func:`open_default_observer` shows progress."""
    return (lambda sentence: None) if quiet or not _is_watched() else echo


class Observer:
    """Prints nothing: for ``--quiet``, and for scripts that look at what is returned."""

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""

    def note(self, text: str) -> None:
        """See :class:`Observer`."""


class LineObserver:
    """A line for every ended run, and at most one every 30 s about those that run."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream
        self._last = time.monotonic()

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        if time.monotonic() - self._last >= LINE_INTERVAL_SECONDS and snapshot.running:
            first, others = snapshot.running[0], len(snapshot.running) - 1
            more = f" (and {others} more)" if others else ""
            self._write(snapshot, f"{describe_run(first.run)}: {describe_step(first)}{more}")

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        self._write(snapshot, f"{describe_run(status.run)}: {describe_end(status)}")

    def note(self, text: str) -> None:
        """See :class:`Observer`."""
        echo(text, to=self._stream)

    def _write(self, snapshot: Snapshot, text: str) -> None:
        left = f"; {snapshot.time_left}" if snapshot.time_left else ""
        self.note(f"[{snapshot.ended}/{snapshot.total}] {text}{left}")
        self._last = time.monotonic()


class BarObserver:
    """One bar for the study and one for every running run; ended runs scroll by above them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._study_bar = progress.add_task("study", total=None, detail="")
        self._bars: dict[str, TaskID] = {}

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        self._progress.update(
            self._study_bar,
            completed=snapshot.ended,
            total=snapshot.total,
            detail=f"{snapshot.ended}/{snapshot.total} runs {snapshot.time_left}",
        )
        running = {status.run_id: status for status in snapshot.running}
        for run_id in set(self._bars) - set(running):
            self._progress.remove_task(self._bars.pop(run_id))
        for run_id, status in running.items():
            if run_id not in self._bars:
                name = describe_run(status.run)
                self._bars[run_id] = self._progress.add_task(name, total=None, detail="")
            self._progress.update(
                self._bars[run_id],
                completed=status.progress.get("step", 0),
                total=status.progress.get("steps"),
                detail=describe_step(status),
            )

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        counts = f"[{snapshot.ended}/{snapshot.total}]"
        self.note(f"{counts} {describe_run(status.run)}: {describe_end(status)}")

    def note(self, text: str) -> None:
        """See :class:`Observer`."""
        self._progress.console.print(text, markup=False, highlight=False)


def _is_watched() -> bool:
    """Whether a person sees what is written to stdout."""
    return is_terminal() or in_notebook()
