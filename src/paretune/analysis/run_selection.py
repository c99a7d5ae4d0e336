"""Selects which run of a cell to use, and which trained weights to keep within a byte budget.

The selection part alone, without test labels, decides which run is used. Weights are kept by
priority, highest first:

1. of every recommended cell, its best final run by the selection part: what ``export`` selects;
2. of every other cell, its best run, small ones first, so that as many as possible can be exported;
3. the other final runs, small ones first, and of equal size the better ones;
4. all other runs with weights: of settings that the study no longer has.

What does not fit is skipped, and a smaller one of lower priority may still fit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.recommend import Budget, choose
from paretune.store.record import Record
from paretune.study import Study


def selection_key(record: Record) -> tuple[float, float]:
    """Return the key by which a cell's runs are ranked: score on the selection part, minus loss.

    A run that failed or has no such score gets the lowest key.
    """
    lowest = (-math.inf, -math.inf)
    return lowest if record.is_lost else record.selection_score or lowest


def weight_bytes(record: Record) -> int:
    """Return the bytes of the tensors that a run trained; 0 if it stored none."""
    return record.result.get("trained_bytes", 0) if record.result.get("weights") else 0


def select_excess_weights(
    study: Study, records: Sequence[Record], with_weights: Sequence[Record]
) -> list[Record]:
    """Select the records of ``with_weights`` whose weights exceed the study's budget.

    Args:
        records: all records of the study, which decide the recommendation.
    """
    cells = group_into_cells(study, records)
    recommended: set[tuple[str, str, str]] = set()
    for task in study.tasks:
        choice = choose([cell for cell in cells if cell.task == task.key], Budget())
        for candidate in (choice.chosen, choice.best):
            if candidate is not None:
                recommended.add((task.key, *candidate.cell.key))
    budget = study.protocol.keep_weights
    return select_weights_to_drop(with_weights, cells, budget, recommended)


def select_weights_to_drop(
    records: Sequence[Record],
    cells: Sequence[Cell],
    budget_bytes: int,
    recommended: Collection[tuple[str, str, str]] = (),
) -> list[Record]:
    """Select the runs whose weights must be dropped so that the rest fits in the budget.

    Args:
        cells: cells of the study that has the budget.
        recommended: task, model and method of each recommended cell.
    """
    bytes_left, dropped = budget_bytes, []
    for record in sort_by_priority(records, cells, recommended):
        if weight_bytes(record) <= bytes_left:
            bytes_left -= weight_bytes(record)
        else:
            dropped.append(record)
    return dropped


def sort_by_priority(
    records: Sequence[Record],
    cells: Sequence[Cell],
    recommended: Collection[tuple[str, str, str]] = (),
) -> list[Record]:
    """Sort the runs by the priority above."""
    best, further = [], []
    for cell in cells:
        final = sorted(cell.final, key=selection_key, reverse=True)
        if final:
            key = (cell.task, cell.model, cell.method)
            best.append((key not in recommended, weight_bytes(final[0]), final[0]))
            further += final[1:]
    current = [record for *_, record in sorted(best, key=lambda entry: entry[:2])]
    current += sorted(further, key=lambda r: (weight_bytes(r), *(-k for k in selection_key(r))))
    with_weights = {record.run_id for record in records}
    current_ids = {record.run_id for record in current}
    outdated = [record for record in records if record.run_id not in current_ids]
    retained = [record for record in current if record.run_id in with_weights]
    return retained + sorted(outdated, key=weight_bytes)
