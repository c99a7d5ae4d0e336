"""Which pairs will be claimed when all runs of a task are there, by simulated completions.

The claims are those of a race (:mod:`paretune.analysis.pairwise_comparisons`): the two parts of
:class:`~paretune.analysis.statistics.score_difference.DifferenceTerms` with each cell's variance
between runs as a race moderates it, corrected over the study's families. The part of the test
examples is taken from the runs so far: in cross-validation it shrinks as rows are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.pairwise_comparisons import (
    PairwiseComparisons,
    correct_by_family,
    fit_race_prior,
)
from paretune.analysis.pairwise_ranks import Pair
from paretune.analysis.pareto.expected_score import CellKey
from paretune.analysis.racing.completions import ScoreTable
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.score_difference import DifferenceTerms
from paretune.analysis.statistics.seed_variance import SeedPrior
from paretune.metrics import Array

_BISECTIONS = 24
_SMALLEST_P = 1e-12


def forecast_claims(
    cells: Sequence[Cell], table: ScoreTable, completions: Array
) -> Mapping[CellKey, float]:
    """For each method, the chance that any of its pairs is claimed.

    Args:
        cells: of one task, with the runs so far.
        table: of cells with scores.
        completions: (draws, cells, positions), of :func:`simulate_completions`.
    """
    comparisons, prior = PairwiseComparisons(cells), fit_race_prior(cells)
    claimed: dict[CellKey, Array] = {}
    draws = len(completions)
    for model in dict.fromkeys(c.model for c in cells if c.model != NO_MODEL):
        own = {c.method: c for c in cells if c.model in (model, NO_MODEL)}
        p_values = {
            (pair.a, pair.b): _p_values((pair, pair.terms, prior), own, table, completions)
            for pair in comparisons.pairs(model)
            if pair.terms is not None and {_key(own[pair.a]), _key(own[pair.b])} <= set(table.keys)
        }
        for draw in range(draws):
            values = {names: float(p[draw]) for names, p in p_values.items()}
            for (a, b), (p, _) in correct_by_family(values, own).items():
                if p < ALPHA:
                    for name in {a, b} & own.keys():
                        claimed.setdefault(_key(own[name]), np.zeros(draws, bool))[draw] = True
    return {key: float(hits.mean()) for key, hits in claimed.items()}


def _key(cell: Cell) -> CellKey:
    return cell.model, cell.method


def _p_values(
    compared: tuple[Pair, DifferenceTerms, SeedPrior],
    cells: Mapping[str, Cell],
    table: ScoreTable,
    completions: Array,
) -> Array:
    """Uncorrected, with all runs: (draws,)."""
    pair, terms, prior = compared
    sides = [table.keys.index(_key(cells[name])) for name in (pair.a, pair.b)]
    with np.errstate(invalid="ignore"):
        gap = np.nanmean(completions[:, sides[0]], axis=1)
        gap = gap - np.nanmean(completions[:, sides[1]], axis=1)
    known = [int(np.isfinite(table.scores[side]).sum()) for side in sides]
    examples, rows = terms.examples
    if table.crossed:  # rows are answered as folds are trained
        whole = table.scores.shape[1]
        examples, rows = examples * min(known) / whole, (rows + 1) * whole / min(known) - 1
    variances, degrees, between = [], [], []
    for side, name in zip(sides, (pair.a, pair.b), strict=True):
        values = completions[:, side]
        count = np.isfinite(values).sum(axis=1)
        if table.fixed[side] or count.min() < 2:
            continue
        scatter = np.nanvar(values, axis=1, ddof=1)
        score = cells[name].bootstrap
        noise = score.row_noise if score is not None and table.crossed else 0.0
        runs = int(count.min())
        variance, freedom = prior.combine((scatter - noise) / runs, runs - 1.0, runs)
        variances.append(np.maximum(variance, 0.0))
        between.append(np.maximum(variance, 0.0) + noise / runs)
        degrees.append(np.full(len(count), freedom))
    return p_values(
        np.abs(gap),
        (np.array(variances), np.array(between), np.array(degrees)),
        (examples, rows),
        crossed=table.crossed,
    )


def p_values(
    gaps: Array,
    seeds: tuple[Array, Array, Array],
    examples: tuple[float, float],
    *,
    crossed: bool,
) -> Array:
    """:meth:`DifferenceTerms.p_value` of many draws, (draws,).

    Args:
        gaps: (draws,), not negative.
        seeds: the variance of each side's mean over runs, the same with what rows explain, and the
            degrees of freedom: (sides, draws) each.
        examples: the variance from examples and its degrees of freedom.
        crossed: one quantile of the whole, as of cross-validation.
    """
    variances, between, degrees = seeds
    variance, freedom = examples
    own = variances.sum(axis=0) if len(variances) else np.zeros(len(gaps))
    if freedom < 1:
        return np.ones(len(gaps))
    with np.errstate(divide="ignore", invalid="ignore"):
        if crossed:
            error = (between**2 / degrees).sum(axis=0) if len(between) else 0.0
            total = own + variance
            of_total = total**2 / (error + variance**2 / freedom)
            parts = [(total, of_total)]
        else:
            error = (variances**2 / degrees).sum(axis=0) if len(variances) else np.zeros(len(gaps))
            of_seeds = np.where(own > 0, own**2 / error, 1.0)
            parts = [(own, of_seeds), (np.full(len(gaps), variance), np.full(len(gaps), freedom))]
    low, high = np.full(len(gaps), np.log(_SMALLEST_P)), np.zeros(len(gaps))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        tail = 1 - np.exp(middle) / 2
        squared = sum(special.stdtrit(df, tail) ** 2 * v for v, df in parts)
        excluded = squared < gaps**2
        high, low = np.where(excluded, middle, high), np.where(excluded, low, middle)
    return np.where(gaps > 0, np.exp(high), 1.0)
