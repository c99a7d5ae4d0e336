"""The expected loss of taking a configuration instead of the best, and the chances beside it.

In one draw (:mod:`paretune.analysis.pareto.expected_score`) the loss of a configuration is how far
it lies below the highest of that draw; its expected loss is the mean over draws. The highest of
many noisy scores is too high itself, so the expected loss is on the safe side: in simulations it
was 2.5 points where the true one was 1.6 (docs/your-study/report.md). Between two configurations it
differs by exactly what their expected scores differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paretune.analysis.pareto.expected_score import CellKey, ExpectedScore


@dataclass(frozen=True)
class Prospect:
    """What taking a configuration may bring. Points are hundredths of the metric's highest value.

    Attributes:
        chance_best: that it is the best of all.
        chance_worse: that it is more than ``within_points`` below the best.
        chance_below_baseline: that it is below the best baseline without a model; None where it is
            that itself, or where there is none.
    """

    score: float
    loss_points: float
    chance_best: float
    chance_worse: float
    chance_below_baseline: float | None


def estimate_prospects(
    scores: Mapping[CellKey, ExpectedScore], baseline: ExpectedScore | None, within_points: float
) -> dict[CellKey, Prospect]:
    """The prospects of each configuration against the best of all.

    Args:
        scores: of the configurations from which is chosen.
        baseline: the best baseline without a model.
        within_points: how far below the best is as good as the best.
    """
    if not scores:
        return {}
    draws = np.stack([score.draws for score in scores.values()])
    point = next(iter(scores.values())).score.highest / 100
    losses = (draws.max(axis=0) - draws) / point
    is_best = losses == 0
    # Where several are the best they share it, so that the chances of all sum to 1.
    shares = (is_best / is_best.sum(axis=0)).mean(axis=1)
    return {
        key: Prospect(
            score=score.estimate,
            loss_points=float(loss.mean()),
            chance_best=float(share),
            chance_worse=float((loss > within_points).mean()),
            chance_below_baseline=None
            if baseline is None or score is baseline
            else float((score.draws < baseline.draws).mean()),
        )
        for (key, score), loss, share in zip(scores.items(), losses, shares, strict=True)
    }
