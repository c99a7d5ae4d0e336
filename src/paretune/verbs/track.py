"""``track``: mirror what the store has and an experiment tracker has not. Needs no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.study import Study
from paretune.verbs.report import gather
from paretune.verbs.watch import watching

if TYPE_CHECKING:
    from paretune.trackers import Entry, Tracker
    from paretune.verbs.report import Gathered


@dataclass(frozen=True)
class Tracked:
    """``new`` entries were mirrored now, ``there`` were mirrored before; runs and whole cells."""

    new: int
    there: int


def track(
    study: Study | Path | str, *, to: str, into: Path | str, store: Path | str | None = None
) -> Tracked:
    """Mirror every ended run, and every cell whose final runs have all ended, that is not there.

    Args:
        study: a study, its file, or the name of a shipped one.
        to: ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``.
        into: a folder; for MLflow also a server's address.
        store: folder of the results; ``studies/NAME`` by default. It is only read.

    Raises:
        StudyError: no such study or tracker.
        StoreError: the store is missing or damaged, or never ran this study.
        TrackerError: the tracker's library is not installed.
        TrackerError: the tracker did not take something; the same call goes on.
    """
    from paretune.trackers import open_tracker

    found = gather(study, store)
    return _mirror(found, open_tracker(to, str(into), found.study.study))


def following(
    study: Study | Path | str,
    *,
    to: str,
    into: Path | str,
    store: Path | str | None = None,
    every: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Tracked]:
    """As :func:`track`, again whenever another run has ended, until the study is done.

    Raises:
        ParetuneError: as there.
    """
    from paretune.trackers import open_tracker

    ended = -1
    with watching(study, store) as look:
        view = look()
        tracker = open_tracker(to, str(into), view.study.study)
        while True:
            if view.ended != ended:
                ended = view.ended
                yield _mirror(gather(study, store), tracker)
            if view.over:
                return
            sleep(every)
            view = look()


def _mirror(found: Gathered, tracker: Tracker) -> Tracked:
    new = there = 0
    try:
        for identity, entry in _entries(found):
            if tracker.has(identity):
                there += 1
            else:
                tracker.write(entry())
                new += 1
    finally:
        tracker.settle()
    return Tracked(new, there)


def _entries(found: Gathered) -> Iterator[tuple[str, Callable[[], Entry]]]:
    """Each with its identity; it is made, interval and all, only where it is asked for."""
    from paretune.analysis.cells import group
    from paretune.trackers.entry import identity_of, identity_of_cell, of_cell, of_run

    cells = group(found.study, found.records, found.states)
    metrics = {cell.task: cell.metric for cell in cells}
    for record in found.records:
        metric = metrics[record.run.task.key]
        yield identity_of(record), partial(of_run, found.study, record, metric)
    for cell in cells:
        if cell.final and cell.finished:
            yield identity_of_cell(cell), partial(of_cell, found.study, cell)
