"""A run that is exported, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretune.analysis.cell import Cell
from paretune.data.example import Dataset
from paretune.exporting.restore import TaskSignature
from paretune.models.sources.resolve import ModelSource
from paretune.store.record import Record
from paretune.study import Run, Study


@dataclass(frozen=True)
class ExportedRun:
    """A run that is exported, and what its card says of it.

    Attributes:
        task_cells: all cells of its task, for the baselines.
        form: ``peft``, ``merged`` or ``paretune``.
        warnings: sentences that a user must read first.
    """

    study: Study
    cell: Cell
    task_cells: Sequence[Cell]
    record: Record
    dataset: Dataset
    source: ModelSource
    form: str
    warnings: tuple[str, ...] = ()

    @property
    def run(self) -> Run:
        """What was trained."""
        return self.record.run

    @property
    def task(self) -> TaskSignature:
        """What the model has to know of its task."""
        return TaskSignature.of(self.run, self.dataset)
