"""Which run of a task to use: selected by the selection parts alone, without test labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from paretune import metrics
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.statistics.bootstrap_score import BootstrapScore, bootstrap_score
from paretune.analysis.statistics.score_interval import Interval, confidence_interval
from paretune.store.record import Record


@dataclass(frozen=True)
class SelectedRun:
    """The selected run of the selected cell.

    Attributes:
        mean: the cell's primary score on the selection part, over its final seeds.
        failed_seeds: seeds that diverged or did not fit, counted with the lowest score.
    """

    cell: Cell
    record: Record
    mean: float
    seeds: int
    failed_seeds: int

    @property
    def baseline(self) -> bool:
        """Whether it needs no model, so that there are no trained weights."""
        return self.cell.model == NO_MODEL

    @property
    def run_interval(self) -> Interval | None:
        """The run's score on the selection part, over its examples; None without its answers."""
        return _interval_of_runs([self.record], self.cell, 0)

    @property
    def interval(self) -> Interval | None:
        """The mean with its interval; None without answers, and in cross-validation."""
        return _interval_of_runs(_scored_runs(self.cell), self.cell, self.failed_seeds)


def select_run(cells: Sequence[Cell]) -> SelectedRun | None:
    """Of the cell with the highest mean over final seeds, the seed with the best selection score.

    Baselines without a model are selected only if no run with a model has ended. Ties go to the
    lower selection loss, then to the study's order. None if nothing has ended with scores.
    """
    with_model = [cell for cell in cells if cell.model != NO_MODEL]
    without_model = [cell for cell in cells if cell.model == NO_MODEL]
    for group in (with_model, without_model):
        scored = [cell for cell in group if _scored_runs(cell)]
        if scored:
            return _select_seed(max(scored, key=_mean_selection_score))
    return None


def add_failed_seeds(score: BootstrapScore, failed: int, lowest: float) -> BootstrapScore:
    """The score with ``failed`` more seeds, which score ``lowest`` in every draw."""
    share = len(score.seeds) / (len(score.seeds) + failed)
    return replace(
        score,
        seeds=np.append(score.seeds, [lowest] * failed),
        draws=share * score.draws + (1 - share) * lowest,
        credit=None if score.credit is None else share * score.credit,
    )


def selection_key(record: Record) -> tuple[float, float]:
    """Sort key by which a run of a cell is selected: the score on the selection part, minus loss.

    The lowest possible for a run that failed or has no such score.
    """
    lowest = (-math.inf, -math.inf)
    return lowest if record.is_lost else record.selection_score or lowest


def _interval_of_runs(records: Sequence[Record], cell: Cell, failed: int) -> Interval | None:
    answers = [r.predictions["selection"] for r in records if "selection" in r.predictions]
    lowest = metrics.get(cell.metric).lowest
    if len({part.uid for part in answers}) > 1:
        return None  # in cross-validation every run has a selection part of its own
    # A failed seed takes the mean of R² to minus infinity, which has no interval.
    if len(answers) < len(records) or (failed and not math.isfinite(lowest)):
        return None
    score = add_failed_seeds(bootstrap_score(answers, cell.metric), failed, lowest)
    return confidence_interval(score)


def _select_seed(cell: Cell) -> SelectedRun:
    scored = _scored_runs(cell)
    failed = sum(record.is_lost for record in cell.final)
    best = max(scored, key=selection_key)
    return SelectedRun(cell, best, _mean_selection_score(cell)[0], len(scored) + failed, failed)


def _scored_runs(cell: Cell) -> list[Record]:
    """Final runs that ended without failure, with a score on the selection part."""
    ended = [r for r in cell.final if r.state == "done" and not r.is_lost]
    return [r for r in ended if r.selection_score is not None]


def _mean_selection_score(cell: Cell) -> tuple[float, float]:
    """Means over final seeds of primary score and minus loss."""
    scores = [selection_key(record) for record in _scored_runs(cell)]
    lowest = metrics.get(cell.metric).lowest
    scores += [(lowest, -math.inf) for record in cell.final if record.is_lost]
    return fmean(score for score, _ in scores), fmean(loss for _, loss in scores)
