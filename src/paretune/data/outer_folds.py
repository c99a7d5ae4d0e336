"""Outer cross-validation: all labelled rows of a task in folds.

The rows of a fold are answered by a run that was trained on the rows outside it. Folds are
stratified, and groups and equal texts stay whole, as in the parts of train
(:mod:`paretune.data.split`); each repeat divides the rows anew.
"""

from __future__ import annotations

from paretune.data.example import Dataset, Example
from paretune.data.split import assign_folds, count_inseparable
from paretune.study import OuterFold, derive_seed

MIN_OUTSIDE_ROWS = 10
"""Rows outside a fold, so that training and selection part have some (as train must have)."""


def labelled_rows(dataset: Dataset) -> list[Example]:
    """The rows that are divided: those of train, then those of test, that have an answer."""
    rows = (*dataset.train, *dataset.test)
    return [e for e in rows if e.label is not None or e.target is not None]


def split_by_fold(
    dataset: Dataset, fold: OuterFold, split_seed: int
) -> tuple[list[Example], list[Example]]:
    """The rows outside a fold and those inside, both in the order of the data.

    Raises:
        DataError: the rows cannot be divided (:func:`find_obstacle`).
    """
    rows = labelled_rows(dataset)
    parts = assign_folds(rows, derive_seed(split_seed, "outer", fold.repeat), fold.folds)
    outside = [e for e, part in zip(rows, parts, strict=True) if part != fold.index]
    return outside, [e for e, part in zip(rows, parts, strict=True) if part == fold.index]


def find_obstacle(dataset: Dataset, folds: int) -> str:
    """Why the rows cannot be divided into so many folds; empty if they can."""
    rows = labelled_rows(dataset)
    if len(rows) - -(-len(rows) // folds) < MIN_OUTSIDE_ROWS:
        return f"{len(rows)} labelled rows are too few for {folds} folds"
    groups, fewest = count_inseparable(rows), max(folds, 4)  # outside a fold: two at least
    if groups < fewest:
        return (
            f"groups and equal texts stay together, and the rows have {groups} of them: {folds} "
            f"folds need {fewest}"
        )
    return ""
