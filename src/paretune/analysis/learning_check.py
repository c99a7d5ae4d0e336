"""Whether training taught a cell anything, and what a score must exceed to be worth taking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from paretune import metrics
from paretune.analysis.cells import Cell
from paretune.analysis.constant_answers import find_best_constant

TRIVIAL_BASELINES = ("majority", "copy_source")
"""Baselines that answer without looking: to be beaten, and never to be taken."""

RateEdge = Literal["", "lowest", "highest"]


@dataclass(frozen=True)
class CollapsedCells:
    """Cells in which at least half of the seeds answer a constant.

    ``constant`` of ``seeds`` final runs do, after ``steps`` (fewest, most). ``edges``: whether the
    rates that were chosen are the lowest or highest of those tried; empty: none is.
    """

    cells: tuple[Cell, ...]
    constant: int
    seeds: int
    steps: tuple[int, int] | None
    edges: frozenset[RateEdge]


@dataclass(frozen=True)
class TrivialScore:
    """What a score must exceed: that of ``answer``, which needs no training."""

    value: float
    answer: Literal["majority", "label", "copy_source"]


def is_mostly_collapsed(cell: Cell) -> bool:
    """Whether at least half of the scored seeds answer a constant (the majority answer aside)."""
    scored = len(cell.final) - cell.unscored_runs
    return cell.name not in TRIVIAL_BASELINES and 2 * cell.outcomes.get("collapsed", 0) >= max(
        scored, 1
    )


def rate_edge_of(cell: Cell) -> RateEdge:
    """Whether the cell's rate is the lowest or the highest of several that were tried."""
    if not cell.edge:
        return ""
    return "lowest" if cell.rate == cell.choice.table[0].rate else "highest"


def find_collapsed_cells(cells: Iterable[Cell]) -> CollapsedCells | None:
    """What training left constant among the methods of a task; None where most seeds learned.

    It speaks of all methods together where at least half of all their seeds are constant,
    otherwise of those methods alone of which at least half are.
    """
    methods = [c for c in cells if not c.baseline and c.answers]
    hit = [c for c in methods if is_mostly_collapsed(c)]
    if not hit:
        return None
    constant, seeds = (sum(map(count, methods)) for count in (_count_collapsed, _count_scored))
    if 2 * constant >= seeds:
        hit = methods
    steps = sorted(int(r.result["steps"]) for c in hit for r in c.final if r.result.get("steps"))
    return CollapsedCells(
        cells=tuple(hit),
        constant=sum(map(_count_collapsed, hit)),
        seeds=sum(map(_count_scored, hit)),
        steps=(steps[0], steps[-1]) if steps else None,
        edges=frozenset(found for c in hit if (found := rate_edge_of(c))),
    )


def best_trivial_score(cells: Sequence[Cell]) -> TrivialScore | None:
    """What one answer for every example scores: the majority's or, if higher, the best label's.

    Of translations it is the untranslated source. None while nothing is known.
    """
    known = [c for c in cells if c.bootstrap is not None]
    trivial = {
        c.name: c.bootstrap.estimate for c in known if c.bootstrap and c.name in TRIVIAL_BASELINES
    }
    if "copy_source" in trivial:
        return TrivialScore(trivial["copy_source"], "copy_source")
    majority = trivial.get("majority")
    best = _best_label_score(known[0]) if known else None
    if majority is not None and (best is None or majority >= best - 1e-9):
        return TrivialScore(majority, "majority")
    return None if best is None else TrivialScore(best, "label")


def _best_label_score(cell: Cell) -> float | None:
    found = cell.bootstrap
    if found is None or metrics.get(cell.metric).credit is None:
        return None
    labels = [int(label) for label in found.label]
    best = find_best_constant(labels, cell.metric, found.question)
    return metrics.get(cell.metric).score(labels, [best] * len(labels), found.question)


def _count_collapsed(cell: Cell) -> int:
    return cell.outcomes.get("collapsed", 0)


def _count_scored(cell: Cell) -> int:
    return len(cell.final) - cell.unscored_runs
