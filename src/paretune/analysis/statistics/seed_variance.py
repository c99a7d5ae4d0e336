"""The variance between seeds, where few seeds estimate it: moderated by the other cells.

Two or three seeds of one cell agree by chance now and then, and their variance is then far too
small. Cells of one task and model resemble one another, so each borrows from all (as Smyth 2004,
Statistical Applications in Genetics and Molecular Biology 3, does for genes)::

    max(s^2, (d0 s0^2 + d s^2) / (d0 + d))  on  d0 + d  degrees of freedom

with ``s^2`` on ``d`` degrees of freedom and ``s0^2`` the mean of all cells' variances.

- The maximum never lowers a variance: a method less steady than the others must not borrow their
  steadiness. Without it such a method is falsely called different in 7 to 14 % of comparisons.
- ``d0`` is ``d / 2``: others count half as much as the cell itself. Smyth estimates ``d0`` from
  the spread of the variances, but four cells of two seeds cannot show that one is seven times as
  unsteady as the rest; with estimated ``d0`` (up to 8) false claims reached 9 to 13 % there.
- With three cells it is ``d / 4`` and with two 0: what is common to cells cannot be learned from
  two of them.
- The mean rather than Smyth's geometric mean: one unsteady cell raises it, which is the safe side.

**Outer cross-validation.** ``s^2`` is the variance between folds less what their rows explain, and
the noise of that subtraction can be many times the variance itself. Its positive part would be too
large on average, so here the mean counts without the maximum::

    (w s0^2 + s^2) / (w + 1)  on  (w + 1) d  degrees of freedom,   w = 1 + 3 r / (r + s0^2)

with ``r`` the variance of a fold's score that comes from its rows. Where rows make nearly all of
what folds scatter by, one cell's own variance says little and others count four times as much.
Baselines with a model lend nothing: a linear probe is steadier than what is fine-tuned. With three
cells ``w`` is half of that, with two 0.

**In a race** what is lent must not depend on what was stopped: it is learned from the first two
runs of every method, which all of them have. These are few, so others bring no more degrees of
freedom than they have: one for each method.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from paretune.analysis.statistics.bootstrap_score import BootstrapScore

_WEIGHT = 0.5
_NOISE_WEIGHT = 3.0


@dataclass(frozen=True)
class SeedPrior:
    """What other cells say about the variance between seeds.

    Attributes:
        share: of the full weight that the others have: 1 for four cells and more, 0 for two.
        variance: of single seeds, the mean over cells.
        noise: under cross-validation the mean variance of a fold's score that comes from its rows;
            None of one split.
        degrees: of freedom that ``variance`` has itself; the others never bring more.
    """

    share: float = 0.0
    variance: float = 0.0
    noise: float | None = None
    degrees: float = math.inf

    @property
    def weight(self) -> float:
        """Degrees of freedom of the others, as a share of a cell's own."""
        if self.noise is None:
            return _WEIGHT * self.share
        total = self.noise + self.variance
        return self.share * (1 + (_NOISE_WEIGHT * self.noise / total if total > 0 else 0.0))

    def weight_for(self, degrees: float) -> float:
        """:attr:`weight` for a cell with so many degrees of freedom."""
        return min(self.weight, self.degrees / degrees)

    def combine(self, own: Any, degrees: Any, runs: int) -> tuple[Any, Any]:
        """Variance of a mean of ``runs`` from its own estimate, and its degrees of freedom.

        Args:
            own: variance of the mean, by the cell's own runs; a number, or of many draws.
            degrees: its degrees of freedom.
        """
        weight = self.weight_for(degrees)
        mean = (weight * self.variance / runs + own) / (weight + 1)
        moderated = np.maximum(mean, 0.0 if self.noise is not None else own)
        return moderated, (weight + 1) * degrees

    def moderate(self, score: BootstrapScore) -> tuple[float, float]:
        """Variance of a score's mean that comes from its seeds, and its degrees of freedom.

        (0, 1) where one run leaves it unknown.
        """
        degrees = score.run_degrees
        if degrees < 1:
            return 0.0, 1.0
        crossed = score.fold_scores is not None
        own = score.run_variance / score.runs if crossed else score.seed_variance
        variance, moderated_degrees = self._for(score).combine(own, degrees, score.runs)
        return float(variance), float(moderated_degrees)

    def _for(self, score: BootstrapScore) -> SeedPrior:
        """Cross-validated scores without others' noise keep what is subtracted from them."""
        if score.fold_scores is not None and self.noise is None:
            return replace(self, noise=0.0)
        return self


NO_PRIOR = SeedPrior()
"""Every cell stands alone."""


def fit_seed_prior(scores: Iterable[BootstrapScore]) -> SeedPrior:
    """The prior of the cells of one task and model; those with one seed say nothing."""
    repeated = [s for s in scores if s.run_degrees > 0]
    if len(repeated) < 3:
        return NO_PRIOR
    variance = max(sum(score.run_variance for score in repeated) / len(repeated), 0.0)
    share = min(1.0, (len(repeated) - 2) / 2)
    if all(score.fold_scores is None for score in repeated):
        return SeedPrior(share, variance)
    return SeedPrior(share, variance, sum(score.row_noise for score in repeated) / len(repeated))


def fit_first_runs(scores: Iterable[BootstrapScore]) -> SeedPrior:
    """The prior of a race, from the scores of the first two runs of every method."""
    listed = [score for score in scores if score.run_degrees > 0]
    return replace(fit_seed_prior(listed), degrees=sum(score.run_degrees for score in listed))


def lending_scores(
    scores: Mapping[str, BootstrapScore], baselines: Collection[str]
) -> list[BootstrapScore]:
    """Those of which :func:`fit_seed_prior` learns; ``baselines`` are names in ``scores``."""
    return [
        score
        for name, score in scores.items()
        if score.fold_scores is None or name not in baselines
    ]
