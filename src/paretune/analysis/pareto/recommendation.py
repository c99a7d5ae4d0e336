"""The recommendation for a task, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from paretune.analysis.baseline_comparison import Verdict
from paretune.analysis.cells import Cell
from paretune.analysis.learning_check import CollapsedCells, TrivialScore
from paretune.analysis.pareto.costs import Axis, CostEstimate
from paretune.analysis.statistics.bootstrap_score import BootstrapScore
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.analysis.statistics.score_interval import Interval


@dataclass(frozen=True)
class Budget:
    """Limits on costs and on the loss of score.

    Attributes:
        limits: highest cost by axis (bytes, seconds, counts).
        max_loss_points: how much of the score may be given up, in hundredths of the metric's
            highest value.
        cost_axis: the cost to minimise.
    """

    limits: Mapping[Axis, float] = field(default_factory=dict)
    max_loss_points: float | None = None
    cost_axis: Axis = "memory"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration with its score, its costs, and how it fits the budget.

    Attributes:
        cell: of the configuration.
        quality: its score with failures.
        interval: of the score.
        costs: known costs by axis.
        failed_seeds: number of seeds that count with the lowest score.
        verdict: compared with its baselines; None for baselines without a model.
        exceeded: limits that its cost exceeds.
        unmeasured: limits whose cost was not measured.
    """

    cell: Cell
    quality: BootstrapScore
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
    def clear(self) -> bool:
        """Whether it is a method that is clearly above every baseline."""
        return not self.cell.baseline and self.verdict is not None and self.verdict.above_all

    @property
    def outscores_baselines(self) -> bool:
        """Whether it scores higher than each of its baselines, clearly or not."""
        comparisons = self.verdict.comparisons if self.verdict else ()
        return bool(comparisons) and all(c.difference.estimate > 0 for c in comparisons)


@dataclass(frozen=True)
class Alternative:
    """A configuration compared with the recommended one.

    Attributes:
        candidate: the configuration.
        difference: its score minus that of the recommended one.
        p: p-value, corrected (Holm) if the two form a pair.
        sample_size: that would decide between them.
    """

    candidate: Candidate
    difference: Interval
    p: float
    sample_size: SampleSize

    @property
    def clear(self) -> bool:
        """Whether the difference is significant."""
        return self.p < ALPHA


RecommendationKind = Literal["method", "guess", "baseline", "none"]


@dataclass(frozen=True)
class Recommendation:
    """What to use for one task.

    Attributes:
        task: key of the task.
        budget: that was given.
        kind: ``method``, ``guess`` (a method that scores higher than its baselines, not clearly),
            ``baseline`` or ``none``.
        chosen: the recommended configuration, if any.
        best: the highest score within the budget.
        best_alternative: ``best`` compared with ``chosen``; None if they are the same.
        considered: number of configurations from which it was chosen.
        outside_budget: the highest clear one outside the budget, if it scores higher.
        hardest_comparison: of a guess, compared with the baseline of the largest p-value.
        hardest_baseline: the name of that baseline.
        missing: baselines without a score that keep a method from being clear; then nothing is
            chosen.
        unmeasured_candidates: clear methods of which a limited cost was not measured.
        unfinished: cells with final runs still to come.
        candidates: all configurations with a score.
        trivial_score: that must be exceeded.
        collapsed_cells: methods that training left constant.
    """

    task: str
    budget: Budget
    kind: RecommendationKind
    chosen: Candidate | None
    best: Candidate | None
    best_alternative: Alternative | None
    considered: int
    outside_budget: Alternative | None
    hardest_comparison: Alternative | None
    hardest_baseline: str
    missing: tuple[str, ...]
    unmeasured_candidates: tuple[Candidate, ...]
    unfinished: tuple[Cell, ...]
    candidates: tuple[Candidate, ...]
    trivial_score: TrivialScore | None
    collapsed_cells: CollapsedCells | None
