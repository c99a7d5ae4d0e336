"""``track``: mirror to an experiment tracker what it does not hold yet. Needs no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.study import Study
from paretune.verbs.report import load_results
from paretune.verbs.watch import open_progress

if TYPE_CHECKING:
    from paretune.contrib.trackers.entry import Entry
    from paretune.contrib.trackers.tracker import Tracker
    from paretune.verbs.report import StudyResults


@dataclass(frozen=True)
class TrackResult:
    """Runs and cells: ``new`` were mirrored now, ``there`` were mirrored before."""

    new: int
    there: int


def track(
    study: Study | Path | str, *, to: str, into: Path | str, store: Path | str | None = None
) -> TrackResult:
    """Mirror every ended run, and every cell whose final runs have all ended, that the tracker
    lacks.

    Args:
        study: a study, its file, or the name of a shipped one.
        to: ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``.
        into: a folder; for MLflow also a server's address.
        store: folder of the results; ``studies/NAME`` by default. It is only read.

    Raises:
        StudyError: no such study or tracker.
        StoreError: the store is missing or damaged, or never ran this study.
        TrackerError: the tracker's library is not installed.
        TrackerError: the tracker refused an entry; the same call continues from there.
    """
    from paretune.contrib.trackers.tracker import open_tracker

    results = load_results(study, store)
    return _mirror_results(results, open_tracker(to, str(into), results.study.study))


def follow_study(
    study: Study | Path | str,
    *,
    to: str,
    into: Path | str,
    store: Path | str | None = None,
    every: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[TrackResult]:
    """As :func:`track`, again whenever another run has ended, until the study is done.

    Raises:
        ParetuneError: as there.
    """
    from paretune.contrib.trackers.tracker import open_tracker

    ended = -1
    with open_progress(study, store) as load_progress:
        progress = load_progress()
        tracker = open_tracker(to, str(into), progress.study.study)
        while True:
            if progress.ended != ended:
                ended = progress.ended
                yield _mirror_results(load_results(study, store), tracker)
            if progress.finished:
                return
            sleep(every)
            progress = load_progress()


def _mirror_results(results: StudyResults, tracker: Tracker) -> TrackResult:
    new = there = 0
    try:
        for identity, entry in _iter_entries(results):
            if tracker.has(identity):
                there += 1
            else:
                tracker.write(entry())
                new += 1
    finally:
        tracker.flush()
    return TrackResult(new, there)


def _iter_entries(results: StudyResults) -> Iterator[tuple[str, Callable[[], Entry]]]:
    """Identities, each with a function that builds its entry: intervals only where needed."""
    from paretune.analysis.cells import group_into_cells
    from paretune.contrib.trackers.entry import cell_entry, cell_identity, run_entry, run_identity

    cells = group_into_cells(results.study, results.records, results.states)
    metrics = {cell.task: cell.metric for cell in cells}
    for record in results.records:
        metric = metrics[record.run.task.key]
        yield run_identity(record), partial(run_entry, results.study, record, metric)
    for cell in cells:
        if cell.final and cell.finished:
            yield cell_identity(cell), partial(cell_entry, results.study, cell)
