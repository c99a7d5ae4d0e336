"""Two methods compared over all tasks of a study: "lora against full on your four tasks".

On a small task few differences are proven; the same difference on several tasks often is. Per task
t with n_t independent rows the difference d_t has the variance v_t of
:mod:`paretune.analysis.statistics.differences`, all in points (hundredths of the metric's
highest value). Over the tasks::

    d = sum w_t d_t,   se^2 = sum w_t^2 v_t,   w_t = n_t / sum n

with weights that are fixed before any score is known, and Student's quantile for Satterthwaite's
degrees of freedom of the sum. The result is about these tasks, each weighing as many rows as it
has. P-values are corrected (Holm) over all comparisons of the table: every model and reference.
Where the study names a reference, the comparisons with it are a separate family.

Whether the effects themselves differ from task to task is Welch's test (1951), which is Cochran's Q
for variances that are estimated. Where it is under 0.10 (tests of heterogeneity are weak), a mean
over these tasks says little about another: then the interval of the mean over all such tasks stands
beside it (random effects: Paule and Mandel 1982, with Hartung and Knapp's standard error 2001,
and never narrower than without it).

As everywhere, scores leave out failed runs. There is no verdict where one side is a single run of a
method with seeds, or where its failures would outweigh its lead.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from paretune import metrics
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons, describe_withheld
from paretune.analysis.pairs import Standing, Withheld
from paretune.analysis.pareto.costs import count_trained_parameters
from paretune.analysis.statistics.multiple_testing import (
    ALPHA,
    correct_for_looks,
    holm_correction,
)
from paretune.methods import baselines
from paretune.methods.core.titles import title_of

_HETEROGENEITY_LEVEL = 0.10


@dataclass(frozen=True)
class TaskEffect:
    """The difference on one task, in points.

    Attributes:
        task: name of the task.
        points: method minus reference.
        rows: number of independent test rows (clusters, questions) of the task, its weight.
        variance: variance of the difference.
        freedom: Satterthwaite's degrees of freedom of the variance.
    """

    task: str
    points: float
    rows: int
    variance: float
    freedom: float


@dataclass(frozen=True)
class OverTasks:
    """One method minus a reference over several tasks, in points.

    Attributes:
        model: name of the model.
        method: key of the method.
        reference: key of the method or baseline that it is compared with.
        effects: differences on each task.
        points: the difference over these tasks; a task weighs as many rows as it has.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        p: two-sided p-value against no difference.
        p_holm: ``p`` corrected over all comparisons of the study (Holm).
        p_heterogeneity: p-value against equal effects on the tasks.
        any_task: 95 % interval of the mean over all such tasks.
        failed: failed and all runs of the method, and of the reference.
        withheld: why there is no verdict whatever the p-value; empty otherwise.
    """

    model: str
    method: str
    reference: str
    effects: tuple[TaskEffect, ...]
    points: float
    low: float
    high: float
    p: float
    p_holm: float
    p_heterogeneity: float
    any_task: tuple[float, float]
    failed: tuple[tuple[int, int], tuple[int, int]]
    withheld: str = ""

    @property
    def standing(self) -> Standing:
        """Whether the method is proven better or worse on these tasks."""
        if self.withheld or self.p_holm >= ALPHA:
            return "unclear"
        return "above" if self.points > 0 else "below"

    @property
    def differs_between_tasks(self) -> bool:
        """Whether the effects on the tasks differ from one another."""
        return self.p_heterogeneity < _HETEROGENEITY_LEVEL


def compare_over_tasks(
    tasks: Iterable[PairwiseComparisons], chosen: str | None = None
) -> tuple[OverTasks, ...]:
    """Compare each method of a model with each reference, where they share several tasks.

    References are the chosen method, or else the one that trains the most parameters, the probe or
    untuned model, and the baselines without a model that may be taken. Tasks whose metric has no
    lowest value are left out: their points are on no common scale.
    """
    bounded = [
        task
        for task in tasks
        if task.cells and math.isfinite(metrics.get(task.cells[0].metric).lowest)
    ]
    cells = [cell for task in bounded for cell in task.cells]
    comparisons: list[OverTasks] = []
    for model in dict.fromkeys(c.model for c in cells if c.model != NO_MODEL):
        on_model = [c for c in cells if c.model in (model, NO_MODEL)]
        methods = dict.fromkeys(c.method for c in on_model if not c.baseline)
        trained = [cell for cell in on_model if not cell.baseline]
        largest = max(trained, key=lambda c: count_trained_parameters(c) or 0.0, default=None)
        useful = (c.method for c in on_model if c.baseline and c.name not in baselines.TRIVIAL)
        first = chosen or (largest and largest.method)
        for reference in dict.fromkeys([first, *useful] if first else useful):
            comparisons += [
                row
                for method in methods
                if method != reference
                if (row := _compare(model, method, reference, bounded)) is not None
            ]
    families: dict[bool, list[OverTasks]] = {True: [], False: []}
    for row in comparisons:
        families[row.reference == chosen].append(row)
    corrected = {
        (row.model, row.method, row.reference): p
        for family in families.values()
        for row, p in zip(family, holm_correction([row.p for row in family]), strict=True)
    }
    return tuple(
        replace(row, p_holm=corrected[row.model, row.method, row.reference]) for row in comparisons
    )


def _compare(
    model: str, method: str, reference: str, tasks: Sequence[PairwiseComparisons]
) -> OverTasks | None:
    effects, sides, reasons, lead = [], [], set(), 0.0
    for task in tasks:
        cells = {c.method: c for c in task.cells if c.model in (model, NO_MODEL)}
        if method not in cells or reference not in cells:
            continue
        a, b = cells[method], cells[reference]
        pair = task.compare(a, b)
        if pair is None:
            continue
        gap, scale = pair.difference, 100 / pair.difference.highest
        if not 0 < pair.estimate.variance < math.inf:
            continue
        # Take the rows of the task, because the pair lacks the rows of failed folds.
        rows = max(score.units for score in task.scores(model).values())
        variance, freedom = pair.estimate.variance * scale**2, pair.estimate.freedom
        effects.append(TaskEffect(a.task, gap.estimate * scale, rows, variance, freedom))
        sides.append((a, b))
        reasons.add(pair.withheld)
        # Expected scores count failures; with few rows there are only scores of trained runs.
        ahead, behind = (
            expected.estimate if (expected := task.expected.get(c.key) or c.run_scores) else 0.0
            for c in (a, b)
        )
        lead += rows * 100 * (ahead - behind) / metrics.get(a.metric).highest
    if len(effects) < 2:
        return None
    points, half, p = combine_effects(effects)
    rates = [[c.failures for c in side if c.failures] for side in zip(*sides, strict=True)]
    failed_a, failed_b = (
        (sum(rate.failed for rate in side), sum(rate.runs for rate in side)) for side in rates
    )
    p = correct_for_looks(p, max(cell.passes for pair in sides for cell in pair))
    withheld = _withhold([cell for pair in sides for cell in pair], reasons)
    failed_runs, _ = failed_a if points > 0 else failed_b
    if not withheld and failed_runs and lead * points <= 0:
        withheld = describe_withheld(["failures"])
    return OverTasks(
        model=model,
        method=method,
        reference=reference,
        effects=tuple(effects),
        points=points,
        low=points - half,
        high=points + half,
        p=p,
        p_holm=p,
        p_heterogeneity=heterogeneity_p_value(effects),
        any_task=interval_of_any_task(effects),
        failed=(failed_a, failed_b),
        withheld=withheld,
    )


def _withhold(cells: Sequence[Cell], reasons: Collection[Withheld]) -> str:
    """Say why cells of several tasks have too few runs for a claim; empty where they have not.

    Args:
        reasons: why pairs of single tasks have no verdict.
    """
    if "one run" in reasons:
        alone = next(c for c in cells if c.draws_seeds and len(c.test_answers) == 1)
        return (
            f"{title_of(alone.method)} has one run on {alone.task} that can be compared, "
            "which cannot show how much runs differ"
        )
    # A pair of few folds does not say that it is unfinished too.
    if any(cell.judged_at_end and not cell.complete for cell in cells):
        return describe_withheld(["unfinished"])
    return describe_withheld(["few folds"]) if {*reasons} == {"few folds"} else ""


def combine_effects(effects: Sequence[TaskEffect]) -> tuple[float, float, float]:
    """Return the difference over the tasks in points, its 95 % half width and its p-value."""
    weights = np.array([effect.rows for effect in effects], dtype=float)
    weights /= weights.sum()
    points = float(weights @ [effect.points for effect in effects])
    variances = weights**2 * [effect.variance for effect in effects]
    error = math.sqrt(variances.sum())
    freedom = error**4 / float((variances**2 / [effect.freedom for effect in effects]).sum())
    half = float(special.stdtrit(freedom, 1 - ALPHA / 2)) * error
    return points, half, 2 * float(special.stdtr(freedom, -abs(points) / error))


def heterogeneity_p_value(effects: Sequence[TaskEffect]) -> float:
    """Compute Welch's p-value (1951) of equal effects, whose variances are estimated."""
    points, variances, freedom = (
        np.array([getattr(effect, name) for effect in effects])
        for name in ("points", "variance", "freedom")
    )
    weights, between = 1 / variances, len(points) - 1
    shares = weights / weights.sum()
    correction = ((1 - shares) ** 2 / freedom).sum() / (len(points) ** 2 - 1)
    ratio = weights @ (points - shares @ points) ** 2 / between
    ratio /= 1 + 2 * (between - 1) * correction
    return float(special.fdtrc(between, 1 / (3 * correction), ratio))


def interval_of_any_task(effects: Sequence[TaskEffect]) -> tuple[float, float]:
    """Return the 95 % interval of the mean effect on all tasks of which these are a sample.

    The variance between tasks is Paule and Mandel's (1982), the interval that of Hartung and Knapp
    (2001).
    """
    points, variances = (
        np.array([getattr(effect, name) for effect in effects]) for name in ("points", "variance")
    )
    freedom, heterogeneity = len(points) - 1, 0.0
    for _ in range(100):  # Newton's method, which comes from below
        weights = 1 / (variances + heterogeneity)
        mean = weights @ points / weights.sum()
        scale = weights @ (points - mean) ** 2 / freedom
        if scale <= 1 + 1e-9:
            break
        heterogeneity += (scale - 1) * freedom / float(weights**2 @ (points - mean) ** 2)
    # Never narrower than with the effects' own variances: two tasks may agree by chance.
    error = math.sqrt(max(1.0, scale) / weights.sum())
    half = float(special.stdtrit(freedom, 1 - ALPHA / 2)) * error
    return float(mean - half), float(mean + half)
