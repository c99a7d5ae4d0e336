"""The run that a task goes on with, chosen by the selection parts alone: no test label is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from paretune import metrics
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.statistics.score_interval import (
    BootstrapScore,
    Interval,
    bootstrap_score,
    confidence_interval,
)
from paretune.store.record import UNSCORED_RESULTS, Record


@dataclass(frozen=True)
class SelectedRun:
    """The chosen ``record`` of the chosen ``cell``.

    ``mean`` is the cell's primary score on the selection part, over ``seeds`` final runs;
    ``failed_seeds`` of them diverged or did not fit, and count as the lowest score there is.
    """

    cell: Cell
    record: Record
    mean: float
    seeds: int
    failed_seeds: int

    @property
    def baseline(self) -> bool:
        """Whether it needs no model, and so has trained nothing that was kept."""
        return self.cell.model == NO_MODEL

    @property
    def run_interval(self) -> Interval | None:
        """The chosen run's score on the selection part: one seed, so of its examples alone.

        None where its answers there are not stored.
        """
        return _interval_of_runs([self.record], self.cell, 0)

    @property
    def interval(self) -> Interval | None:
        """The ``mean`` with its interval; None where answers are not stored."""
        return _interval_of_runs(_scored_runs(self.cell), self.cell, self.failed_seeds)


def select_run(cells: Sequence[Cell]) -> SelectedRun | None:
    """The best cell by its mean over final seeds, and of it the seed of the best selection score.

    Baselines that need no model are taken only where no model has ended a run. Ties go to the
    lower selection loss, then to the study's order. None where nothing has ended with scores.

    Args:
        cells: those of one task.
    """
    with_model = [cell for cell in cells if cell.model != NO_MODEL]
    for among in (with_model, [cell for cell in cells if cell.model == NO_MODEL]):
        usable = [cell for cell in among if _scored_runs(cell)]
        if usable:
            return _select_seed(max(usable, key=lambda cell: _mean(cell)))
    return None


def _interval_of_runs(records: Sequence[Record], cell: Cell, lost: int) -> Interval | None:
    answers = [r.predictions["selection"] for r in records if "selection" in r.predictions]
    worst = metrics.get(cell.metric).lowest
    # A mean that a lost seed takes to minus infinity (R²) has no interval.
    if len(answers) < len(records) or (lost and not math.isfinite(worst)):
        return None
    return confidence_interval(add_failed_seeds(bootstrap_score(answers, cell.metric), lost, worst))


def add_failed_seeds(found: BootstrapScore, lost: int, worst: float) -> BootstrapScore:
    """The same with seeds that score the worst whichever examples are drawn."""
    share = len(found.seeds) / (len(found.seeds) + lost)
    return replace(
        found,
        seeds=np.append(found.seeds, [worst] * lost),
        draws=share * found.draws + (1 - share) * worst,
        credit=None if found.credit is None else share * found.credit,
    )


def _select_seed(cell: Cell) -> SelectedRun:
    lost = sum(record.outcome in UNSCORED_RESULTS for record in cell.final)
    best = max(_scored_runs(cell), key=_quality)
    return SelectedRun(cell, best, _mean(cell)[0], len(_scored_runs(cell)) + lost, lost)


def _scored_runs(cell: Cell) -> list[Record]:
    """Final runs that ended as they should, with a score on the selection part."""
    ended = [r for r in cell.final if r.state == "done" and r.outcome not in UNSCORED_RESULTS]
    return [r for r in ended if r.result.get("scores", {}).get("selection")]


def _mean(cell: Cell) -> tuple[float, float]:
    found = [_quality(record) for record in _scored_runs(cell)]
    worst = metrics.get(cell.metric).lowest
    lost = [(worst, -math.inf) for record in cell.final if record.outcome in UNSCORED_RESULTS]
    return fmean(s for s, _ in (*found, *lost)), fmean(rest for _, rest in (*found, *lost))


def _quality(record: Record) -> tuple[float, float]:
    """Primary score, and the loss the other way round: more is better of both."""
    scores = record.result["scores"]["selection"]
    loss = scores.get("loss")
    return float(scores["primary"]), -math.inf if loss is None else -float(loss)
