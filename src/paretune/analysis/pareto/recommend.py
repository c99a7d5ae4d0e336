"""Recommends a configuration: the cheapest within a point of the best expected score.

The rule, for one task. Configurations are models x methods, baselines included.

1. Some configurations are left out: those that do not exceed the trivial score
   (:func:`~paretune.analysis.learning_check.best_trivial_score`), the trivial baselines, those that
   fail in at least half of their runs or were selected on the test part, and those that are not
   known to be within the budget. With ``Budget.proven`` methods that are not proven better than all
   their baselines are left out too.
2. Each has an expected score: that of its next run, discounted by failures
   (:mod:`paretune.analysis.pareto.expected_scores`).
3. The cheapest on ``cost_axis`` is recommended whose expected score is at most
   ``Budget.within_points`` below the highest. A baseline without a model costs nothing; an untuned
   model is next, except for its inference; an unknown cost comes last.

A proof (:mod:`paretune.analysis.comparisons`) is reported too and decides nothing: waiting for one
would leave small tasks with a baseline that is 15 points worse (docs/your-study/report.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from paretune.analysis.cell import NO_MODEL, Cell, CellKey
from paretune.analysis.comparisons import PairwiseComparisons, Rival, Verdict
from paretune.analysis.learning_check import (
    CollapsedCells,
    TrivialScore,
    best_trivial_score,
    find_collapsed_cells,
)
from paretune.analysis.pairs import Pair
from paretune.analysis.pareto.costs import AXES, CostEstimate, estimate_cost
from paretune.analysis.pareto.expected_scores import (
    ExpectedScore,
    Prospect,
    estimate_prospects,
    expected_scores,
)
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.methods import baselines
from paretune.study import Axis

WITHIN_POINTS = 1.0
"""Points within which two configurations are equally good, unless the user says otherwise."""


@dataclass(frozen=True)
class Budget:
    """Limits on costs and on the loss of score, and whether a proof is needed.

    Attributes:
        limits: highest cost by axis (bytes, seconds, counts).
        within_points: how far below the highest expected score is accepted for a lower cost, in
            hundredths of the metric's highest value.
        proven: whether a method must be proven better than every baseline to be chosen.
    """

    limits: Mapping[Axis, float] = field(default_factory=dict)
    within_points: float = WITHIN_POINTS
    cost_axis: Axis = "memory"
    proven: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration with its score, its costs and its place in the budget.

    Attributes:
        interval: interval of the score of the runs that trained.
        verdict: comparison with its baselines; None for baselines without a model.
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
        pair: pair with the recommended configuration; None if they are on different models.
        sample_size: rows that would decide between them; None without a pair.
    """

    candidate: Candidate
    pair: Pair | None
    sample_size: SampleSize | None


@dataclass(frozen=True)
class Choice:
    """The choice of a recommendation, and what it was chosen from.

    Attributes:
        free_baseline: the highest baseline without a model.
        best: configuration with the highest expected score of those that may be recommended.
    """

    budget: Budget
    candidates: tuple[Candidate, ...]
    trivial_score: TrivialScore | None
    prospects: Mapping[CellKey, Prospect]
    free_baseline: Candidate | None
    best: Candidate | None
    chosen: Candidate | None


@dataclass(frozen=True)
class Recommendation(Choice):
    """The recommendation for one task.

    Attributes:
        missing: baselines without a score.
        unmeasured_candidates: configurations without a measurement of a limited cost.
        unfinished: cells with final runs still to come.
        failed_cells: methods that failed in at least half of their runs.
        best_alternative: ``best`` compared with ``chosen``; None if they are equal.
        runner_up: next method where the highest is chosen, unless it is proven worse.
        outside_budget: highest outside the budget, if it is expected to score higher.
        hardest_comparison: rival of the largest p-value, for a guess.
        rival: kind of cells that a method is compared with.
    """

    task: str
    missing: tuple[str, ...]
    unmeasured_candidates: tuple[Candidate, ...]
    unfinished: tuple[Cell, ...]
    failed_cells: tuple[Cell, ...]
    collapsed_cells: CollapsedCells | None
    best_alternative: Alternative | None = None
    runner_up: Alternative | None = None
    outside_budget: Alternative | None = None
    hardest_comparison: Alternative | None = None
    rival: Rival = "baseline"

    @property
    def kind(self) -> Literal["method", "guess", "baseline", "none"]:
        """Whether it is a method proven better than every baseline, a guess, or a baseline."""
        if self.chosen is None:
            return "none"
        if self.chosen.cell.baseline:
            return "baseline"
        return "method" if self.chosen.proven else "guess"

    @property
    def prospect(self) -> Prospect | None:
        """The prospect of the recommended configuration."""
        return None if self.chosen is None else self.prospects[self.chosen.cell.key]


def recommend(
    cells: Sequence[Cell],
    budget: Budget | None = None,
    comparisons: PairwiseComparisons | None = None,
) -> Recommendation:
    """Recommend a configuration by the rule above.

    Args:
        budget: without limits by default.
        comparisons: comparisons of all pairs of the cells, if they were computed before.
    """
    budget, comparisons = budget or Budget(), comparisons or PairwiseComparisons(cells)
    choice = choose(cells, budget, comparisons)
    useful = [c for c in choice.candidates if may_be_chosen(c, choice.trivial_score)]
    missing = (c.method for c in cells if c.baseline and c.run_scores is None)
    alternatives: dict[str, Any] = {
        name: Alternative(candidate, comparisons.compare(*pair), sample_size)
        for name, candidate, chosen in _find_alternatives(choice, useful, comparisons)
        for pair in [(candidate.cell, chosen.cell)]
        for sample_size in [comparisons.estimate_sample_size(*pair)]
    }
    return Recommendation(
        **vars(choice),
        **alternatives,
        task=cells[0].task if cells else "",
        missing=tuple(dict.fromkeys(missing)),
        unmeasured_candidates=tuple(c for c in useful if c.unmeasured and not c.exceeded),
        unfinished=tuple(c for c in cells if not c.finished),
        failed_cells=tuple(c for c in cells if not c.baseline and _fails_mostly(c)),
        collapsed_cells=find_collapsed_cells(cells),
        rival=comparisons.rival,
    )


def _find_alternatives(
    choice: Choice, useful: Sequence[Candidate], comparisons: PairwiseComparisons
) -> Iterator[tuple[str, Candidate, Candidate]]:
    """Yield each alternative to the chosen configuration: the field for it, it, the chosen one."""
    chosen = choice.chosen
    if chosen is None:
        return
    pool = [c for c in useful if c.within_budget]
    best, outside = choice.best, _find_highest(c for c in useful if not c.within_budget)
    if best is not None and best is not chosen:
        yield "best_alternative", best, chosen
    if outside is not None and outside.expected.estimate > chosen.expected.estimate:
        yield "outside_budget", outside, chosen
    if chosen.cell.baseline:
        return
    pairs = {
        c.cell.key: pair
        for c in choice.candidates
        if (pair := comparisons.compare(c.cell, chosen.cell)) is not None
    }
    runner_up = _find_highest(c for c in pool if not c.cell.baseline and c is not chosen)
    if chosen is best and runner_up is not None:
        pair = pairs.get(runner_up.cell.key)
        if pair is not None and pair.standing == "unclear":
            yield "runner_up", runner_up, chosen
    rivals = {cell.key for cell in comparisons.find_rivals(chosen.cell)}
    doubtful = [
        c
        for c in choice.candidates
        if c.cell.key in rivals and c.cell.key in pairs and pairs[c.cell.key].standing != "below"
    ]
    if doubtful and not chosen.proven:
        hardest = max(doubtful, key=lambda c: pairs[c.cell.key].p_holm)
        yield "hardest_comparison", hardest, chosen


def _find_highest(candidates: Iterable[Candidate]) -> Candidate | None:
    return max(candidates, key=lambda c: c.expected.estimate, default=None)


def choose(
    cells: Sequence[Cell], budget: Budget, comparisons: PairwiseComparisons | None = None
) -> Choice:
    """Choose a configuration for one task by the rule above.

    Args:
        comparisons: comparisons of all pairs, for ``budget.proven`` and the candidates' verdicts.
    """
    trivial_score = best_trivial_score(cells)
    # Every cell counts with a score on the same examples as most of them.
    by_key = {cell.key: cell for cell in cells}
    candidates = []
    for key, expected in expected_scores(cells).items():
        cell = by_key[key]
        costs = {axis: cost for axis in AXES if (cost := estimate_cost(cell, axis)) is not None}
        limits = budget.limits if cell.model != NO_MODEL else {}
        candidate = Candidate(
            cell=cell,
            expected=expected,
            interval=confidence_interval(expected.score),
            costs=costs,
            failed_seeds=cell.failures.failed if cell.failures else 0,
            verdict=comparisons.verdict(cell) if comparisons else None,
            exceeded=tuple(a for a, most in limits.items() if a in costs and costs[a].value > most),
            unmeasured=tuple(a for a in limits if a not in costs),
        )
        candidates.append(candidate)
    free = max(
        (c for c in candidates if c.cell.model == NO_MODEL),
        key=lambda c: (c.expected.estimate, -baselines.COMPLEXITY[c.cell.name]),
        default=None,
    )
    prospects = estimate_prospects(
        {c.cell.key: c.expected for c in candidates if c.within_budget},
        free.expected if free else None,
        budget.within_points,
    )
    useful = [c for c in candidates if c.within_budget and may_be_chosen(c, trivial_score)]
    pool = [c for c in useful if c.proven or c.cell.baseline or not budget.proven]
    return Choice(
        budget=budget,
        candidates=tuple(candidates),
        trivial_score=trivial_score,
        prospects=prospects,
        free_baseline=free,
        best=_find_highest(useful),
        chosen=cheapest_near_best([(c, c.expected.estimate) for c in pool], budget),
    )


def may_be_chosen(candidate: Candidate, trivial_score: TrivialScore | None) -> bool:
    """Return whether the rule may choose a candidate, without regard to the budget: step 1."""
    cell, score = candidate.cell, candidate.interval.estimate
    if cell.name in baselines.TRIVIAL or cell.selected_on_test or _fails_mostly(cell):
        return False
    return trivial_score is None or score > trivial_score.value + 1e-9


def _fails_mostly(cell: Cell) -> bool:
    rate = cell.failures
    return rate is not None and rate.failed > 0 and 2 * rate.failed >= rate.runs


def cheapest_near_best(pool: Sequence[tuple[Candidate, float]], budget: Budget) -> Candidate | None:
    """Return the cheapest candidate whose expected score is near enough to the highest.

    Args:
        pool: candidates that may be chosen, each with its expected score.
    """

    def cheapness(scored: tuple[Candidate, float]) -> tuple[int, float, float]:
        # Sort by no model, then untuned models and methods by their cost, then unknown costs.
        candidate, expected = scored
        cell, cost = candidate.cell, candidate.costs.get(budget.cost_axis)
        if cell.model == NO_MODEL:
            return 0, -expected, baselines.COMPLEXITY[cell.name]
        if cost is None:
            return 3, -expected, 0.0
        as_it_comes = cell.trains_nothing and budget.cost_axis != "inference"
        return 1 if as_it_comes else 2, cost.value, -expected

    points = [100 * expected / candidate.interval.highest for candidate, expected in pool]
    least = max(points, default=0.0) - budget.within_points - 1e-9
    near = [scored for scored, value in zip(pool, points, strict=True) if value >= least]
    return min(near, key=cheapness)[0] if near else None
