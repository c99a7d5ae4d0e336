"""``track``: mirror to an experiment tracker what it does not hold yet. Needs no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError, TrackerError
from paretune.study import Study
from paretune.verbs.report import load_results
from paretune.verbs.watch import open_progress

if TYPE_CHECKING:
    from paretune.contrib.trackers.entry import Entry, Tracker
    from paretune.verbs.report import StudyResults

TRACKERS: Mapping[str, str] = {
    "tensorboard": "TensorBoard",
    "wandb": "Wandb",
    "mlflow": "MLflow",
    "trackio": "Trackio",
}
"""Names, which are also those of the packages and extras, and the class of each."""


def open_tracker(name: str, into: str, study: str) -> Tracker:
    """A tracker that writes to ``into``, for the study of this name.

    Raises:
        StudyError: there is no such tracker, or it cannot write there.
        TrackerError: its library is not installed, or cannot use the place.
    """
    if name not in TRACKERS:
        raise StudyError(
            f'there is no tracker "{name}".',
            where="--to",
            remedy=f"There is {', '.join(TRACKERS)}.",
        )
    spec = find_spec(name)
    if spec is None or spec.origin is None:  # a folder of that name is no package
        raise TrackerError(
            f"the package {name} is not installed.",
            where=f"--to {name}",
            remedy=f"pip install {name}",
        )
    if "://" not in into:
        try:
            Path(into).mkdir(parents=True, exist_ok=True)
            reason = "" if os.access(into, os.W_OK) else "Permission denied"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise TrackerError(
                f"the folder cannot be written ({reason}).",
                where=into,
                remedy="Choose another with --output.",
            )
    elif name != "mlflow":
        raise StudyError(
            f"{name} is mirrored into a folder.", where=f"--output {into}", remedy="Name a folder."
        )
    module = import_module(f"paretune.contrib.trackers.{name}")
    tracker: Tracker = getattr(module, TRACKERS[name])(into, study)
    return tracker


@dataclass(frozen=True)
class TrackResult:
    """Runs and cells: ``new`` were mirrored now, ``there`` were mirrored before."""

    new: int
    there: int


def track(
    study: Study | Path | str, *, to: str, output: Path | str, store: Path | str | None = None
) -> TrackResult:
    """Mirror every ended run, and every cell whose final runs have all ended, that the tracker
    lacks.

    Args:
        study: a study, its file, or the name of a shipped one.
        to: ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``.
        output: a folder; for MLflow also a server's address.
        store: folder of the results; ``studies/NAME`` by default. It is only read.

    Raises:
        StudyError: no such study or tracker.
        StoreError: the store is missing or damaged, or never ran this study.
        TrackerError: the tracker's library is not installed, or refused an entry; the same call
            continues from there.
    """
    results = load_results(study, store)
    return _mirror_results(results, open_tracker(to, str(output), results.study.study))


def follow_study(
    study: Study | Path | str,
    *,
    to: str,
    output: Path | str,
    store: Path | str | None = None,
    every: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[TrackResult]:
    """As :func:`track`, again whenever another run has ended, until the study is done.

    Raises:
        ParetuneError: as there.
    """
    ended = -1
    with open_progress(study, store) as load_progress:
        progress = load_progress()
        tracker = open_tracker(to, str(output), progress.study.study)
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
