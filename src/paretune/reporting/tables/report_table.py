"""Further tables of a task that other packages add to the report.

A table is a :class:`ReportTable`, offered by an entry point in the group
``paretune.report_tables``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paretune import plugins
from paretune.reporting.rows import Grid, Row
from paretune.study import TaskSpec

REPORT_TABLES = "paretune.report_tables"
"""Group of entry points."""


@dataclass(frozen=True)
class ReportTable:
    """A further table of the report.

    Attributes:
        build: the table of a task; None where it has none for this task. Rows are all cells of the
            task, in the report's order, also those without scores.
    """

    name: str
    build: Callable[[TaskSpec, Sequence[Row]], Grid | None]


def build_report_tables(task: TaskSpec, rows: Sequence[Row]) -> tuple[Grid, ...]:
    """The tables of all installed packages, ordered by name.

    One that cannot be loaded is a table without rows, with the error as its note.
    """
    tables, errors = plugins.load_all(REPORT_TABLES, ReportTable)
    grids = [table.build(task, rows) for table in tables.values()]
    broken = [Grid(name, "", (), (), (str(error),)) for name, error in errors.items()]
    return (*(grid for grid in grids if grid is not None), *broken)
