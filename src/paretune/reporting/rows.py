"""Rows of a report: one for each cell of the study, with every number that any output shows."""

from __future__ import annotations

from dataclasses import dataclass

from paretune.analysis.cell import Cell
from paretune.analysis.comparisons import Verdict
from paretune.analysis.learning_check import rate_edge_of
from paretune.analysis.learning_rates import ExpectedBest
from paretune.analysis.memory_breakdown import MemoryBreakdown
from paretune.analysis.pairs import Pair, RankRange, Shortfall
from paretune.analysis.statistics.intervals import Interval
from paretune.methods.core.titles import title_of
from paretune.reporting.tables.cost_columns import Cost
from paretune.reporting.text.formatting import format_interval, format_rate, format_units
from paretune.study import Readout
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

WORDS = 40
"""A column of a grid with longer texts holds sentences."""


@dataclass(frozen=True)
class RateTrial:
    """One learning rate on trial.

    ``score`` is None where every trial failed, or where its answers are not stored.
    """

    rate: float
    score: Interval | None
    folds: int
    failed: int

    @property
    def text(self) -> str:
        """``1e-3: 0.71 [0.60, 0.82] (40 × 1, 1 fold)``."""
        folds = pluralise(self.folds, "fold")
        failed = f", {self.failed} lost" if self.failed else ""
        if self.score is None:
            score = "lost" if self.failed == self.folds else "no answers stored"
            return f"{format_rate(self.rate)}: {score} ({folds}{failed})"
        return (
            f"{format_rate(self.rate)}: {format_interval(self.score)} "
            f"({format_units(self.score)} × 1, {folds}{failed})"
        )


@dataclass(frozen=True)
class RunScores:
    """Primary scores of one final run alone; None where it has no predictions on that part."""

    test: Interval | None
    selection: Interval | None


@dataclass(frozen=True)
class Row:
    """One cell of the study.

    ``title`` names it in sentences: ``LoRA on e5-small``, or ``LoRA`` where there is one model.
    ``verdict`` is None where there is no score, and for baselines without a model. ``collapsed``:
    at least half of the scored seeds predict a constant. ``below_untuned``: proven worse than the
    untuned model. ``not_above_untrained``: the baselines that train nothing (``untuned``,
    ``few_shot``) than which it is not proven better, but for an untuned
    model than which it is worse. ``rank``: the ranks that it may have among the methods of its
    model; None for baselines. ``shortfall``: how far it may be below the best.
    ``runs`` are the scores of ``cell.final``, in that order.
    ``other_readout``: how the cell answers, where that is not how its model usually does.
    """

    cell: Cell
    title: str
    interval: Interval | None
    cost: Cost
    memory: MemoryBreakdown | None
    verdict: Verdict | None
    flags: tuple[str, ...]
    trials: tuple[RateTrial, ...] = ()
    expected_best: tuple[ExpectedBest, ...] = ()
    runs: tuple[RunScores, ...] = ()
    collapsed: bool = False
    below_untuned: bool = False
    not_above_untrained: tuple[str, ...] = ()
    rank: RankRange | None = None
    shortfall: Shortfall | None = None
    other_readout: Readout | None = None

    @property
    def method(self) -> str:
        """Printable name of the method: ``LoRA``, or ``LoRA (by head)`` by another readout."""
        name = sanitise_line(title_of(self.cell.method))
        return f"{name} (by {self.other_readout.replace('_', ' ')})" if self.other_readout else name

    @property
    def model(self) -> str:
        """Printable name of the model."""
        return sanitise_line(self.cell.model)

    @property
    def rate(self) -> str:
        """The learning rate with its marks: ``1e-3 (runner-up close, highest tried)``."""
        marks = ["runner-up close"] if self.cell.undecided else []
        marks += [f"{end} tried"] if (end := rate_edge_of(self.cell)) else []
        text = format_rate(self.cell.rate)
        return f"{text} ({', '.join(marks)})" if marks else text


@dataclass(frozen=True)
class ModelPairs:
    """Every pair of methods and baselines on one model."""

    model: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Grid:
    """A further table of one task: its texts by row, and notes below.

    ``intervals`` (rows, titles) are the scores behind the texts, where they are scores.
    """

    title: str
    above: str
    titles: tuple[str, ...]
    rows: tuple[tuple[Row, tuple[str, ...]], ...]
    notes: tuple[str, ...]
    intervals: tuple[tuple[Interval | None, ...], ...] = ()

    @property
    def word_columns(self) -> frozenset[int]:
        """Columns that hold sentences rather than numbers, so that they wrap: indices of titles."""
        longest = [max(map(len, texts)) for texts in zip(*(t for _, t in self.rows), strict=True)]
        return frozenset(i for i, length in enumerate(longest) if length > WORDS)
