"""What readers see of a table of a report."""

from __future__ import annotations

from paretune.reporting.document import TaskReport
from paretune.reporting.table import Table


def texts_by_method(table: Table | None) -> dict[str, list[str]]:
    """The texts behind the method of each row, by method."""
    assert table is not None
    return {texts[0]: texts[1:] for texts in table.texts}


def headings(table: Table | None) -> list[str]:
    """The headings behind the method."""
    assert table is not None
    return [column.heading for column in table.columns[1:]]


def find_table(task: TaskReport, name: str) -> Table:
    """A table that the task has."""
    table = task.find_table(name)
    assert table is not None
    return table
