"""Estimates what more training rows would bring: a power law through scores on shares of the rows.

The error, by which the score is below the metric's highest, falls with the share f of the rows
(Hestness et al. 2017, arXiv:1712.00409; with a floor as in Cortes et al. 1994)::

    e(f) = e (c + (1 - c) f^-b)

on a grid of e, floor c and exponent b. Scores are normal around the curve, with the covariance that
test rows and runs give them. Gains are means over the grid by likelihood; their interval has all
points whose likelihood ratio is inside 95 %. Scores that rise without bend, by the logarithm of the
rows, are no power law: three sizes cannot tell, and their gain is underestimated. Runs on a share
train as many epochs, hence fewer steps, and select by a selection part as much smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import chdtrc

from paretune.analysis.cell import Cell
from paretune.analysis.pareto.expected_scores import estimate_means

LEAST_SIZES = 3
MOST_POINTS = 10.0
"""The widest interval that is still informative, in points."""
LEAST_FIT = 0.01
"""The p-value under which scores do not follow a power law."""
_INSIDE = 3.84
"""The quantile of chi-squared, one degree of freedom, 95 %."""
_GRID, _LEAST_FLOOR, _MOST_EXPONENT = 31, -1.0, 2.0


def predict_gain(cell: Cell, shares: Sequence[float] = ()) -> tuple[float, float, float] | str:
    """Predict the points that twice the rows would bring, with a 95 % interval; or say why not.

    Args:
        shares: shares of the rows that the study trains on (``protocol.rows``).
    """
    by_share = {1.0: cell.final}
    for record in cell.fewer_rows:
        by_share[record.run.rows] = (*by_share.get(record.run.rows, ()), record)
    if len(by_share) < LEAST_SIZES:
        if len(shares) + 1 >= LEAST_SIZES:
            waiting = [f"{share:g}" for share in shares if share not in by_share]
            return (
                f"its runs on shares of the rows are not trained: {', '.join(waiting)}; "
                "`paretune run` trains them after all others"
            )
        if shares:
            return "one share of the rows is too few: protocol.rows: [0.25, 0.5] has two"
        return "protocol.rows: [0.25, 0.5] measures it"
    sizes = {share: replace(cell, final=runs).run_scores for share, runs in by_share.items()}
    scores = {share: score for share, score in sizes.items() if score is not None}
    if len(scores) < LEAST_SIZES or 1.0 not in scores:
        return "runs on fewer rows failed"
    point = scores[1.0].highest / 100
    if not np.isfinite(point):
        return "the metric has no highest value"
    scored, of_share = np.array([*scores]), [*scores.values()]
    scores_of_all, noise = estimate_means(of_share, [True] * len(of_share))
    measured, noise = 100 - scores_of_all / point, noise / point**2
    spread = 4 * np.sqrt(noise[0, 0])
    errors = np.linspace(max(measured[0] - spread, 0.0), measured[0] + spread, _GRID)
    axes = errors, np.linspace(_LEAST_FLOOR, 1, _GRID), np.linspace(0, _MOST_EXPONENT, _GRID)
    error, floor, exponent = (axis.reshape(-1, 1) for axis in np.meshgrid(*axes))
    misfit = measured - error * (floor + (1 - floor) * scored**-exponent)
    distance = ((misfit @ np.linalg.inv(noise)) * misfit).sum(axis=1)
    least = distance.min()
    if chdtrc(len(scored) - 2, least) < LEAST_FIT:
        return "scores do not follow a power law"
    gains = (error * (1 - floor) * (1 - 2.0**-exponent))[:, 0]
    inside = gains[distance <= least + _INSIDE]
    low, high = float(inside.min()), float(inside.max())
    if high - low > MOST_POINTS:
        return f"anything from {low:+.0f} to {high:+.0f} points; more seeds narrow it"
    return float(np.average(gains, weights=np.exp((least - distance) / 2))), low, high
