"""Which rows are a task's test: its published split, or every row in outer cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paretune.data.outer_folds import find_obstacle, labelled_rows
from paretune.errors import DataError
from paretune.planning.context import StudyContext
from paretune.store.record import Record
from paretune.study import AUTO_OUTER_FOLDS, OuterFold, Study, TaskSpec
from paretune.tasks import objective_of

MAX_AUTO_ROWS = 1000
"""From this many labelled rows on, ``outer: auto`` keeps the published split.

Below, a published test part holds so few rows that it decides little: in replays at equal compute,
cross-validation found true differences of 5 points 4 times as often with 300 rows, and 2.6 times
with 500 (docs/statistics.md). With more rows runs are longer and test parts larger.
"""


@dataclass(frozen=True)
class OuterDesign:
    """How the test rows of one task are answered.

    Attributes:
        folds: of outer cross-validation; 0: the published split.
        reason: why it was chosen, as the end of a sentence.
    """

    folds: int
    reason: str

    def place_seeds(self, seeds: Sequence[int]) -> Iterator[tuple[OuterFold | None, list[int]]]:
        """The seeds of each outer fold; of a split, all of them."""
        if not self.folds:
            yield None, list(seeds)
            return
        for position, seed in enumerate(seeds):
            yield OuterFold.at(position, self.folds), [seed]


def choose_outer_design(
    study: Study, context: StudyContext, task: TaskSpec, records: Sequence[Record]
) -> OuterDesign:
    """The design that ``protocol.outer`` means for a task.

    Args:
        study: whose protocol.
        context: reads the data.
        task: of the study.
        records: what the study has left so far: where runs of the published split have ended under
            ``auto``, the study goes on with it.

    Raises:
        DataError: the protocol names a number of folds that the rows cannot be divided into.
    """
    wanted = study.protocol.outer
    if wanted == "split":
        return OuterDesign(0, "the study asks for it")
    dataset = context.dataset(task)
    if isinstance(wanted, int):
        if obstacle := find_obstacle(dataset, wanted):
            raise DataError(
                f"{obstacle}.",
                where=f"protocol.outer, task {task.key}",
                remedy="Write a smaller number of folds, or outer: split.",
            )
        return OuterDesign(wanted, "the study asks for it")
    return _choose_automatically(study, context, task, records)


def _choose_automatically(
    study: Study, context: StudyContext, task: TaskSpec, records: Sequence[Record]
) -> OuterDesign:
    dataset = context.dataset(task)
    rows, seeds = len(labelled_rows(dataset)), len(study.protocol.seeds)
    if task.split != "published":
        return OuterDesign(0, f"the study asks for the split of the {task.split}")
    if objective_of(task).generates:
        return OuterDesign(0, "translations are cross-validated only where a study asks for it")
    if rows < len(dataset.train) + len(dataset.test):
        return OuterDesign(0, "some rows have no label")
    if rows >= MAX_AUTO_ROWS:
        return OuterDesign(0, f"it has {rows:,} labelled rows, {MAX_AUTO_ROWS:,} or more")
    folds = next((folds for folds in AUTO_OUTER_FOLDS if seeds % folds == 0), None)
    if folds is None:
        numbers = ", ".join(map(str, AUTO_OUTER_FOLDS[::-1]))
        return OuterDesign(0, f"the number of seeds, {seeds}, is no multiple of {numbers}")
    if obstacle := find_obstacle(dataset, folds):
        return OuterDesign(0, obstacle)
    if _has_split_results(study, context, task, records):
        return OuterDesign(0, "runs of it had ended before cross-validation was the default")
    return OuterDesign(folds, f"it has {rows} labelled rows, fewer than {MAX_AUTO_ROWS:,}")


def _has_split_results(
    study: Study, context: StudyContext, task: TaskSpec, records: Sequence[Record]
) -> bool:
    """Whether a trial or final run of the published split has ended, on the present data."""
    return any(
        context.identify(run) == record.run_id
        for record in records
        if record.run.task.key == task.key
        and record.run.stage != "cost"
        and record.run.outer is None
        and (run := study.relocate(record.run))
    )
