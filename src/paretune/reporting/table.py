"""One table of a report: its columns, and in each row a value with the text that readers see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

from pydantic import Field

from paretune.reporting.parts import CellReport, Part, Plain, Score, Value
from paretune.reporting.text.formatting import format_interval, format_n_by_seeds

if TYPE_CHECKING:
    from paretune.analysis.statistics.intervals import Interval


class Column(Part):
    """A column of a table."""

    name: str = Field(description="key of the value in each row")
    heading: str = Field(description="what readers see above it")
    words: bool = Field(default=False, description="true: its texts are words, not numbers")

    def write(self, value: Value | Plain) -> str:
        """Write a value: a dash for a missing number, nothing for missing words."""
        if isinstance(value, Value):
            return value.text
        if value is None:
            return "" if self.words else "–"
        return f"{value:,}" if isinstance(value, int) else str(value)


RowValues = Mapping[Column, Value | Plain]
"""Values of a row by column; a value that is no :class:`Value` is written as it is."""


def column(name: str, heading: str = "", *, words: bool = False) -> Column:
    """Make a column; its heading is its name unless a heading is given."""
    return Column(name=name, heading=heading or name, words=words)


def file_column(name: str) -> Column:
    """Make a column of CSV files alone: it has no heading."""
    return Column(name=name, heading="")


LABEL = column("label", "method", words=True)
"""The column that names the method."""
BASIS = column("basis", "n x seeds")
"""The column of examples and seeds behind a score."""


def name_row(cell: CellReport) -> RowValues:
    """Return the values that begin the row of a cell."""
    return {
        file_column("model"): cell.model,
        file_column("method"): cell.method,
        LABEL: cell.label,
        file_column("baseline"): cell.baseline,
    }


def write_score(score: Interval | Score | None, digits: int | None = None) -> Value | None:
    """``0.71 [0.60, 0.82]``, with so many decimals, by default as the score's scale has them."""
    if score is None:
        return None
    return Value(value=Score.read(score), text=format_interval(score, digits))


def write_basis(score: Interval | Score | None) -> str:
    """``56 x 3``: examples by seeds; nothing without a score."""
    return "" if score is None else format_n_by_seeds(score)


def write_number(value: float | None) -> Value | None:
    """Write a number that has no unit."""
    return None if value is None else Value(value=value, text=f"{value:.3f}")


class Table(Part):
    """Further measures of a task, a row for each cell that has them.

    Rows have ``model``, ``method``, ``label`` and ``baseline`` beside the columns' names, where
    they are of cells. Renderers take every table of a report in this form.
    """

    name: str = Field(description="name of the table's files")
    title: str = Field(description="what it is about")
    above: str = Field(default="", description="what its numbers are")
    columns: tuple[Column, ...] = Field(default=(), description="what readers see, in order")
    rows: tuple[dict[str, Value | Plain], ...] = Field(
        default=(),
        description="by the names of the columns, and of those that are in files alone: a value "
        "that is written as it is, or one with its text",
    )
    notes: tuple[str, ...] = Field(default=(), description="what must be known of it")

    @classmethod
    def collect(
        cls,
        name: str,
        title: str,
        rows: Iterable[RowValues],
        *,
        above: str = "",
        notes: Iterable[str] = (),
    ) -> Self:
        """Make the table of these rows.

        Raises:
            ValueError: two of its columns have one name.
        """
        all_values = list(rows)
        columns = dict.fromkeys(column for values in all_values for column in values)
        names = [column.name for column in columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"table {name}: two columns are called {' and '.join(twice)}")
        return cls(
            name=name,
            title=title,
            above=above,
            columns=tuple(column for column in columns if column.heading),
            rows=tuple(
                {column.name: value for column, value in values.items()} for values in all_values
            ),
            notes=tuple(notes),
        )

    @property
    def texts(self) -> list[list[str]]:
        """The texts of the cells, row by row."""
        return [
            [column.write(row.get(column.name)) for column in self.columns] for row in self.rows
        ]

    @property
    def values(self) -> list[dict[str, Score | Plain]]:
        """The values of each row by name, unrounded."""
        return [
            {name: cell.value if isinstance(cell, Value) else cell for name, cell in row.items()}
            for row in self.rows
        ]
