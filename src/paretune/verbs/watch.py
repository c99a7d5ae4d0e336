"""``watch``: the progress of a study, read from its store. Needs no torch.

Another process may run the study, or several, or none. Workers write the step and the loss of a run
into the store when they renew their claim, at most every
two seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.cells import group_into_cells
from paretune.errors import StudyError, spell_option
from paretune.execution.progress import (
    describe_end,
    describe_run,
    describe_step,
    format_duration,
    take_snapshot,
)
from paretune.methods.core.titles import title_of
from paretune.owner import is_provably_dead
from paretune.reporting.text.formatting import SELECTED_ON_TEST, format_interval, format_n_by_seeds
from paretune.store import RunStatus, Store
from paretune.study import OuterFold, Study
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs import study_input
from paretune.verbs.options import Flag, Seconds, StoreFolder, StudyLike
from paretune.verbs.report import load_states
from paretune.verbs.result import Result

if TYPE_CHECKING:
    from paretune.analysis.statistics.intervals import Interval
    from paretune.terminal.rich_console import Terminal

POLL_SECONDS = 2.0
MAX_FAILURES = 3
"""How many failed runs are listed; `paretune report` has all."""


@dataclass(frozen=True)
class CellProgress:
    """The progress of one cell. ``done``, ``running``, ``waiting`` and ``failed`` count its runs.

    Attributes:
        waiting: includes the final runs that are added once the learning rate is chosen.
        seconds: seconds of its runs, each in its last attempt.
        score: score of the final runs so far, with its interval; None before the first.
        baseline: whether it is a baseline.
        selected_on_test: whether its checkpoints were selected on the part that is reported.
    """

    task: str
    model: str
    method: str
    done: int
    running: int
    waiting: int
    failed: int
    seconds: float
    score: Interval | None
    baseline: bool
    selected_on_test: bool


@dataclass(frozen=True, repr=False)
class StudyProgress(Result):
    """A study at one moment.

    Attributes:
        study: the study's name.
        cells: each: task, model, method, done, running, waiting, failed, seconds, score (an
            interval, or null).
        ended: number of runs that have ended.
        total: number of all runs, those that are not added yet included.
        running: each with the run's identity, seconds, and progress (step, steps, loss).
        abandoned: runs whose worker is gone; they count as waiting.
        failed: each with the run's identity, run_id and message.
        unscheduled: number of final runs that are not added yet, as their rate is not chosen.
        workers: number of workers that train now.
        seconds_left: wall-clock seconds if as many workers continue, predicted from runs that ended
            or are well under way; None if nobody works on it or too little is known.
    """

    json_fields: ClassVar = (
        "study",
        "finished",
        "ended",
        "total",
        "workers",
        "seconds",
        "seconds_left",
        "running",
        "failed",
        "cells",
    )

    study: Study
    folder: Path
    cells: tuple[CellProgress, ...]
    ended: int
    total: int
    running: tuple[RunStatus, ...]
    abandoned: tuple[RunStatus, ...]
    failed: tuple[RunStatus, ...]
    unscheduled: int
    workers: int
    seconds_left: float | None

    @property
    def finished(self) -> bool:
        """Whether every run has ended, and none will be added."""
        return self.ended == self.total

    @property
    def seconds(self) -> float:
        """Seconds of all runs so far, each in its last attempt: work, not wall clock."""
        return sum(cell.seconds for cell in self.cells)

    def describe(self) -> Iterable[RenderableType]:
        """Lines, and a table for each task."""
        yield Text(sanitise_line(self.study.study), style="bold")
        study = study_input.spell_study(self.study, self.folder)
        counts = [f"{self.ended} of {pluralise(self.total, 'run')} ended"]
        for count, state in (
            (len(self.failed), "of them failed"),
            (len(self.running), "running"),
            (self.unscheduled, "not asked for before their rate is chosen"),
        ):
            counts += [f"{count} {state}"] if count else []
        summary = [f"{', '.join(counts)}; {format_duration(self.seconds)} of work so far."]
        if self.finished:
            summary.append(f"Done: paretune report {study}")
        elif not self.running:
            summary.append(f"Nobody works on it now: paretune run {study} continues it.")
        elif self.seconds_left is None:
            summary.append("Too little has ended to say how long it takes.")
        else:
            time_left = format_duration(self.seconds_left)
            workers = pluralise(self.workers, "worker")
            summary.append(f"About {time_left} left with {workers}, as the runs so far took.")
        if self.abandoned:
            runs = pluralise(len(self.abandoned), "run")
            summary.append(f"{runs} left by a worker that is gone: waiting.")
        yield from (Text(sanitise_line(line)) for line in summary)
        for status in self.running:
            seconds = "" if status.seconds is None else f", {format_duration(status.seconds)}"
            line = f"{describe_run(status.run)}: {describe_step(status)}{seconds}"
            yield Text(f"  {sanitise_line(line)}")
        failures = [
            f"{describe_run(status.run)}: {describe_end(status).splitlines()[0]}"
            for status in self.failed[-MAX_FAILURES:]
        ]
        if (rest := len(self.failed) - MAX_FAILURES) > 0:
            failures.append(f"and {rest} more that failed; paretune report tells why")
        yield from (Text(f"  {sanitise_line(line)}", style="red") for line in failures)
        for (task, model), cells in groupby(self.cells, lambda cell: (cell.task, cell.model)):
            yield Text(sanitise_line(f"{task}, {'no model' if model == NO_MODEL else model}"))
            yield _cell_table(cells)
        notes = []
        notes.append(
            "Runs done, running now, waiting, failed; the time is that of each run's last attempt."
        )
        scored = [cell for cell in self.cells if cell.score]
        if scored:
            notes.append(
                "Score: the final runs so far, on the test part; the interval is over seeds and "
                "examples, of one seed over examples only. Who is ahead now may not stay ahead: "
                "paretune report says what is proven."
            )
        if any(cell.selected_on_test for cell in scored):
            notes.append(f"The checkpoints were {SELECTED_ON_TEST}.")
        yield from (Text(note, style="dim") for note in notes)

    def show(self, out: Terminal, *, once: Flag = False, every: Seconds | None = None) -> None:
        """Print it; on a terminal again and again, until the study is done or at Ctrl-C.

        Args:
            once: Show it once and exit.
            every: Polling interval. [default: 2]
        """
        if once and every is not None:
            raise StudyError(
                f"shows nothing beside {spell_option('once', True)}.",
                where=spell_option("every"),
                remedy="Leave out one.",
            )
        if once or not out.is_terminal or out.is_dumb_terminal:
            super().show(out)
            return

        try:
            with (
                open_progress(self.study, self.folder) as read_progress,
                Live(console=out, auto_refresh=False) as live,
            ):
                progress = self
                while True:
                    live.update(Group(*progress.describe()), refresh=True)
                    if progress.finished:
                        return
                    time.sleep(every or POLL_SECONDS)
                    progress = read_progress()
        except KeyboardInterrupt:
            out.print("Stopped watching; the study itself was not touched.")


def _cell_table(cells: Iterable[CellProgress]) -> Table:
    """A table of fixed widths, so that those of all tasks align; 80 columns are enough."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("  method", width=18, overflow="fold")
    for title, width in (("done", 4), ("now", 4), ("wait", 4), ("fail", 4), ("time", 10)):
        table.add_column(title, justify="right", min_width=width, no_wrap=True)
    table.add_column("score [95 %]", justify="right", min_width=17, no_wrap=True)
    table.add_column("n x seeds", justify="right", min_width=9, no_wrap=True)
    for cell in cells:
        texts = [f"  {sanitise_line(title_of(cell.method))}"]
        texts += map(str, (cell.done, cell.running, cell.waiting, cell.failed))
        texts.append(format_duration(cell.seconds) if cell.seconds else "-")
        score = cell.score  # never without its interval, examples and seeds
        texts += ["-", "-"] if score is None else [format_interval(score), format_n_by_seeds(score)]
        style = "bold" if cell.running else "dim" if cell.baseline else ""
        table.add_row(*map(Text, texts), style=style)
    return table


@contextmanager
def open_progress(
    study: StudyLike, store: Path | str | None = None
) -> Iterator[Callable[[], StudyProgress]]:
    """A function that reads the progress at each call; it never writes or blocks a worker.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    study = study_input.load_study(study)
    with Store.open(study_input.store_folder(study, store)) as opened:
        cells: list[Cell] = []
        ended: frozenset[str] | None = None

        def read_progress() -> StudyProgress:
            """Groups records into cells again only when another run has ended."""
            nonlocal cells, ended
            stored = load_states(opened, study)
            if (now_ended := frozenset(state.run_id for state in stored if state.ended)) != ended:
                records = opened.load_records(study.study_hash, predictions=True)
                # Runs that ended after the states were read are neither counted nor scored yet.
                records = [record for record in records if record.run_id in now_ended]
                cells, ended = group_into_cells(study, records), now_ended
            return _count_progress(study, opened.folder, cells, stored)

        yield read_progress


def watch(study: StudyLike, *, store: StoreFolder = None) -> StudyProgress:
    """Follow a study while it runs.

    Reads the store and writes nothing. Exits when the study is done, or at Ctrl-C, which does not
    touch the study. Shows it once where the output is no terminal.

    Returns:
        The progress at this moment, whether the study runs or not.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    with open_progress(study, store) as read_progress:
        return read_progress()


def _count_progress(
    study: Study, folder: Path, cells: Iterable[Cell], stored: Sequence[RunStatus]
) -> StudyProgress:
    abandoned = [
        state
        for state in stored
        if state.state == "running" and (state.is_claimable or is_provably_dead(state.owner or ""))
    ]
    # They count as never started: the seconds since then are not seconds of work.
    states = [
        replace(s, state="todo", seconds=None, progress={}) if s in abandoned else s for s in stored
    ]
    by_cell: dict[tuple[str, str, str], list[RunStatus]] = {}
    for state in states:
        by_cell.setdefault(state.run.cell, []).append(state)
    workers = len({state.owner for state in states if state.state == "running"})
    progress = []
    unscheduled = 0
    for cell in cells:
        place = (cell.task, cell.model, cell.method)
        if place not in by_cell:
            continue
        runs = by_cell[place]
        coming = _count_unscheduled(study, cell, runs)
        unscheduled += coming
        counts = Counter(state.state for state in runs)
        progress.append(
            CellProgress(
                *place,
                counts["done"],
                counts["running"],
                counts["todo"] + coming,
                counts["failed"],
                sum(s.seconds or 0.0 for s in runs),
                cell.interval,
                cell.baseline,
                cell.selected_on_test,
            )
        )
    snapshot = take_snapshot(states, workers, len(states) + unscheduled)
    return StudyProgress(
        study,
        folder,
        tuple(progress),
        snapshot.ended,
        snapshot.total,
        snapshot.running,
        tuple(abandoned),
        failed=tuple(state for state in states if state.state == "failed"),
        unscheduled=unscheduled,
        workers=workers,
        seconds_left=snapshot.seconds_left if snapshot.running else None,
    )


def _count_unscheduled(study: Study, cell: Cell, runs: Sequence[RunStatus]) -> int:
    """Final runs that planning will add, as far as that is known."""
    if study.protocol.preset == "passes":
        if cell.over_limit or cell.baseline:
            return 0
        return max(cell.expected_runs - sum(s.stage == "final" for s in runs), 0)
    with_final = {s.run.outer for s in runs if s.stage == "final"}
    trials: dict[OuterFold | None, list[RunStatus]] = {}
    for state in runs:
        if state.stage == "tune" and state.run.outer not in with_final:
            trials.setdefault(state.run.outer, []).append(state)
    count = 0
    for outer, of_fold in trials.items():
        choice = cell.choice if outer is None else cell.fold_choices.get(outer)
        if all(state.ended for state in of_fold) and (choice is None or choice.rate is None):
            continue  # every trial failed: nothing will follow
        count += 1 if outer else len(study.protocol.seeds)
    return count
