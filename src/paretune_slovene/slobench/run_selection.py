"""Chooses the run that answers a task of SloBench by the selection parts alone, not test labels.

A run that failed is not used, so failures count in no score here either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.run_selection import selection_key
from paretune.analysis.statistics.differences import ROW_FACTOR, Estimate, estimate_variances
from paretune.analysis.statistics.intervals import Interval, build_interval, score_interval
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import score_runs
from paretune.store.record import Predictions, Record


@dataclass(frozen=True)
class SelectedRun:
    """The selected run of the selected cell.

    Attributes:
        mean: the cell's primary score on the selection part, over the final runs that trained.
        failed_seeds: runs that failed (:mod:`paretune.analysis.outcomes`); they count in no score.
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
        """The run's score on the selection part, over its examples, if its answers are there."""
        answers = _selection_answers([self.record])
        return score_interval(answers, self.cell.metric) if answers else None

    @property
    def interval(self) -> Interval | None:
        """The mean with its interval, if there are answers."""
        answers = _selection_answers(_scored_runs(self.cell))
        if self.cell.design.is_cross_validation and len(answers) > 1:
            return _interval_over_parts(answers, self.cell)
        return score_interval(answers, self.cell.metric) if answers else None


def select_run(cells: Sequence[Cell]) -> SelectedRun | None:
    """Select the seed with the best selection score, of the cell with the highest mean over seeds.

    Baselines without a model are selected only if no run with a model has ended. Ties go to the
    lower selection loss, then to the study's order. None if nothing has ended with scores.
    """
    scored = [cell for cell in cells if _scored_runs(cell)]
    pool = [cell for cell in scored if cell.model != NO_MODEL] or scored
    if not pool:
        return None
    cell = max(pool, key=_mean_selection_score)
    runs = _scored_runs(cell)
    failed = sum(map(cell.has_failed, cell.final))
    trained = sum(not cell.has_failed(record) for record in runs)
    mean, _ = _mean_selection_score(cell)
    return SelectedRun(cell, max(runs, key=selection_key), mean, trained + failed, failed)


def _selection_answers(records: Sequence[Record]) -> list[Predictions]:
    """The selection answers of every run; none at all if one run has none."""
    answers = [r.predictions["selection"] for r in records if "selection" in r.predictions]
    return answers if len(answers) == len(records) else []


def _interval_over_parts(answers: Sequence[Predictions], cell: Cell) -> Interval:
    """The mean of runs of which each was scored on a selection part of its own.

    Student's interval of the runs' scores, in which rows, seeds and training sets are. The parts of
    folds share rows, hence ``ROW_FACTOR``; and runs that agree by chance are no surer than their
    rows.
    """
    scores = [score_runs([part], cell.metric) for part in answers]
    estimates = np.array([score.estimate for score in scores])
    rows = float(np.mean([estimate_variances(score).variance for score in scores]))
    variance = ROW_FACTOR * max(float(estimates.var(ddof=1)), rows) / len(scores)
    mean = Estimate(float(estimates.mean()), variance, ((variance, len(scores) - 1.0),))
    bounds = scores[0].lowest, scores[0].highest
    return replace(
        build_interval(mean, mean.half_width(ALPHA), scores, *bounds),
        n_examples=len({uid for score in scores for uid in score.uid}),
        n_seeds=cell.design.repeats,
        n_clusters=0,
        n_questions=0,
        design=cell.design,
    )


def _scored_runs(cell: Cell) -> list[Record]:
    """Final runs that trained and have a score on the selection part.

    Where every run failed, those that answer a constant: something has to answer.
    """
    ended = [r for r in cell.final if r.state == "done" and not r.is_lost]
    scored = [r for r in ended if r.selection_score is not None]
    return [r for r in scored if not cell.has_failed(r)] or scored


def _mean_selection_score(cell: Cell) -> tuple[float, float]:
    """Means over the runs that trained of primary score and minus loss."""
    scores = [selection_key(record) for record in _scored_runs(cell)]
    return fmean(score for score, _ in scores), fmean(loss for _, loss in scores)
