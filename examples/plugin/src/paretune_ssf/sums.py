"""Is the sum of two numbers over ten? Both are written as words; every pair from one to twelve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from paretune.data.rows import Row
from paretune.data.task import Task, TaskRows
from paretune.objectives.example import Segments
from paretune.study import TaskSpec

WORDS: tuple[str, ...] = ("one", "two", "three", "four", "five", "six")
WORDS += ("seven", "eight", "nine", "ten", "eleven", "twelve")


def read_rows(spec: TaskSpec, language: str, data_home: Path | None) -> TaskRows:
    """All 144 pairs; a third of them, spread evenly, is the test."""
    rows = [
        Row(
            {
                "id": f"{i}-{j}",
                "text": f"{first} and {second}",
                "label": "over" if i + j > 10 else "not over",
            },
            f"pair {i}, {j}",
        )
        for i, first in enumerate(WORDS, 1)
        for j, second in enumerate(WORDS, 1)
    ]
    is_test = [(i + 2 * j) % 3 == 0 for i in range(12) for j in range(12)]
    return TaskRows(
        train=[row for row, test in zip(rows, is_test, strict=True) if not test],
        test=[row for row, test in zip(rows, is_test, strict=True) if test],
    )


def pair(row: Mapping[str, str], language: str) -> Segments:
    """Both numbers in one text."""
    return ((row["text"], None),)


TASK = Task(
    name="sums",
    title="is the sum of two numbers over ten?",
    kind="classification",
    labels=("not over", "over"),
    columns=("text",),
    metric="accuracy",
    languages=("en",),
    licence={"en": "CC0-1.0"},
    source={"en": "counted out by the plug-in itself"},
    templates={"pair": pair},
    read_rows=read_rows,
)
