"""Which configuration to use: the cheapest whose expected loss against the best is small.

The rule, for one task. Configurations are models x methods, baselines included.

1. Left out is what does not exceed the trivial score
   (:func:`~paretune.analysis.learning_check.best_trivial_score`), the trivial baselines, what fails
   in at least half of its runs, what was selected on the test part, and what is not known to be
   within the budget. With ``Budget.proven`` also every method that is not proven better than all
   its baselines.
2. Each has an expected loss (:mod:`paretune.analysis.pareto.expected_scores`): how far its next run
   is expected to lie below the best of all within the budget.
3. Recommended is the cheapest on ``cost_axis`` whose expected loss is at most
   ``Budget.within_points`` above the least. A baseline without a model costs nothing; an unknown
   cost comes last.

Whether it is proven better than its baselines (:mod:`paretune.analysis.comparisons`) is
said beside it and decides nothing: waiting for proof would leave users of small tasks with a
baseline that is 15 points worse (docs/your-study/report.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.comparisons import PairwiseComparisons, Verdict
from paretune.analysis.learning_check import (
    CollapsedCells,
    TrivialScore,
    best_trivial_score,
    find_collapsed_cells,
)
from paretune.analysis.pairs import Pair
from paretune.analysis.pareto.costs import AXES, Axis, CostEstimate, estimate_cost
from paretune.analysis.pareto.expected_scores import (
    CellKey,
    ExpectedScore,
    Prospect,
    estimate_prospects,
    expected_scores,
)
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.methods import baselines

WITHIN_POINTS = 1.0
"""Two configurations this close are as good as one another, unless the user says otherwise."""


@dataclass(frozen=True)
class Budget:
    """Limits on costs, on the loss of score, and on what is not proven.

    Attributes:
        limits: highest cost by axis (bytes, seconds, counts).
        within_points: expected loss that may be accepted for a lower cost, in hundredths of the
            metric's highest value.
        proven: only methods that are proven better than every baseline, and baselines.
    """

    limits: Mapping[Axis, float] = field(default_factory=dict)
    within_points: float = WITHIN_POINTS
    cost_axis: Axis = "memory"
    proven: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration with its score, its costs, and how it fits the budget.

    Attributes:
        interval: of the score of the runs that trained.
        verdict: compared with its baselines; None for baselines without a model.
    """

    cell: Cell
    expected: ExpectedScore
    interval: Interval
    costs: Mapping[Axis, CostEstimate]
    failed_seeds: int
    verdict: Verdict | None
    exceeded: tuple[Axis, ...]
    unmeasured: tuple[Axis, ...]

    @property
    def within_budget(self) -> bool:
        """Whether all limited costs were measured and are within their limits."""
        return not self.exceeded and not self.unmeasured

    @property
    def proven(self) -> bool:
        """Whether it is a method that is proven better than every baseline."""
        return not self.cell.baseline and self.verdict is not None and self.verdict.above_all


@dataclass(frozen=True)
class Alternative:
    """A configuration compared with the recommended one.

    Attributes:
        pair: it and the recommended one; None if they are on different models.
        sample_size: that would decide between them; None without a pair.
    """

    candidate: Candidate
    pair: Pair | None
    sample_size: SampleSize | None


RecommendationKind = Literal["method", "guess", "baseline", "none"]


@dataclass(frozen=True)
class Recommendation:
    """What to use for one task.

    Attributes:
        kind: ``method`` (proven better than every baseline), ``guess`` (a method that is not),
            ``baseline`` or ``none``.
        best: the highest expected score of those that may be recommended.
        best_alternative: ``best`` compared with ``chosen``; None if they are the same.
        runner_up: where the highest is chosen, the next method, unless it is proven worse.
        outside_budget: the highest outside the budget, if it is expected to score higher.
        hardest_comparison: of a guess, the baseline of the largest p-value.
        free_baseline: the highest baseline without a model.
        missing: baselines without a score.
        unmeasured_candidates: configurations of which a limited cost was not measured.
        unfinished: cells with final runs still to come.
        failed_cells: methods that failed in at least half of their runs.
    """

    task: str
    budget: Budget
    kind: RecommendationKind
    chosen: Candidate | None
    prospects: Mapping[CellKey, Prospect]
    best: Candidate | None
    best_alternative: Alternative | None
    runner_up: Alternative | None
    outside_budget: Alternative | None
    hardest_comparison: Alternative | None
    free_baseline: Candidate | None
    missing: tuple[str, ...]
    unmeasured_candidates: tuple[Candidate, ...]
    unfinished: tuple[Cell, ...]
    candidates: tuple[Candidate, ...]
    failed_cells: tuple[Cell, ...]
    trivial_score: TrivialScore | None
    collapsed_cells: CollapsedCells | None

    @property
    def prospect(self) -> Prospect | None:
        """Of the recommended configuration."""
        if self.chosen is None:
            return None
        return self.prospects[self.chosen.cell.model, self.chosen.cell.method]


def recommend(
    cells: Sequence[Cell],
    budget: Budget | None = None,
    comparisons: PairwiseComparisons | None = None,
) -> Recommendation:
    """Recommend a configuration by the rule above.

    Args:
        budget: without limits by default.
        comparisons: of all pairs of the cells, if they were computed before.
    """
    budget, comparisons = budget or Budget(), comparisons or PairwiseComparisons(cells)
    choice = choose(cells, budget, comparisons)
    candidates, chosen, free = choice.candidates, choice.chosen, choice.free_baseline
    useful = [c for c in candidates if _is_useful(c, choice.trivial_score)]
    pool = [c for c in useful if c.within_budget]
    best = max(pool, key=lambda c: c.expected.estimate, default=None)
    return Recommendation(
        task=cells[0].task if cells else "",
        budget=budget,
        kind=_kind_of(chosen),
        chosen=chosen,
        prospects=choice.prospects,
        best=best,
        best_alternative=_compare(best, chosen, comparisons)
        if best and chosen and best is not chosen
        else None,
        runner_up=_find_runner_up(pool, best, chosen, comparisons),
        outside_budget=_find_higher(useful, chosen, comparisons),
        hardest_comparison=_compare_with_hardest(chosen, candidates, comparisons),
        free_baseline=free,
        missing=_missing_baselines(cells),
        unmeasured_candidates=tuple(c for c in useful if c.unmeasured and not c.exceeded),
        unfinished=tuple(c for c in cells if not c.finished),
        candidates=candidates,
        failed_cells=tuple(c for c in cells if not c.baseline and _fails_mostly(c)),
        trivial_score=choice.trivial_score,
        collapsed_cells=find_collapsed_cells(cells),
    )


@dataclass(frozen=True)
class Choice:
    """What a recommendation chooses, and from what.

    Attributes:
        free_baseline: the highest baseline without a model.
    """

    budget: Budget
    candidates: tuple[Candidate, ...]
    trivial_score: TrivialScore | None
    prospects: Mapping[CellKey, Prospect]
    free_baseline: Candidate | None
    chosen: Candidate | None


def choose(
    cells: Sequence[Cell], budget: Budget, comparisons: PairwiseComparisons | None = None
) -> Choice:
    """The configuration that the rule above chooses for one task.

    Args:
        comparisons: of all pairs; needed for ``budget.proven`` and for the candidates' verdicts.
    """
    trivial_score = best_trivial_score(cells)
    candidates = _list_candidates(cells, budget, comparisons)
    free = max(
        (c for c in candidates if c.cell.model == NO_MODEL),
        key=lambda c: (c.expected.estimate, -baselines.COMPLEXITY[c.cell.name]),
        default=None,
    )
    prospects = estimate_prospects(
        {_key(c): c.expected for c in candidates if c.within_budget},
        free.expected if free else None,
        budget.within_points,
    )
    pool = [c for c in candidates if c.within_budget and _is_useful(c, trivial_score)]
    chosen = _choose(
        [c for c in pool if c.proven or c.cell.baseline or not budget.proven], prospects, budget
    )
    return Choice(budget, tuple(candidates), trivial_score, prospects, free, chosen)


def _list_candidates(
    cells: Sequence[Cell], budget: Budget, comparisons: PairwiseComparisons | None
) -> list[Candidate]:
    """Every cell with a score on the same examples as most of them."""
    by_key = {(cell.model, cell.method): cell for cell in cells}
    return [
        _make_candidate(by_key[key], expected, budget, comparisons)
        for key, expected in expected_scores(cells).items()
    ]


def _make_candidate(
    cell: Cell, expected: ExpectedScore, budget: Budget, comparisons: PairwiseComparisons | None
) -> Candidate:
    costs = {axis: cost for axis in AXES if (cost := estimate_cost(cell, axis)) is not None}
    limits = budget.limits if cell.model != NO_MODEL else {}
    return Candidate(
        cell=cell,
        expected=expected,
        interval=confidence_interval(expected.score),
        costs=costs,
        failed_seeds=cell.failures.failed if cell.failures else 0,
        verdict=comparisons.verdict(cell) if comparisons else None,
        exceeded=tuple(a for a, limit in limits.items() if a in costs and costs[a].value > limit),
        unmeasured=tuple(a for a in limits if a not in costs),
    )


def _is_useful(candidate: Candidate, trivial_score: TrivialScore | None) -> bool:
    """Step 1, the budget aside."""
    cell = candidate.cell
    if cell.name in baselines.TRIVIAL or _fails_mostly(cell) or cell.selected_on_test:
        return False
    return trivial_score is None or candidate.interval.estimate > trivial_score.value + 1e-9


def _fails_mostly(cell: Cell) -> bool:
    rate = cell.failures
    return rate is not None and rate.failed > 0 and 2 * rate.failed >= rate.runs


def _choose(
    pool: Sequence[Candidate], prospects: Mapping[CellKey, Prospect], budget: Budget
) -> Candidate | None:
    """Step 3."""
    losses = {_key(c): prospects[_key(c)].loss_points for c in pool}
    cheapness = {_key(c): cheapness_key(c, budget.cost_axis, c.expected.estimate) for c in pool}
    chosen = cheapest_near_best(losses, cheapness, budget.within_points)
    return next((c for c in pool if _key(c) == chosen), None)


def cheapest_near_best(
    losses: Mapping[CellKey, float],
    cheapness: Mapping[CellKey, Cheapness],
    within_points: float,
) -> CellKey | None:
    """The cheapest of those whose loss is at most ``within_points`` above the least."""
    most = min(losses.values(), default=0.0) + within_points + 1e-9
    near = [key for key, loss in losses.items() if loss <= most]
    return min(near, key=lambda key: cheapness[key], default=None)


def _key(candidate: Candidate) -> CellKey:
    return candidate.cell.model, candidate.cell.method


Cheapness = tuple[int, float, float]


def cheapness_key(candidate: Candidate, axis: Axis, expected: float) -> Cheapness:
    """Sort key by cheapness: no model, then known costs, then unknown; ``expected``: its score."""
    if candidate.cell.model == NO_MODEL:
        return 0, -expected, baselines.COMPLEXITY[candidate.cell.name]
    cost = candidate.costs.get(axis)
    return (2, -expected, 0.0) if cost is None else (1, cost.value, -expected)


def _kind_of(chosen: Candidate | None) -> RecommendationKind:
    if chosen is None:
        return "none"
    if chosen.cell.baseline:
        return "baseline"
    return "method" if chosen.proven else "guess"


def _find_higher(
    useful: Sequence[Candidate], chosen: Candidate | None, comparisons: PairwiseComparisons
) -> Alternative | None:
    """The highest outside the budget, if it is expected to score higher than the chosen one."""
    highest = max(
        (c for c in useful if not c.within_budget),
        key=lambda c: c.expected.estimate,
        default=None,
    )
    if highest is None or chosen is None or highest.expected.estimate <= chosen.expected.estimate:
        return None
    return _compare(highest, chosen, comparisons)


def _find_runner_up(
    pool: Sequence[Candidate],
    best: Candidate | None,
    chosen: Candidate | None,
    comparisons: PairwiseComparisons,
) -> Alternative | None:
    """The next highest method, where the highest is chosen and not proven better than it."""
    if chosen is None or chosen is not best or chosen.cell.baseline:
        return None
    methods = [c for c in pool if not c.cell.baseline and c is not chosen]
    highest = max(methods, key=lambda c: c.expected.estimate, default=None)
    if highest is None:
        return None
    pair = comparisons.compare(highest.cell, chosen.cell)
    if pair is None or pair.standing != "unclear":
        return None
    return _compare(highest, chosen, comparisons)


def _compare(other: Candidate, chosen: Candidate, comparisons: PairwiseComparisons) -> Alternative:
    cells = other.cell, chosen.cell
    return Alternative(other, comparisons.compare(*cells), comparisons.estimate_sample_size(*cells))


def _compare_with_hardest(
    chosen: Candidate | None, candidates: Sequence[Candidate], comparisons: PairwiseComparisons
) -> Alternative | None:
    """The baseline of the largest p-value that a method is not proven better than."""
    if chosen is None or chosen.cell.baseline or chosen.proven:
        return None
    of_model = [c for c in candidates if c.cell.baseline]
    of_model = [c for c in of_model if c.cell.model in (NO_MODEL, chosen.cell.model)]
    compared = [_compare(c, chosen, comparisons) for c in of_model]
    return max(
        (one for one in compared if one.pair and one.pair.standing != "below"),
        key=lambda one: one.pair.p_holm if one.pair else 0.0,
        default=None,
    )


def _missing_baselines(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Baselines without a score."""
    return tuple(dict.fromkeys(c.method for c in cells if c.baseline and c.bootstrap is None))
