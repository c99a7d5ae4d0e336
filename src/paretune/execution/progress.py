"""Shows the progress of a study to a user: its runs in a few words, and the time that is left.

A :class:`Snapshot` is the study at one moment, with the time that is left by what similar runs
took. An :class:`Observer` shows it: bars on a terminal, one output in a notebook, plain lines
elsewhere.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from paretune import metrics
from paretune.store import RunStatus
from paretune.study import DEFAULT_COST_SECONDS, Run
from paretune.tasks import objective_of
from paretune.terminal import console, echo, is_terminal
from paretune.terminal.notebook import html_block, in_notebook, show_output

MIN_SHARE_DONE = 0.1
"""A running run counts for the estimate of similar ones from this share of its steps on."""
START_SECONDS = 5.0
"""The process of a cost takes this long to open a model."""
LINE_INTERVAL_SECONDS = 30.0
"""Between two plain lines about running runs; every ended run has a line of its own."""
OUTPUT_INTERVAL_SECONDS = 0.5
"""Between two updates of a notebook's output about running runs."""


def describe_run(run: Run) -> str:
    """A run in one short line: ``cb-sl x e5 x lora, rate 0.001, seed 1 (tune)``."""
    rate = "" if run.learning_rate is None else f", rate {run.learning_rate:g}"
    fold = f", fold {run.fold}" if run.stage == "tune" and run.fold else ""
    if (outer := run.outer) is not None:
        repeat = f", repeat {outer.repeat + 1}" if outer.repeat else ""
        fold = f", outer fold {outer.index + 1} of {outer.folds}{repeat}"
    rows = "" if run.rows == 1 else f", {run.rows:.0%} of the rows"
    return f"{' x '.join(run.cell)}{rate}, seed {run.seed}{fold}{rows} ({run.stage})"


def describe_end(status: RunStatus) -> str:
    """Say how a run ended: ``ok, 0.714, 34 s`` (a BLEU: ``28.4``), or why it failed."""
    if status.state == "failed":
        return f"failed ({status.outcome}): {status.message}"
    score = ""
    if status.score is not None:
        task = status.run.task
        metric = metrics.get(task.metric or objective_of(task).default_metric)
        score = f", {status.score:.{1 if metric.highest > 1 else 3}f}"
    seconds = "" if status.seconds is None else f", {format_duration(status.seconds)}"
    return f"{status.outcome}{score}{seconds}"


def describe_step(status: RunStatus) -> str:
    """Where a running run is: ``step 12 of 400, loss 0.53``."""
    progress = status.progress
    parts = []
    if "step" in progress:
        steps = f" of {progress['steps']}" if "steps" in progress else ""
        parts.append(f"step {progress['step']}{steps}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3g}")
    if progress.get("note"):
        parts.append(str(progress["note"]))
    return ", ".join(parts) or "starting"


def format_duration(seconds: float) -> str:
    """``42 s``, ``7 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment.

    Attributes:
        seconds_left: estimated from runs that ended or are well under way; None before them.
        in_rounds: the runs are those of this pass or budget; more may follow.
    """

    ended: int
    total: int
    running: tuple[RunStatus, ...]
    seconds_left: float | None
    in_rounds: bool = False

    @property
    def time_left(self) -> str:
        """``about 12 min left``, or nothing where that is not known."""
        left = "left of this pass" if self.in_rounds else "left"
        return f"about {format_duration(self.seconds_left)} {left}" if self.seconds_left else ""

    @property
    def counts(self) -> str:
        """``12/60 runs, about 12 min left``."""
        return ", ".join(filter(None, [f"{self.ended}/{self.total} runs", self.time_left]))

    def describe_running(self) -> str:
        """The first run that is under way, where it is, and how many more there are."""
        if not self.running:
            return ""
        first, count = self.running[0], len(self.running) - 1
        rest = f" (and {count} more)" if count else ""
        return f"{describe_run(first.run)}: {describe_step(first)}{rest}"


def take_snapshot(statuses: Sequence[RunStatus], workers: int, planned: int) -> Snapshot:
    """The study at this moment, with its time left.

    Args:
        workers: how many there are; costs are measured one after the other.
        planned: how many runs the whole study will have, as far as that is known; 0: unknown.
    """
    total = max(len(statuses), planned)
    return Snapshot(
        ended=sum(status.ended for status in statuses),
        total=total,
        running=tuple(s for s in statuses if s.state == "running" and not s.is_claimable),
        seconds_left=_estimate_seconds_left(statuses, workers, total - len(statuses)),
        in_rounds=not planned,
    )


def _estimate_seconds_left(
    statuses: Sequence[RunStatus], workers: int, unscheduled: int
) -> float | None:
    """Expect each run to take as long as similar runs, a first cost as long as its cell trains.

    It is None where runs are to train and none tells a time, or where a cost is to be measured and
    neither a cost nor a training run has ended. Baselines that train nothing are left out.
    """
    durations: dict[object, list[float]] = defaultdict(list)
    for status in statuses:
        if (seconds := _estimate_run_seconds(status)) is not None:
            for key in _similarity_keys(status):
                durations[key].append(seconds)
    if not durations:
        return None
    expected = {key: fmean(values) for key, values in durations.items()}
    training = expected.get("train")
    seconds_left = {"train": unscheduled * (training or 0.0), "cost": 0.0}
    for status in statuses:
        if status.ended or status.run.learning_rate is None:
            continue
        kind, cell = "cost" if status.stage == "cost" else "train", status.run.cell
        keys = _similarity_keys(status)
        seconds = next((expected[key] for key in keys if key in expected), None)
        if seconds is None and kind == "cost" and training is not None:  # none measured yet
            trained = expected.get((cell, "train"), training)
            seconds = START_SECONDS + min(1.5 * DEFAULT_COST_SECONDS, trained)
        if seconds is None:
            return None
        share_done = 0.0  # in this attempt and in those that it resumed from
        if (steps := status.progress.get("steps")) and (
            status.stage != "cost" or status.state == "running"
        ):
            share_done = min(1.0, float(status.progress.get("step", 0)) / float(steps))
        seconds_left[kind] += seconds * (1 - share_done)
    if unscheduled and training is None:
        return None
    return seconds_left["cost"] + seconds_left["train"] / max(1, workers)


def _estimate_run_seconds(status: RunStatus) -> float | None:
    """Seconds that a run took or will have taken; None where nothing is known yet.

    ``seconds`` are those of its last attempt, which may have resumed from a checkpoint.
    """
    if status.run.learning_rate is None or status.seconds is None or status.state == "failed":
        return None
    resumed_at, step = (int(status.progress.get(name, 0)) for name in ("resumed_at", "step"))
    if status.state == "done":
        if not resumed_at or status.stage == "cost":  # a cost always starts over
            return status.seconds
        return status.seconds * step / (step - resumed_at) if step > resumed_at else None
    steps = status.progress.get("steps")
    share = (step - resumed_at) / float(steps) if steps and status.state == "running" else 0.0
    return status.seconds / share if share >= MIN_SHARE_DONE else None


def _similarity_keys(status: RunStatus) -> tuple[object, ...]:
    run, stage = status.run, status.stage
    kind = "cost" if stage == "cost" else "train"
    return ((run.cell, stage), (run.cell, kind), (run.method.key, stage), kind)


class Observer:
    """Is told how a study goes on; this one shows nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Called several times a second."""

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        """Called once for every run that ended, also in another process."""

    def note(self, text: str) -> None:
        """Called with what a user should know."""


class LineObserver(Observer):
    """A line for every ended run, and at most one every 30 s about those that run."""

    def __init__(self, *, error: bool = False) -> None:
        self._error = error
        self._last = time.monotonic()

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        if time.monotonic() - self._last >= LINE_INTERVAL_SECONDS and snapshot.running:
            self._write(snapshot, snapshot.describe_running())

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        self._write(snapshot, f"{describe_run(status.run)}: {describe_end(status)}")

    def note(self, text: str) -> None:
        """See :class:`Observer`."""
        echo(text, error=self._error)

    def _write(self, snapshot: Snapshot, text: str) -> None:
        text = "; ".join(filter(None, [text, snapshot.time_left]))
        self.note(f"[{snapshot.ended}/{snapshot.total}] {text}")
        self._last = time.monotonic()


class BarObserver(Observer):
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
            detail=snapshot.counts,
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


class NotebookObserver(Observer):
    """One output of a notebook's cell, which is replaced: what is to know, a bar, and what runs.

    Runs that ended are counted; those that failed stay to be read.
    """

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._snapshot: Snapshot | None = None
        self._last = time.monotonic()
        self._replace = show_output(self)

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        self._snapshot = snapshot
        if time.monotonic() - self._last >= OUTPUT_INTERVAL_SECONDS:
            self._show()

    def ended(self, status: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        self._snapshot = snapshot
        if status.state == "failed":
            self._notes.append(f"{describe_run(status.run)}: {describe_end(status)}")
        self._show()

    def note(self, text: str) -> None:
        """See :class:`Observer`."""
        self._notes.append(text)
        self._show()

    def finish(self) -> None:
        """Called at the end, or where it stops: nothing is under way any more."""
        if self._snapshot is not None:
            self._snapshot = replace(self._snapshot, running=(), seconds_left=None)
            self._show()

    def _show(self) -> None:
        self._last = time.monotonic()
        self._replace()

    def _describe_progress(self) -> list[str]:
        if self._snapshot is None:
            return []
        return list(filter(None, [self._snapshot.counts, self._snapshot.describe_running()]))

    def __repr__(self) -> str:
        return "\n".join([*self._notes, *self._describe_progress()])

    def _repr_html_(self) -> str:
        notes = html_block(self._notes) if self._notes else ""
        if self._snapshot is None:
            return notes
        ended, total = self._snapshot.ended, max(self._snapshot.total, 1)
        bar = f'<progress value="{ended}" max="{total}" style="width:100%"></progress>'
        return notes + bar + html_block(self._describe_progress())


@contextmanager
def open_observer(*, error: bool = False, quiet: bool = False) -> Iterator[Observer]:
    """An observer that writes to stdout, or stderr.

    It draws bars on a terminal, replaces one output in a notebook, and writes lines elsewhere.
    """
    if quiet:
        yield Observer()
        return
    if not error and in_notebook():
        observer = NotebookObserver()
        try:
            yield observer
        finally:
            observer.finish()
        return
    if not is_terminal(error=error):
        yield LineObserver(error=error)
        return

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=console(error=error), transient=True) as progress:
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


def _is_watched() -> bool:
    return is_terminal() or in_notebook()
