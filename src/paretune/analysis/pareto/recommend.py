"""Which configuration to use: the cheapest that is not clearly worse than the best in the budget.

The rule, for one task. Configurations are models x methods; failed seeds count
(:mod:`paretune.analysis.score_with_failures`); what is clear between two is decided once for all
outputs (:mod:`paretune.analysis.pairwise_comparisons`).

0. Nothing is recommended that does not exceed the trivial score
   (:func:`~paretune.analysis.learning_check.best_trivial_score`), no trivial baseline, and nothing
   of which at least half of the seeds are constant.
1. A configuration may be recommended if it is clearly above every baseline (none missing) and
   within the budget; a cost that was not measured is not within it.
2. Of these the best has the highest score; those that it is clearly above are out. With
   ``max_loss_points``, those are out instead whose estimated loss against the best is larger.
3. Of the rest, the cheapest on ``cost_axis`` is recommended; an unknown cost comes last.
4. If nothing within the budget is clearly above every baseline, the recommendation is a guess: of
   the methods that score higher than all of their baselines the highest (with
   ``max_loss_points``, by steps 2 and 3).
5. If no method scores higher than its baselines, the baseline with the highest score is
   recommended (with ``max_loss_points``, by steps 2 and 3).

The absence of a clear difference does not prove equality: the loss is reported with its interval.
"""

from __future__ import annotations

from collections.abc import Sequence

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.learning_check import (
    TrivialScore,
    best_trivial_score,
    find_collapsed_cells,
    is_mostly_collapsed,
)
from paretune.analysis.pairwise_comparisons import PairwiseComparisons
from paretune.analysis.pareto.costs import AXES, estimate_cost
from paretune.analysis.pareto.recommendation import (
    Alternative,
    Budget,
    Candidate,
    Recommendation,
    RecommendationKind,
)
from paretune.analysis.score_with_failures import (
    count_failed_seeds,
    keep_comparable,
    score_with_failures,
)
from paretune.analysis.statistics.bootstrap_score import BootstrapScore
from paretune.analysis.statistics.conservative_difference import conservative_difference
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.analysis.statistics.score_interval import confidence_interval
from paretune.methods import baselines

MODEL_FREE = ("majority", "copy_source", "tfidf", "gradient_boosting")
"""Baselines without a model, simplest first: the order between equal scores."""


def recommend(
    cells: Sequence[Cell],
    budget: Budget | None = None,
    comparisons: PairwiseComparisons | None = None,
) -> Recommendation:
    """Recommend a configuration by the rule above.

    Args:
        cells: of one task.
        budget: without limits by default.
        comparisons: of all pairs of the cells, if they were computed before.
    """
    budget, comparisons = budget or Budget(), comparisons or PairwiseComparisons(cells)
    candidates = list_candidates(cells, budget, comparisons)
    trivial_score = best_trivial_score(cells)
    useful = [c for c in candidates if _is_useful(c, trivial_score)]
    clear = [c for c in useful if c.clear]
    missing = [] if clear else _missing_baselines(candidates)
    kind, pool = _select_pool(useful, missing)
    best = max(pool, key=lambda c: c.interval.estimate) if pool else None
    chosen = best
    if best and (kind == "method" or budget.max_loss_points is not None):
        remaining = _not_ruled_out(best, pool, budget, comparisons)
        chosen = min(remaining, key=lambda c: _cheapness_key(c, budget))
    outside = max(
        (c for c in clear if not c.within_budget), key=lambda c: c.interval.estimate, default=None
    )
    higher = chosen and outside and outside.interval.estimate > chosen.interval.estimate
    hardest, baseline = (
        _hardest_baseline(chosen, candidates) if chosen and kind == "guess" else (None, "")
    )
    return Recommendation(
        task=cells[0].task if cells else "",
        budget=budget,
        kind=kind,
        chosen=chosen,
        best=best,
        best_alternative=_compare_with_chosen(best, chosen, comparisons)
        if best and chosen and best is not chosen
        else None,
        considered=len(pool),
        outside_budget=_compare_with_chosen(outside, chosen, comparisons)
        if higher and outside and chosen
        else None,
        hardest_comparison=hardest,
        hardest_baseline=baseline,
        missing=tuple(dict.fromkeys(missing)),
        unmeasured_candidates=tuple(c for c in clear if c.unmeasured and not c.exceeded),
        unfinished=tuple(c for c in cells if not c.finished),
        candidates=tuple(candidates),
        trivial_score=trivial_score,
        collapsed_cells=find_collapsed_cells(cells),
    )


def list_candidates(
    cells: Sequence[Cell], budget: Budget, comparisons: PairwiseComparisons
) -> list[Candidate]:
    """Every cell with a score on the same examples as most of them."""
    named = {f"{c.model}\n{c.method}": c for c in cells}
    scores = keep_comparable((name, score_with_failures(cell)) for name, cell in named.items())
    return [_make_candidate(named[n], score, budget, comparisons) for n, score in scores.items()]


def _make_candidate(
    cell: Cell, score: BootstrapScore, budget: Budget, comparisons: PairwiseComparisons
) -> Candidate:
    costs = {axis: cost for axis in AXES if (cost := estimate_cost(cell, axis)) is not None}
    limits = budget.limits if cell.model != NO_MODEL else {}
    return Candidate(
        cell=cell,
        quality=score,
        interval=confidence_interval(score),
        costs=costs,
        failed_seeds=count_failed_seeds(cell),
        verdict=comparisons.verdict(cell),
        exceeded=tuple(a for a, limit in limits.items() if a in costs and costs[a].value > limit),
        unmeasured=tuple(a for a in limits if a not in costs),
    )


def _missing_baselines(candidates: Sequence[Candidate]) -> list[str]:
    """Baselines without a score that may keep a method from being clear."""
    verdicts = [c.verdict for c in candidates if not c.cell.baseline and c.verdict]
    return [name for v in verdicts if v.standing in ("above", "none") for name in v.missing]


def _is_useful(candidate: Candidate, trivial_score: TrivialScore | None) -> bool:
    """Step 0."""
    if candidate.cell.name in baselines.TRIVIAL or is_mostly_collapsed(candidate.cell):
        return False
    return trivial_score is None or candidate.interval.estimate > trivial_score.value + 1e-9


def _select_pool(
    useful: Sequence[Candidate], missing: Sequence[str]
) -> tuple[RecommendationKind, list[Candidate]]:
    """The configurations from which to choose, by steps 1, 4 and 5."""
    inside = [c for c in useful if c.within_budget]
    if pool := [c for c in inside if c.clear]:
        return "method", pool
    if missing:
        return "none", []
    if pool := [c for c in inside if not c.cell.baseline and c.outscores_baselines]:
        return "guess", pool
    pool = [c for c in inside if c.cell.baseline]
    return ("baseline", pool) if pool else ("none", [])


def _not_ruled_out(
    best: Candidate, pool: Sequence[Candidate], budget: Budget, comparisons: PairwiseComparisons
) -> list[Candidate]:
    """Step 2: the best, and those that are not out."""
    others = [c for c in pool if c is not best]
    if budget.max_loss_points is not None:
        max_loss = budget.max_loss_points * (best.quality.highest / 100)
        losses = [best.interval.estimate - c.interval.estimate for c in others]
        near = [c for c, loss in zip(others, losses, strict=True) if loss <= max_loss + 1e-12]
        return [best, *near]
    below = comparisons.find_clearly_below(best.cell, [c.cell for c in others])
    return [best, *(c for c in others if c.cell not in below)]


def _cheapness_key(candidate: Candidate, budget: Budget) -> tuple[int, int, float, float]:
    """Sort key by cheapness: no model, then known costs, then unknown."""
    estimate = -candidate.interval.estimate
    if candidate.cell.model == NO_MODEL:
        return 0, 0, estimate, float(MODEL_FREE.index(candidate.cell.name))
    cost = candidate.costs.get(budget.cost_axis)
    return (2, 0, 0.0, estimate) if cost is None else (1, 0, cost.value, estimate)


def _compare_with_chosen(
    other: Candidate, chosen: Candidate, comparisons: PairwiseComparisons
) -> Alternative:
    pair = comparisons.compare(other.cell, chosen.cell)
    difference = pair.difference if pair else conservative_difference(other.quality, chosen.quality)
    deterministic = (other.cell.deterministic, chosen.cell.deterministic)
    level = ALPHA / pair.family if pair else ALPHA
    size = estimate_sample_size(other.quality, chosen.quality, deterministic, level)
    return Alternative(other, difference, pair.p_holm if pair else difference.p, size)


def _hardest_baseline(
    chosen: Candidate, candidates: Sequence[Candidate]
) -> tuple[Alternative | None, str]:
    """A guess compared with the baseline of the largest p-value, and that baseline's name."""
    comparisons = chosen.verdict.comparisons if chosen.verdict else ()
    hardest = max(comparisons, key=lambda c: (c.p_holm, c.baseline), default=None)
    if hardest is None:
        return None, ""
    baseline = next(
        c
        for c in candidates
        if c.cell.method == hardest.baseline and c.cell.model in (NO_MODEL, chosen.cell.model)
    )
    # Holm's correction leaves the hardest of k a level between 0.05 / k and 0.05.
    level = ALPHA / len(comparisons)
    deterministic = (chosen.cell.deterministic, baseline.cell.deterministic)
    size = estimate_sample_size(chosen.quality, baseline.quality, deterministic, level)
    return Alternative(chosen, hardest.difference, hardest.p_holm, size), hardest.baseline
