"""Whether training taught a cell anything, and what a score must exceed to be useful."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from paretune import metrics
from paretune.analysis.cell import Cell, has_test_answers
from paretune.analysis.learning_rates import RateEdge
from paretune.methods import baselines

TRIVIAL_TEXTS: tuple[Literal["copy_source", "frequent_text"], ...] = (
    "copy_source",
    "frequent_text",
)
"""Baselines that answer with a text without having learnt anything."""


@dataclass(frozen=True)
class CollapsedCells:
    """Cells in which at least half of the seeds give a constant answer.

    Attributes:
        cells: cells of one task.
        constant: number of final runs with a constant answer.
        seeds: number of final runs with answers.
        steps: fewest and most steps of these runs.
        edges: whether selected learning rates are the lowest or highest of those tried.
    """

    cells: tuple[Cell, ...]
    constant: int
    seeds: int
    steps: tuple[int, int] | None
    edges: frozenset[RateEdge]


@dataclass(frozen=True)
class TrivialScore:
    """The score that must be exceeded, and the answer that reaches it without training."""

    value: float
    answer: Literal["majority", "label", "copy_source", "frequent_text"]
    highest: float = 1.0


def is_mostly_collapsed(cell: Cell) -> bool:
    """Return whether half or more of the seeds answer constantly; not for trivial baselines."""
    half_collapsed = 2 * cell.outcomes["collapsed"] >= max(_count_scored(cell), 1)
    return half_collapsed and cell.name not in baselines.TRIVIAL


def find_collapsed_cells(cells: Iterable[Cell]) -> CollapsedCells | None:
    """Find the collapsed methods of a task; None if there are none.

    If at least half of all their seeds are constant, these are all methods, otherwise the methods
    with at least half of their seeds constant.
    """
    methods = [c for c in cells if not c.baseline and _count_scored(c)]
    collapsed = [c for c in methods if is_mostly_collapsed(c)]
    if not collapsed:
        return None
    if 2 * sum(c.outcomes["collapsed"] for c in methods) >= sum(map(_count_scored, methods)):
        collapsed = methods
    steps = sorted(steps for c in collapsed for r in c.final if (steps := r.steps))
    return CollapsedCells(
        cells=tuple(collapsed),
        constant=sum(c.outcomes["collapsed"] for c in collapsed),
        seeds=sum(map(_count_scored, collapsed)),
        steps=(steps[0], steps[-1]) if steps else None,
        edges=frozenset(c.edge for c in collapsed if c.edge),
    )


def best_trivial_score(cells: Sequence[Cell]) -> TrivialScore | None:
    """Return the score of one answer to all examples: the majority's, or a higher label's.

    For translations it is the untranslated source, for completions the copied prompt or the most
    frequent completion. The result is None while no cell has a score.
    """
    scores = {c.name: c.run_scores for c in cells if c.run_scores is not None}
    texts = [
        TrivialScore(scores[name].estimate, name, scores[name].highest)
        for name in TRIVIAL_TEXTS
        if name in scores
    ]
    if texts:
        return max(texts, key=lambda trivial: trivial.value)
    majority = scores["majority"].estimate if "majority" in scores else None
    best = None
    first = next(((c, s) for c in cells if (s := c.run_scores) is not None), None)
    if first is not None and first[0].objective.predicts_labels:
        cell, score = first
        metric = metrics.get(cell.metric)
        labels = [int(label) for label in score.label]
        answers = ([label] * len(labels) for label in set(labels))
        best = max(metric.compute(labels, answer, score.question) for answer in answers)
    if majority is not None and (best is None or majority >= best - 1e-9):
        return TrivialScore(majority, "majority")
    return None if best is None else TrivialScore(best, "label")


def _count_scored(cell: Cell) -> int:
    return sum(map(has_test_answers, cell.final))
