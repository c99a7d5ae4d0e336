"""Which rows are a task's test: its published split, or every row in outer cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.data.example import Dataset
from paretune.data.outer_folds import find_obstacle, labelled_rows
from paretune.errors import DataError
from paretune.study import AUTO_OUTER_FOLDS, OuterFold, Protocol, TaskSpec

MAX_AUTO_ROWS = 1000
"""From this many labelled rows on, ``outer: auto`` keeps the published split.

A test file that the user names is the test whatever its size. Below, a published test part holds so
few rows that it decides little. With more rows runs are longer and test parts
larger.
"""


@dataclass(frozen=True)
class OuterDesign:
    """How the test rows of one task are answered.

    Attributes:
        folds: of outer cross-validation; 0: the published split.
        reason: why ``auto`` chose it; empty where the study asks for it.
    """

    folds: int
    reason: str = ""

    def place_seeds(self, seeds: Sequence[int]) -> Iterator[tuple[OuterFold | None, list[int]]]:
        """The seeds of each outer fold; of a split, all of them."""
        if not self.folds:
            yield None, list(seeds)
            return
        for position, seed in enumerate(seeds):
            yield OuterFold.at(position, self.folds), [seed]


PUBLISHED_SPLIT = OuterDesign(0)


def choose_outer_design(protocol: Protocol, task: TaskSpec, dataset: Dataset) -> OuterDesign:
    """The design that ``protocol.outer`` means for a task.

    Raises:
        DataError: the protocol names a number of folds that the rows cannot be divided into.
    """
    if protocol.outer == "split" or protocol.preset == "paper":
        return PUBLISHED_SPLIT
    if isinstance(protocol.outer, int):
        if obstacle := find_obstacle(dataset, protocol.outer):
            raise DataError(
                f"{obstacle}.",
                where=f"protocol.outer, task {task.key}",
                remedy="Write a smaller number of folds, or outer: split.",
            )
        return OuterDesign(protocol.outer)
    rows, seeds = len(labelled_rows(dataset)), len(protocol.seeds)
    folds = next((folds for folds in AUTO_OUTER_FOLDS if seeds % folds == 0), None)
    reason = ""
    if task.train is not None and task.test is not None:
        reason = f"the study names {Path(task.test).name} for it"
    elif task.split != "published":
        reason = f"the study asks for the split of the {task.split}"
    elif dataset.objective.generates:
        reason = "generated texts are cross-validated only where a study asks for it"
    elif rows < len(dataset.train) + len(dataset.test):
        reason = "some of its rows have no label"
    elif rows >= MAX_AUTO_ROWS:
        reason = f"it has {rows:,} labelled rows, and from {MAX_AUTO_ROWS:,} on the split stays"
    elif folds is None:
        numbers = " or ".join(map(str, AUTO_OUTER_FOLDS[::-1]))
        reason = f"the number of seeds, {seeds}, is no multiple of {numbers}"
    else:
        reason = find_obstacle(dataset, folds)
    if folds is None or reason:
        return OuterDesign(0, reason)
    return OuterDesign(folds, f"it has {rows} labelled rows, fewer than {MAX_AUTO_ROWS:,}")
