"""Methods that are hopeless on the selection part, before any answer to a test row.

A method is left out if, at its best rate, it is behind the best method by more than three standard
errors of the difference::

    se^2 = max(v + 2 sigma^2 / F, variance of the differences over F folds / F)

with ``v`` the paired variance over the rows of the selection parts and sigma = 2.5 points for what
single runs differ by. Labels of the selection part and the tuning seed are independent of final
seeds and test rows, so the choice favours nothing that is tested. The cheapest method stays: it is
on every Pareto front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from paretune import metrics
from paretune.analysis.cell import Cell
from paretune.analysis.pareto.costs import Axis, estimate_cost
from paretune.analysis.pareto.expected_scores import CellKey
from paretune.analysis.statistics.scores import bootstrap_score, bootstrap_variance
from paretune.store.record import Predictions

STANDARD_ERRORS = 3.0
_SEED_POINTS = 2.5
_MIN_FOLDS_FOR_SCATTER = 3


def find_hopeless(cells: Sequence[Cell], axis: Axis) -> frozenset[CellKey]:
    """The methods of one task to leave out, once all of their trials have ended.

    Args:
        cells: of one task; those without a selected rate, of cross-validation, and baselines stay.
        axis: the cost by which the cheapest stays.
    """
    answers = {
        (cell.model, cell.method): _answers_by_fold(cell)
        for cell in cells
        if not cell.baseline and not cell.design.is_cross_validation
    }
    answers = {key: folds for key, folds in answers.items() if folds}
    if len(answers) < 2:
        return frozenset()
    metric = metrics.get(cells[0].metric)
    means = {
        key: float(np.mean([_score(part, cells[0].metric) for part in folds.values()]))
        for key, folds in answers.items()
    }
    best = max(means, key=means.__getitem__)
    costs = {
        (c.model, c.method): cost.value
        for c in cells
        if (c.model, c.method) in answers and (cost := estimate_cost(c, axis)) is not None
    }
    cheapest = min(costs, key=costs.__getitem__, default=None)
    return frozenset(
        key
        for key, folds in answers.items()
        if key not in (best, cheapest)
        and _is_hopeless(answers[best], folds, metric.name, metric.highest)
    )


def _answers_by_fold(cell: Cell) -> dict[int, Predictions]:
    """Of the trials at the selected rate, on the selection parts."""
    return {
        record.run.fold: record.predictions["selection"]
        for record in cell.tuning
        if record.run.learning_rate == cell.choice.rate
        and record.predictions.get("selection") is not None
    }


def _score(part: Predictions, metric: str) -> float:
    return float(metrics.get(metric).score(part.label, part.prediction, part.question))


def _is_hopeless(
    best: Mapping[int, Predictions], other: Mapping[int, Predictions], metric: str, highest: float
) -> bool:
    folds = sorted(best.keys() & other.keys())
    if not folds:
        return False
    pairs = [
        (bootstrap_score([best[fold]], metric), bootstrap_score([other[fold]], metric))
        for fold in folds
    ]
    gaps = np.array([one.estimate - two.estimate for one, two in pairs])
    count = len(folds)
    rows = sum(bootstrap_variance(one, one.draws - two.draws) for one, two in pairs) / count**2
    variance = rows + 2 * (_SEED_POINTS * highest / 100) ** 2 / count
    if count >= _MIN_FOLDS_FOR_SCATTER:
        variance = max(variance, float(gaps.var(ddof=1)) / count)
    return float(gaps.mean()) > STANDARD_ERRORS * math.sqrt(variance)
