"""``watch``: the progress of a study, read from its store. Needs no torch.

Another process may run the study, or several, or none. Workers write the step and the loss of a run
into the store when they renew their claim, at most every
two seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.study import OuterFold, Study
from paretune.terminal.notebook import html_lines, html_table
from paretune.verbs import study_input
from paretune.verbs.report import load_states

if TYPE_CHECKING:
    from paretune.analysis.cell import Cell
    from paretune.store import RunStatus, Store


@dataclass(frozen=True)
class CellProgress:
    """One cell. ``done``, ``running``, ``waiting`` and ``failed`` count its runs.

    ``waiting`` includes the final runs that are added once the learning rate is chosen.
    ``seconds``: what its runs took, each in its last attempt. ``cell`` has the score of the final
    runs so far, with its interval.
    """

    cell: Cell
    done: int
    running: int
    waiting: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class SparedRuns:
    """Final runs of a race that are not trained.

    Attributes:
        runs: that will not be, and ``seconds``: what they would have taken, by the median run of
            their cell; those of cells without a run count 0.
        undecided: those that may still turn out not to be needed.
    """

    runs: int
    seconds: float
    undecided: int


@dataclass(frozen=True)
class StudyProgress:
    """A study at one moment.

    Attributes:
        abandoned: runs whose worker is gone; they count as waiting.
        unscheduled: number of final runs that are not added yet, as their rate is not chosen.
        seconds_left: wall clock if as many workers continue, predicted from runs that ended or are
            well under way; None if nobody works on it or too little is known.
        spared: final runs that a race did without; None without a race.
    """

    study: Study
    folder: Path
    cells: tuple[CellProgress, ...]
    running: tuple[RunStatus, ...]
    abandoned: tuple[RunStatus, ...]
    failed: tuple[RunStatus, ...]
    unscheduled: int
    workers: int
    seconds_left: float | None
    spared: SparedRuns | None = None

    def _repr_html_(self) -> str:
        rows = [
            (*(c.cell.task, c.cell.model, c.cell.method), c.done, c.running, c.waiting, c.failed)
            for c in self.cells
        ]
        header = ("task", "model", "method", "done", "running", "waiting", "failed")
        lines = [f"{self.study.study}: {self.ended} of {self.total} runs ended"]
        return html_lines(lines) + html_table(header, rows)

    @property
    def finished(self) -> bool:
        """Whether every run has ended, and none will be added."""
        return not any(one.running or one.waiting for one in self.cells)

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return sum(one.done + one.failed for one in self.cells)

    @property
    def total(self) -> int:
        """How many runs there are, those that are not added yet included."""
        return self.ended + sum(one.running + one.waiting for one in self.cells)

    @property
    def seconds(self) -> float:
        """What all runs took so far, each in its last attempt: work, not wall clock."""
        return sum(one.seconds for one in self.cells)


@contextmanager
def open_progress(
    study: Study | Path | str, store: Path | str | None = None
) -> Iterator[Callable[[], StudyProgress]]:
    """A function that reads the progress at each call; it never writes or blocks a worker.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    from paretune.store import Store

    study = study_input.resolve_study(study)
    with Store.open(study_input.store_folder(study, store)) as opened:
        yield _ProgressReader(opened, study).read


def watch(study: Study | Path | str, *, store: Path | str | None = None) -> StudyProgress:
    """The progress of a study, whether it runs or not.

    Args:
        study: a study, its file, or the name of a shipped one.
        store: folder of the results; ``studies/NAME`` by default.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    with open_progress(study, store) as read_progress:
        return read_progress()


class _ProgressReader:
    """Reads the predictions of ended runs again only when another run has ended."""

    def __init__(self, opened: Store, study: Study) -> None:
        self._store, self._study = opened, study
        self._ended: frozenset[str] | None = None
        self._cells: list[Cell] = []

    def read(self) -> StudyProgress:
        from paretune.execution.progress.snapshot import take_snapshot

        stored = load_states(self._store, self._study)
        abandoned = tuple(state for state in stored if _is_abandoned(state))
        # As if they had never started: the seconds since then are not seconds of work.
        states = [
            replace(s, state="todo", seconds=None, progress={}) if s in abandoned else s
            for s in stored
        ]
        cells = self._group_cells(states)
        unscheduled = [_count_unscheduled(self._study, cell, states) for cell in cells]
        running = tuple(state for state in states if state.state == "running")
        workers = len({state.owner for state in running})
        snapshot = take_snapshot(states, workers, len(states) + sum(unscheduled))
        return StudyProgress(
            study=self._study,
            folder=self._store.folder,
            cells=tuple(
                _cell_progress(cell, states, more)
                for cell, more in zip(cells, unscheduled, strict=True)
            ),
            running=running,
            abandoned=abandoned,
            failed=tuple(state for state in states if state.state == "failed"),
            unscheduled=sum(unscheduled),
            workers=workers,
            seconds_left=snapshot.seconds_left if running else None,
            spared=_count_spared(self._study, cells, unscheduled),
        )

    def _group_cells(self, states: Sequence[RunStatus]) -> list[Cell]:
        from paretune.analysis.cells import group_into_cells

        ended = frozenset(state.run_id for state in states if state.ended)
        if ended != self._ended:
            records = self._store.load_records(self._study.study_hash, predictions=True)
            # Runs that ended after the states were read are neither counted nor scored yet.
            ended_records = [record for record in records if record.run_id in ended]
            self._cells, self._ended = group_into_cells(self._study, ended_records), ended
        known = {state.run.cell for state in states}
        return [cell for cell in self._cells if (cell.task, cell.model, cell.method) in known]


def _is_abandoned(state: RunStatus) -> bool:
    """Whether its worker is gone, so that a claim would take it."""
    from paretune.owner import is_provably_dead

    return state.state == "running" and (state.is_claimable or is_provably_dead(state.owner or ""))


def _count_unscheduled(study: Study, cell: Cell, states: Sequence[RunStatus]) -> int:
    """Final runs that planning will add when the trials have ended, as it counts them itself."""
    runs = [s for s in states if s.run.cell == (cell.task, cell.model, cell.method)]
    if cell.raced and not cell.baseline:
        if cell.stop is not None or cell.complete:
            return 0
        return max(len(study.protocol.seeds) - sum(s.stage == "final" for s in runs), 0)
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


def _count_spared(
    study: Study, cells: Sequence[Cell], unscheduled: Sequence[int]
) -> SparedRuns | None:
    if study.protocol.race == "off":
        return None
    stopped = [
        (len(study.protocol.seeds) - len(cell.final), cell.run_seconds or 0.0)
        for cell in cells
        if cell.stop is not None
    ]
    return SparedRuns(
        sum(count for count, _ in stopped),
        sum(count * seconds for count, seconds in stopped),
        sum(
            count
            for cell, count in zip(cells, unscheduled, strict=True)
            if cell.raced and not cell.baseline
        ),
    )


def _cell_progress(cell: Cell, states: Sequence[RunStatus], unscheduled: int) -> CellProgress:
    runs = [s for s in states if s.run.cell == (cell.task, cell.model, cell.method)]
    counts = Counter(state.state for state in runs)
    return CellProgress(
        cell=cell,
        done=counts["done"],
        running=counts["running"],
        waiting=counts["todo"] + unscheduled,
        failed=counts["failed"],
        seconds=sum(state.seconds or 0.0 for state in runs),
    )
