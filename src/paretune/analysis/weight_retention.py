"""Which trained weights to keep within a budget of bytes. Pure; no torch.

The order, most wanted first:

1. of every recommended cell, its best final run by the selection part: what ``export`` takes;
2. of every other cell, its best run, small ones first, so that as many as possible can be exported;
3. the other final runs, small ones first, and of equal size the better ones;
4. all else that has weights: runs of settings that the study no longer has, and rates on trial of
   stores that kept those too.

What does not fit any more is passed over, and what is smaller and comes later may still fit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from paretune.analysis.cells import Cell
from paretune.store.record import UNSCORED_RESULTS, Record

CellKey = tuple[str, str, str]
"""Task, model and method."""


def weight_bytes(record: Record) -> int:
    """Bytes of the tensors that a run trained; 0 where it stored none."""
    return int(record.result.get("trained_bytes", 0)) if record.result.get("weights") else 0


def select_weights_to_drop(
    records: Sequence[Record],
    cells: Sequence[Cell],
    budget_bytes: int,
    recommended: Collection[CellKey] = (),
) -> list[Record]:
    """The runs whose weights have to go so that the others take no more than the budget.

    Args:
        records: those whose weights are there.
        cells: of the study that has the budget.
        budget_bytes: what the weights may take in all.
        recommended: cells that come first.
    """
    left, drop = budget_bytes, []
    for record in sort_by_priority(records, cells, recommended):
        if weight_bytes(record) <= left:
            left -= weight_bytes(record)
        else:
            drop.append(record)
    return drop


def sort_by_priority(
    records: Sequence[Record], cells: Sequence[Cell], recommended: Collection[CellKey] = ()
) -> list[Record]:
    """The runs in the order above."""
    there = {record.run_id for record in records}
    best, others = [], []
    for cell in cells:
        final = sorted(cell.final, key=_selection_score, reverse=True)
        if final:
            key = (cell.task, cell.model, cell.method)
            best.append((key not in recommended, weight_bytes(final[0]), final[0]))
            others += final[1:]
    first = [record for _, _, record in sorted(best, key=lambda found: found[:2])]
    first += sorted(others, key=lambda r: (weight_bytes(r), *(-q for q in _selection_score(r))))
    known = {record.run_id for record in first}
    rest = [record for record in records if record.run_id not in known]
    return [r for r in first if r.run_id in there] + sorted(rest, key=weight_bytes)


def best_runs_fit(records: Sequence[Record], cells: Sequence[Cell], budget_bytes: int) -> bool:
    """Whether the best run of every cell fits, so that no recommendation has to be asked for."""
    there = {record.run_id for record in records}
    best = [max(cell.final, key=_selection_score) for cell in cells if cell.final]
    return sum(weight_bytes(r) for r in best if r.run_id in there) <= budget_bytes


def _selection_score(record: Record) -> tuple[float, float]:
    """As ``export`` chooses: the primary score on the selection part, then the lower loss."""
    found = {} if record.outcome in UNSCORED_RESULTS else record.result.get("scores", {})
    scores = found.get("selection", {})
    loss = scores.get("loss")
    return float(scores.get("primary", -math.inf)), -math.inf if loss is None else -float(loss)
