"""The recommendation for a task, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from paretune.analysis.baseline_comparison import Verdict
from paretune.analysis.cell import Cell
from paretune.analysis.learning_check import CollapsedCells, TrivialScore
from paretune.analysis.pairwise_ranks import Pair
from paretune.analysis.pareto.costs import Axis, CostEstimate
from paretune.analysis.pareto.expected_loss import Prospect
from paretune.analysis.pareto.expected_score import CellKey, ExpectedScore
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.analysis.statistics.score_interval import Interval

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
