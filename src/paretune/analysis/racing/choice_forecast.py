"""What will be recommended when all runs of a task are there, by simulated completions.

The rule is the one of :mod:`paretune.analysis.pareto.recommend`: of what exceeds the trivial score,
is within the limits and does not fail mostly, the cheapest whose expected score is within
``within_points`` of the highest. Expected losses differ by what expected scores differ, so no
bootstrap is needed for a draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.pareto.expected_scores import CellKey, failure_prior, score_of_constant
from paretune.analysis.pareto.recommend import (
    Candidate,
    Choice,
    cheapest_near_best,
    cheapness_key,
)
from paretune.analysis.racing.completions import ScoreTable
from paretune.methods import baselines
from paretune.metrics import Array


@dataclass(frozen=True)
class ChoiceForecast:
    """Chances over completions of a task's runs.

    Attributes:
        chosen: that a configuration is recommended; of None, that nothing is.
        best: that it has the highest expected score of those that may be recommended.
    """

    chosen: Mapping[CellKey | None, float]
    best: Mapping[CellKey, float]

    def chance(self, key: CellKey | None) -> float:
        """That this is recommended."""
        return self.chosen.get(key, 0.0)

    def matters(self, key: CellKey) -> float:
        """How likely the configuration is the recommended one or the highest."""
        return max(self.chosen.get(key, 0.0), self.best.get(key, 0.0))


def forecast_choice(choice: Choice, table: ScoreTable, completions: Array) -> ChoiceForecast:
    """The chances of each configuration.

    Args:
        choice: from the runs so far.
        table: of the cells of its candidates.
        completions: (draws, cells, positions), of :func:`simulate_completions`.
    """
    candidates = [_find(choice.candidates, key) for key in table.keys]
    expected, useful = _expected_scores(choice, candidates, table, completions)
    point = table.highest / 100
    within, axis = choice.budget.within_points, choice.budget.cost_axis
    chosen: Counter[CellKey | None] = Counter()
    best: Counter[CellKey] = Counter()
    for scores, possible in zip(expected, useful, strict=True):
        pool = np.flatnonzero(possible)
        losses = {table.keys[i]: -scores[i] / point for i in pool}
        cheapness = {table.keys[i]: cheapness_key(candidates[i], axis, scores[i]) for i in pool}
        chosen[cheapest_near_best(losses, cheapness, within)] += 1
        if losses:
            best[min(losses, key=losses.__getitem__)] += 1
    draws = len(completions)
    return ChoiceForecast(
        {key: count / draws for key, count in chosen.items()},
        {key: count / draws for key, count in best.items()},
    )


def _find(candidates: Sequence[Candidate], key: CellKey) -> Candidate:
    return next(c for c in candidates if (c.cell.model, c.cell.method) == key)


def _expected_scores(
    choice: Choice,
    candidates: Sequence[Candidate],
    table: ScoreTable,
    completions: Array,
) -> tuple[Array, Array]:
    """Expected scores, and which may be recommended: (draws, cells)."""
    cells = [candidate.cell for candidate in candidates]
    with np.errstate(invalid="ignore"):
        means = np.nanmean(completions, axis=2)
    lost = table.lost.sum(axis=1)
    runs = np.array([_count_runs(cell, table) for cell in cells])
    may_fail = np.array([not cell.trains_nothing for cell in cells])
    prior = failure_prior(
        (int(f), int(r - f)) for f, r, may in zip(lost, runs, may_fail, strict=True) if may
    )
    fails = np.where(may_fail, (lost + prior[0]) / (runs + sum(prior)), 0.0)
    constant = score_of_constant(cells)
    expected = (1 - fails) * means + fails * constant
    allowed = np.array(
        [
            candidate.within_budget
            and cell.name not in baselines.TRIVIAL
            and not cell.selected_on_test
            and not (failed > 0 and 2 * failed >= count)
            for candidate, cell, failed, count in zip(candidates, cells, lost, runs, strict=True)
        ]
    )
    trivial = choice.trivial_score
    useful = allowed & np.isfinite(means)
    if trivial is not None:
        useful = useful & (means > trivial.value + 1e-9)
    return expected, useful


def _count_runs(cell: Cell, table: ScoreTable) -> int:
    return table.scores.shape[1] if not cell.deterministic else 1
