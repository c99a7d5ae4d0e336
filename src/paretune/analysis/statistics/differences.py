"""The difference of two cells' scores, paired on the examples that both answered.

**One split.** The variance of the difference has a part from seeds and a part from test examples,
each with its own quantile (Banerjee 1960, "On confidence interval for two-means problem based on
separate estimates of variances")::

    half^2 = t(seeds)^2 (s_a^2 / S_a + s_b^2 / S_b) + t(n - 1)^2 v

Degrees of freedom of the sum (Satterthwaite) would be right on average. But where seeds agree by
chance the sum looks as certain as its many examples: at the strict levels of many comparisons that
claimed a difference in up to 26 % of simulated studies without one. Banerjee's rule holds its level
for any ratio of the variances.

- ``s^2`` is moderated by the other cells (:class:`SeedPrior`);
  ``t(seeds)`` has Welch's degrees of freedom of the moderated variances.
- ``v`` is the variance over examples of the mean over seeds. Part of it is the noise of single
  answers, which is also part of ``s^2``; what is counted twice is taken out of ``v``
  (:func:`remove_residual`), since ``s^2`` with its few degrees of freedom cannot spare it.
- ``v`` is at least what two imaginary pairs would leave, one won and one lost (Agresti and Min
  2005): equal answers to eight examples do not prove two methods equal. With S seeds a pair won by
  chance is won by 1/sqrt(S), not by 1, as a mean over seeds scatters less than one answer.

**Outer cross-validation.** Each row is answered by a run that has not seen it. The same two parts:
``s^2`` is the variance between the folds of a repeat less what their rows explain, over K R runs on
R(K - 1) degrees of freedom, moderated as above. It does not shrink with the rows: at 900 rows and
seeds that differ by 5 points a rule without it erred in 17 % of comparisons, not in 5. What all
folds share, above all training rows, is in neither part, so the variance over rows is multiplied by
:meth:`TestDesign.phi`; nothing is taken out of it::

    half^2 = t(f)^2 V,   V = s_a^2 / K_a R_a + s_b^2 / K_b R_b + phi v

One quantile, of Satterthwaite's degrees of freedom f = V^2 / (sum T^2 / d + (phi v)^2 / (n - 1)).
``T`` is the variance between folds *with* what rows explain, over K R runs: that is what is
estimated on d degrees of freedom, and its error stays when the rows are subtracted. So a variance
between runs that comes out as 0 by chance does not look certain.

n counts independent units throughout: examples, questions or clusters.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from scipy import special

from paretune.analysis.statistics.intervals import Interval, build_interval, remove_residual
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import (
    BootstrapScore,
    bootstrap_variance,
    check_paired,
    restrict_rows,
)
from paretune.metrics import Array

VarianceTerm = tuple[float, float]
"""A variance and its degrees of freedom."""

_WEIGHT = 0.5
_NOISE_WEIGHT = 3.0


@dataclass(frozen=True)
class SeedPrior:
    """What other cells say about the variance between seeds, where few seeds estimate it.

    Two or three seeds of one cell agree by chance now and then, and their variance is then far too
    small. Cells of one task and model resemble one another, so each borrows from all (as Smyth
    2004, Statistical Applications in Genetics and Molecular Biology 3, does for genes)::

        max(s^2, (d0 s0^2 + d s^2) / (d0 + d))  on  d0 + d  degrees of freedom

    with ``s^2`` on ``d`` degrees of freedom and ``s0^2`` the mean of all cells' variances.

    - The maximum never lowers a variance: a method less steady than the others must not borrow
      their steadiness. Without it such a method is falsely called different in 7 to 14 % of
      comparisons.
    - ``d0`` is ``d / 2``: others count half as much as the cell itself. Smyth estimates ``d0`` from
      the spread of the variances, but four cells of two seeds cannot show that one is seven times
      as unsteady as the rest; with estimated ``d0`` (up to 8) false claims reached 9 to 13 % there.
    - With three cells it is ``d / 4`` and with two 0: what is common to cells cannot be learned
      from two of them.
    - The mean rather than Smyth's geometric mean: one unsteady cell raises it, which is the safe
      side.

    **Outer cross-validation.** ``s^2`` is the variance between folds less what their rows explain,
    and the noise of that subtraction can be many times the variance itself. Its positive part would
    be too large on average, so here the mean counts without the maximum::

        (w s0^2 + s^2) / (w + 1)  on  (w + 1) d  degrees of freedom,   w = 1 + 3 r / (r + s0^2)

    with ``r`` the variance of a fold's score that comes from its rows. Where rows make nearly all
    of what folds scatter by, one cell's own variance says little and others count four times as
    much. Baselines with a model lend nothing: a linear probe is steadier than what is fine-tuned.
    With three cells ``w`` is half of that, with two 0.

    **In a race** what is lent must not depend on what was stopped: it is learned from the first two
    runs of every method, which all of them have. These are few, so others bring no more degrees of
    freedom than they have: one for each method.

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

    def weight_for(self, degrees: float) -> float:
        """Degrees of freedom of the others, as a share of a cell's ``degrees``."""
        weight = _WEIGHT * self.share
        if self.noise is not None:
            total = self.noise + self.variance
            weight = self.share * (1 + (_NOISE_WEIGHT * self.noise / total if total > 0 else 0.0))
        return min(weight, self.degrees / degrees)

    def moderate(self, score: BootstrapScore) -> VarianceTerm:
        """Variance of a score's mean that comes from its seeds, and its degrees of freedom.

        (0, 1) where one run leaves it unknown.
        """
        degrees = score.run_degrees
        if degrees < 1:
            return 0.0, 1.0
        weight, crossed = self.weight_for(degrees), score.fold_scores is not None
        variance = score.run_variance / score.runs if crossed else score.seed_variance
        mean = (weight * self.variance / score.runs + variance) / (weight + 1)
        # Cross-validated scores keep what is subtracted from them.
        return max(mean, 0.0 if crossed else variance), (weight + 1) * degrees


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


_SMALLEST_P = 1e-12


@dataclass(frozen=True)
class DifferenceTerms:
    """A difference with the two parts of its variance.

    Attributes:
        estimate: score of one side minus that of the other.
        seeds: from the runs of each side whose scatter is known.
        examples: from the examples; without degrees of freedom (one unit) nothing is known.
        between_folds: under cross-validation, of each side the variance between folds (over the
            number of runs) of which the rows' part was subtracted for ``seeds``; None of one split.
    """

    estimate: float
    seeds: tuple[VarianceTerm, ...]
    examples: VarianceTerm
    between_folds: tuple[VarianceTerm, ...] | None = None

    @property
    def variance(self) -> float:
        """Of the difference."""
        return sum(v for v, _ in self.seeds) + self.examples[0]

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of :attr:`variance`."""
        parts = (*(self.seeds if self.between_folds is None else self.between_folds), self.examples)
        error = sum(v**2 / df for v, df in parts if v > 0)
        return self.variance**2 / error if error > 0 else math.inf

    def half_width(self, level: float) -> float:
        """Half the width of the interval of two-sided level ``level``, for example 0.05."""
        if self.examples[1] < 1:
            return math.inf
        if self.between_folds is not None:
            return _quantile(self.freedom, level) * math.sqrt(self.variance)
        variance = sum(v for v, _ in self.seeds)
        squared = _quantile(self.examples[1], level) ** 2 * self.examples[0]
        if variance > 0:
            freedom = variance**2 / sum(v**2 / df for v, df in self.seeds)
            squared += _quantile(freedom, level) ** 2 * variance
        return math.sqrt(squared)

    def interval(self, a: BootstrapScore, b: BootstrapScore) -> Interval:
        """The 95 % interval and p-value of the difference of these scores."""
        v_seeds = sum(v for v, _ in self.seeds)
        half, widest = self.half_width(ALPHA), a.highest - a.lowest
        interval = build_interval(self.estimate, half, (a, b), v_seeds, self.examples[0])
        low, high = max(-widest, interval.low), min(widest, interval.high)
        return replace(interval, low=low, high=high, p=self.p_value())

    def p_value(self) -> float:
        """The two-sided level at which the interval would just exclude 0, by bisection."""
        gap = abs(self.estimate)
        if self.variance <= 0:
            return float(gap == 0)
        if gap <= 0 or self.examples[1] < 1:
            return 1.0
        low, high = math.log(_SMALLEST_P), 0.0
        for _ in range(32):
            middle = (low + high) / 2
            if self.half_width(math.exp(middle)) < gap:
                high = middle
            else:
                low = middle
        return math.exp(high)


def score_difference(a: BootstrapScore, b: BootstrapScore, prior: SeedPrior = NO_PRIOR) -> Interval:
    """Score of ``a`` minus score of ``b``: 95 % interval and p-value by the rule above.

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.
    """
    a, b = on_common_rows(a, b)
    return difference_terms(a, b, prior).interval(a, b)


def difference_terms(
    a: BootstrapScore, b: BootstrapScore, prior: SeedPrior = NO_PRIOR
) -> DifferenceTerms:
    """The difference of two scores of the same rows, and its variances.

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.
    """
    variance = shared_example_variance(a, b)
    seeds = tuple(prior.moderate(side) for side in (a, b) if side.run_degrees > 0)
    if not a.design.is_cross_validation:
        variance = remove_residual(variance, a.residual_variance + b.residual_variance)
    phi = max(side.design.phi(side.units) for side in (a, b))
    between_folds = None
    if a.design.is_cross_validation:
        sides = [side for side in (a, b) if side.run_degrees > 0]
        between_folds = tuple(
            (v + side.row_noise / side.runs, degrees)
            for side, (v, degrees) in zip(sides, seeds, strict=True)
        )
    return DifferenceTerms(
        a.estimate - b.estimate, seeds, (phi * variance, a.units - 1.0), between_folds
    )


def shared_example_variance(a: BootstrapScore, b: BootstrapScore) -> float:
    """The part of the difference's variance that comes from the examples both answered.

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.
    """
    check_paired(a, b)
    bootstrapped = bootstrap_variance(a, a.draws - b.draws)
    if a.credit is None or b.credit is None:
        return bootstrapped
    won = math.sqrt((1 / len(a.seeds) + 1 / len(b.seeds)) / 2)
    return max(bootstrapped, credit_variance(a.credit - b.credit, won))


def credit_variance(delta: Array, won: float) -> float:
    """The variance of a mean of paired differences with two imaginary pairs, won and lost by
    ``won``; ``delta`` (items,).
    """
    n = len(delta)
    mean = delta.sum() / (n + 2)
    squares = ((delta - mean) ** 2).sum() + 0.5 * (won - mean) ** 2 + 0.5 * (won + mean) ** 2
    return float(squares + mean**2) / (n + 2) ** 2


def on_common_rows(a: BootstrapScore, b: BootstrapScore) -> tuple[BootstrapScore, BootstrapScore]:
    """Both scores on the rows that both answered; folds that failed or wait are missing.

    Raises:
        StoreError: no row is common, or the answers are to one split and differ.
    """
    if a.uid == b.uid or not (a.design.is_cross_validation and b.design.is_cross_validation):
        check_paired(a, b)
        return a, b
    common = frozenset(a.uid) & frozenset(b.uid)
    first, second = restrict_rows(a, common), restrict_rows(b, common)
    check_paired(first, second)
    return first, second


def _quantile(freedom: float, level: float) -> float:
    return float(special.stdtrit(freedom, 1 - level / 2))
