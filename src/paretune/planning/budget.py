"""Which runs to begin within a time budget: the next runs, as far as they fit.

The order is that of :mod:`paretune.planning.expand`: first looks, then fold by fold, then further
passes. A run that is predicted to end too late is not begun; a shorter one that comes later may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paretune.planning.prepare import PlannedRun
from paretune.store.record import Record
from paretune.study import Run

QUEUE = 2
"""Runs for each worker that are selected at once: few, so that ended runs choose the next ones."""


def select_within_time(
    planned: Sequence[PlannedRun],
    records: Sequence[Record],
    seconds_left: float,
    workers: int,
    predict: Callable[[Run], float | None],
) -> list[PlannedRun]:
    """Select the runs that have ended, and those to train next.

    Args:
        seconds_left, workers, predict: as in :func:`fit_within_time`.
    """
    ended = {record.run_id for record in records}
    left = [p for p in planned if p.run_id not in ended]
    fitting = fit_within_time([p.run for p in left], seconds_left, workers, predict)
    chosen = [p for p, fits in zip(left, fitting, strict=True) if fits]
    return [*(p for p in planned if p.run_id in ended), *chosen[: QUEUE * workers]]


def fit_within_time(
    runs: Sequence[Run],
    seconds_left: float,
    workers: int,
    predict: Callable[[Run], float | None],
) -> list[bool]:
    """Return for each run, in order, whether it ends in time.

    No run trains beside a cost measurement.

    Args:
        seconds_left: seconds of wall clock.
        workers: number of runs that train at the same time.
        predict: returns the seconds of a run on one worker; None where they are not known.
    """
    free_at = [0.0] * max(workers, 1)
    fitting = []
    for run in runs:
        seconds = predict(run) or 0.0
        starts = max(free_at) if run.stage == "cost" else min(free_at)
        fits = starts + seconds <= seconds_left
        fitting.append(fits)
        if fits and run.stage == "cost":
            free_at = [starts + seconds] * len(free_at)
        elif fits:
            free_at[free_at.index(starts)] = starts + seconds
    return fitting
