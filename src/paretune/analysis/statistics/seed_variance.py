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
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paretune.analysis.statistics.bootstrap_score import BootstrapScore

_WEIGHT = 0.5


@dataclass(frozen=True)
class SeedPrior:
    """What other cells say about the variance between seeds.

    Attributes:
        weight: degrees of freedom of the others, as a share of a cell's own.
        variance: of single seeds, the mean over cells.
    """

    weight: float = 0.0
    variance: float = 0.0

    def moderate(self, score: BootstrapScore) -> tuple[float, float]:
        """Variance of a score's mean that comes from its seeds, and its degrees of freedom.

        (0, 1) where one run leaves it unknown.
        """
        degrees = score.run_degrees
        if degrees < 1:
            return 0.0, 1.0
        own, other = score.seed_variance, self.variance / score.runs
        moderated = (self.weight * other + own) / (self.weight + 1)
        return max(own, moderated), (self.weight + 1) * degrees


NO_PRIOR = SeedPrior()
"""Every cell stands alone."""


def fit_seed_prior(scores: Iterable[BootstrapScore]) -> SeedPrior:
    """The prior of the cells of one task and model; those with one seed say nothing."""
    repeated = [s for s in scores if s.run_degrees > 0]
    if len(repeated) < 3:
        return NO_PRIOR
    variance = max(sum(score.run_variance for score in repeated) / len(repeated), 0.0)
    return SeedPrior(min(_WEIGHT, _WEIGHT * (len(repeated) - 2) / 2), variance)
