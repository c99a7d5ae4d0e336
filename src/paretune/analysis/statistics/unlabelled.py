"""Corrects the difference of two methods by other methods' answers to unlabelled rows.

On a row that both answer alike they do not differ; on another row, the mean probability that
further methods give to either answer says who is likely right::

    d = whether a is right - whether b is right
    g = mean probability of a's answer - that of b's

Without labels d is unknown, and g is known. So the mean of g over the n labelled rows can be
compared with that over N further rows, and what chance has favoured one side by is subtracted: a
control variate (prediction-powered inference: Angelopoulos et al. 2023, Science 382; the weight:
arXiv:2311.01453; of runs of all folds: Zrnic and Candes 2024, PNAS 121)::

    D = mean(d) - w (mean(g) - mean(g of unlabelled rows))
    w = cov(d, g) / (var(g) (1 + n / N)),    0 to 2

Each tenth of the rows has the weight of the others, so D expects what mean(d) expects whatever g
is; of a g that says nothing w is about 0. Both kinds of rows have to be drawn from one population.
A row's g is by runs that have not trained on it, and is compared with the unlabelled rows' by the
same runs: what runs differ by stays in d. The rows' part of the variance (:mod:`.differences`)::

    var(d - w g) / n + w^2 var(g of unlabelled rows) / N    in place of    var(d) / n

What runs add, and all folds share, stays: unlabelled rows do not know it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from paretune.analysis.statistics.differences import Estimate
from paretune.analysis.statistics.scores import RunScores, check_paired
from paretune.metrics import Array

PARTS = 10
"""The number of parts of the rows; the weight of each comes from all other parts."""
MAX_WEIGHT = 2.0
"""The largest weight: a calibrated g has 1 / (1 + n / N); more is chance or a far too unsure g."""
MIN_UNITS = 20
"""With fewer labelled rows there is no weight."""


@dataclass(frozen=True, eq=False)
class Covariate:
    """The covariate that a difference is corrected by.

    Attributes:
        labelled: (units,): g of each unit, less the mean over the unlabelled rows by its runs.
        unlabelled: (unlabelled units,): g by all these runs, less its mean; for a cluster the sum
            over its rows, divided by the mean number of rows.
        rows: number of unlabelled rows.
    """

    labelled: Array
    unlabelled: Array
    rows: int


def fit_weights(values: Array, covariate: Covariate) -> Array:
    """Estimate the weight of each unit from the units of other parts, (units,).

    Args:
        values: (units,) values of the difference.
    """
    labelled, shrinkage = covariate.labelled, 1 + len(values) / len(covariate.unlabelled)
    weights = np.zeros(len(values))
    if len(values) < MIN_UNITS:
        return weights
    part = np.arange(len(values)) % PARTS
    for number in range(PARTS):
        rest = part != number
        variance, joint = np.cov(labelled[rest], values[rest])[0]
        if variance > 0:
            weights[~rest] = min(max(joint / variance / shrinkage, 0.0), MAX_WEIGHT)
    return weights


def correct_estimate(
    estimate: Estimate, a: RunScores, b: RunScores, covariate: Covariate
) -> Estimate:
    """Correct an estimate of ``a`` minus ``b`` as above.

    Raises:
        StoreError: ``a`` and ``b`` answered different rows.
    """
    check_paired(a, b)
    values = a.values.mean(axis=0) - b.values.mean(axis=0)
    weights = fit_weights(values, covariate)
    if not weights.any():
        return replace(estimate, unlabelled=covariate.rows)
    # Half an imaginary pair is won and half of one lost, as without a correction.
    spread = 0.5 * math.sqrt(1 / len(a.tables) + 1 / len(b.tables))
    residuals = values - weights * covariate.labelled
    plain, corrected = (
        max(float(rows.var(ddof=1)) / len(rows), float(extended.var()) / len(extended))
        for rows in (values, residuals)
        for extended in [np.append(rows, [spread, -spread])]
    )
    of_unlabelled = float(covariate.unlabelled.var(ddof=1)) / len(covariate.unlabelled)
    corrected += float(weights.mean()) ** 2 * of_unlabelled
    (of_rows, degrees), *of_runs = estimate.parts
    # The noise that runs have too was subtracted from it: a quarter stays, as there.
    left = max(of_rows - plain + corrected, corrected / 4)
    variance = estimate.variance - of_rows + left
    return replace(
        estimate,
        value=estimate.value - float((weights * covariate.labelled).mean()),
        variance=variance,
        parts=((left, degrees), *of_runs),
        run_share=1 - left / variance,
        row_ratio=corrected / plain,
        unlabelled=covariate.rows,
        residuals=residuals,
    )
