"""Generated texts in which no label was found; they count as wrong."""

from __future__ import annotations

from paretune.analysis.cell import Cell
from paretune.metrics.classification import NO_LABEL


def unread_share(cell: Cell) -> float:
    """The share of the cell's test answers that are no label, over its runs; 0 of other tasks."""
    if not cell.objective.predicts_labels:
        return 0.0
    answers = [answer for seed in cell.test_answers for answer in seed.prediction]
    return answers.count(NO_LABEL) / len(answers) if answers else 0.0
