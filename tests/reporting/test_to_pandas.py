"""A report as a data frame."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from support import fake_records as fake

from paretune.errors import MissingDependencyError
from paretune.reporting.build import build_report


def test_a_report_is_a_table_with_a_row_for_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study), [], [])
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    table: list[dict[str, Any]] = report.to_pandas()
    rows = [(task.key, row) for task in report.tasks for row in task.cells]
    assert [(line["task"], line["method"]) for line in table] == [
        (key, row.method) for key, row in rows
    ]
    for line, (_, row) in zip(table, rows, strict=True):
        assert row.score is not None
        assert (line["score"], line["low"], line["high"]) == (
            row.score.estimate, row.score.low, row.score.high,
        )  # fmt: skip
        assert line["seeds"] >= 1 and line["examples"] == row.score.n_examples
        assert line["peak_bytes"] == row.cost.memory.value
    assert any(line["peak_bytes"] for line in table) and any(line["seconds"] for line in table)
    assert all(list(line) == list(table[0]) for line in table)


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study), [], [])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        report.to_pandas()
