"""What a user sees while a study runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import IO, TYPE_CHECKING, Protocol

from paretune.execution.progress.describe import (
    describe_end,
    describe_run,
    describe_step,
    format_duration,
)
from paretune.store import RunStatus
from paretune.study import DEFAULT_COST_SECONDS
from paretune.terminal import console, echo, is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MIN_SHARE_DONE = 0.1
"""From this share of its steps on, a running run says how long its like will take."""

COST_STEPS, MIN_COST_STEPS = 10, 3
"""What a cost amounts to, in steps of training, before one has shown what it takes."""
START_SECONDS = 5.0
"""What it takes until its process has opened a model."""

LINE_INTERVAL_SECONDS = 30.0
"""Between two plain lines about running runs; every ended run has a line of its own."""


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment. ``total`` counts runs that are known or planned.

    ``seconds_left``: estimated from runs that ended or are well under way; None before them.
    """

    ended: int
    total: int
    running: tuple[RunStatus, ...]
    seconds_left: float | None

    @property
    def left(self) -> str:
        """``about 12 min left``, or nothing where that is not known."""
        return f"about {format_duration(self.seconds_left)} left" if self.seconds_left else ""


class Observer(Protocol):
    """Who is told how a study goes on."""

    def update(self, snapshot: Snapshot) -> None:
        """Told several times a second."""

    def ended(self, state: RunStatus, snapshot: Snapshot) -> None:
        """Told once for every run that ended, whoever executed it."""

    def note(self, text: str) -> None:
        """Told what a user should know."""


@contextmanager
def open_observer(stream: IO[str] | None = None) -> Iterator[Observer]:
    """An observer that writes to ``stream``, or stdout: bars on a terminal, otherwise lines."""
    if not is_terminal(stream):
        yield LineObserver(stream)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Progress(*columns, console=console(stream), transient=True) as progress:
        yield BarObserver(progress)


class SilentObserver:
    """Tells nobody, for callers from Python who look at what is returned."""

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""

    def ended(self, state: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""

    def note(self, text: str) -> None:
        """See :class:`Observer`."""


class LineObserver:
    """A line at every ended run, and at most one every 30 s about those that run."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream
        self._last = time.monotonic()

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        if time.monotonic() - self._last >= LINE_INTERVAL_SECONDS and snapshot.running:
            first, others = snapshot.running[0], len(snapshot.running) - 1
            more = f" (and {others} more)" if others else ""
            self._write(snapshot, f"{describe_run(first.run)}: {describe_step(first)}{more}")

    def ended(self, state: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        self._write(snapshot, f"{describe_run(state.run)}: {describe_end(state)}")

    def note(self, text: str) -> None:
        """See :class:`Observer`."""
        echo(text, to=self._stream)

    def _write(self, snapshot: Snapshot, text: str) -> None:
        left = f"; {snapshot.left}" if snapshot.left else ""
        self.note(f"[{snapshot.ended}/{snapshot.total}] {text}{left}")
        self._last = time.monotonic()


class BarObserver:
    """One bar for the study and one for every running run; ended runs scroll by above them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._whole = progress.add_task("study", total=None, said="")
        self._bars: dict[str, TaskID] = {}

    def update(self, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        said = f"{snapshot.ended}/{snapshot.total} runs {snapshot.left}"
        self._progress.update(
            self._whole, completed=snapshot.ended, total=snapshot.total, said=said
        )
        running = {state.run_id: state for state in snapshot.running}
        for run_id in set(self._bars) - set(running):
            self._progress.remove_task(self._bars.pop(run_id))
        for run_id, state in running.items():
            if run_id not in self._bars:
                name = describe_run(state.run)
                self._bars[run_id] = self._progress.add_task(name, total=None, said="")
            self._progress.update(
                self._bars[run_id],
                completed=state.progress.get("step", 0),
                total=state.progress.get("steps"),
                said=describe_step(state),
            )

    def ended(self, state: RunStatus, snapshot: Snapshot) -> None:
        """See :class:`Observer`."""
        self.note(
            f"[{snapshot.ended}/{snapshot.total}] {describe_run(state.run)}: {describe_end(state)}"
        )

    def note(self, text: str) -> None:
        """See :class:`Observer`."""
        self._progress.console.print(text, markup=False, highlight=False)


def take_snapshot(states: Sequence[RunStatus], workers: int, planned: int) -> Snapshot:
    """The study at this moment, with its time left.

    Args:
        states: of all runs known so far.
        workers: how many runs train at once; cost runs are measured one after the other.
        planned: how many runs the whole study will have, as far as that is known; 0: unknown.
    """
    ended = [state for state in states if state.ended]
    seen = _collect_durations(states)
    return Snapshot(
        ended=len(ended),
        total=max(len(states), planned),
        running=tuple(state for state in states if state.state == "running" and not state.free),
        seconds_left=_estimate_seconds_left(states, seen, workers, max(0, planned - len(states))),
    )


def _collect_durations(states: Sequence[RunStatus]) -> dict[object, list[float]]:
    """Seconds of runs that ended, and of runs well under way by what they have done; by likeness.

    Under ``("a step", ...)`` those of one step of training. Baselines that train nothing take no
    time and teach none.
    """
    seen: dict[object, list[float]] = defaultdict(list)
    for state in states:
        seconds = _estimate_run_seconds(state)
        if seconds is None:
            continue
        steps = state.progress.get("steps")
        for like in _similarity_keys(state):
            seen[like].append(seconds)
            if steps and state.stage != "cost":
                seen["a step", like].append(seconds / float(steps))
    return dict(seen)


def _list_remaining(states: Sequence[RunStatus]) -> list[RunStatus]:
    """Runs that will take time, those under way among them."""
    return [state for state in states if not state.ended and not _trains_nothing(state)]


def _estimate_seconds_left(
    states: Sequence[RunStatus], seen: Mapping[object, list[float]], workers: int, more: int
) -> float | None:
    """A run is expected to take what its like take: of its cell, of its method, or any.

    None where no training has shown what it takes and some is to come (``more`` runs that are not
    asked for yet, too), or a cost of which neither a cost nor a training has told anything.
    """
    coming = _list_remaining(states)
    train = seen.get("train")
    if not seen or (train is None and (more or any(s.stage != "cost" for s in coming))):
        return None
    together, alone = 0.0, 0.0
    for state in coming:
        like = next((like for like in _similarity_keys(state) if like in seen), None)
        expected = _estimate_cost_seconds(state, seen) if like is None else fmean(seen[like])
        if expected is None:
            return None
        expected *= 1 - _share_done(state)
        if state.stage == "cost":
            alone += expected
        else:
            together += expected
    together += more * fmean(train) if train else 0.0
    return alone + together / max(1, workers)


def _estimate_cost_seconds(state: RunStatus, seen: Mapping[object, list[float]]) -> float | None:
    """What a cost will take before any has been measured: some steps of its like, within its bound.

    Where runs are over before they tell their steps, it is taken to be as long as one of them.
    """
    bound = 1.5 * DEFAULT_COST_SECONDS
    trained = ((state.run.cell, "final"), (state.run.cell, "tune"), "train")
    for like in trained:
        if ("a step", like) in seen:
            step = fmean(seen["a step", like])
            return START_SECONDS + min(COST_STEPS * step, max(bound, MIN_COST_STEPS * step))
    for like in trained:
        if like in seen:
            return START_SECONDS + min(bound, fmean(seen[like]))
    return None


def _estimate_run_seconds(state: RunStatus) -> float | None:
    """What a run took, or will have taken; None where nothing can be said yet.

    ``seconds`` are those of its last attempt, which may have gone on from a checkpoint.
    """
    if _trains_nothing(state) or state.seconds is None or state.state == "failed":
        return None
    resumed_at, step = (int(state.progress.get(name, 0)) for name in ("resumed_at", "step"))
    if state.state == "done":
        if not resumed_at or state.stage == "cost":  # a cost always starts over
            return state.seconds
        return state.seconds * step / (step - resumed_at) if step > resumed_at else None
    steps = state.progress.get("steps")
    share = (step - resumed_at) / float(steps) if steps and state.state == "running" else 0.0
    return state.seconds / share if share >= MIN_SHARE_DONE else None


def _share_done(state: RunStatus) -> float:
    """Of its steps, in this attempt and in those that it goes on from."""
    if state.stage == "cost" and state.state != "running":
        return 0.0
    steps, step = state.progress.get("steps"), state.progress.get("step", 0)
    return min(1.0, float(step) / float(steps)) if steps else 0.0


def _trains_nothing(state: RunStatus) -> bool:
    return state.run.learning_rate is None


def _similarity_keys(state: RunStatus) -> tuple[object, ...]:
    kind = "cost" if state.stage == "cost" else "train"
    return ((state.run.cell, state.stage), (state.run.method.key, state.stage), kind)
