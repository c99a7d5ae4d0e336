"""A report is built once for all outputs, and shows itself in a notebook and as a data frame."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import fake_records as fake
from support.stored_records import stored, study_file

import paretune
from paretune.errors import DataError, MissingDependencyError
from paretune.reporting import Report, build
from paretune.reporting.build import build_report
from paretune.terminal.notebook import html_code, html_lines, html_table
from paretune.verbs.check import CheckedItem, CheckResult

pytestmark = pytest.mark.thorough  # every table, figure and page, four times


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    built: list[Report] = []
    original = build.build_report

    def count(*arguments) -> Report:
        built.append(original(*arguments))
        return built[-1]

    monkeypatch.setattr(build, "build_report", count)
    return built


def store_of(tmp_path: Path) -> tuple[Path, Path]:
    file, folder = tmp_path / "study.yaml", tmp_path / "store"
    study = study_file(fake.study(), file)
    stored(study, fake.whole(study), folder).close()
    return file, folder


def test_all_outputs_of_the_function_take_one_report(tmp_path: Path, builds) -> None:
    file, store = store_of(tmp_path)
    outputs = {"page": "r.html", "card": "c.svg", "json": "study.json"}
    outputs |= {"figures": "figures", "tables": "tables"}
    report = paretune.report(file, store=store, **{k: tmp_path / v for k, v in outputs.items()})
    assert builds == [report]
    assert all((tmp_path / name).exists() for name in outputs.values())


EVIL = "<script>alert(1)</script>\x1b[31m"


class _Reader(HTMLParser):
    """The text of a piece of HTML, and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_what_comes_from_data_is_text() -> None:
    for html in (html_table([EVIL], [[EVIL]]), html_lines([EVIL]), html_code([EVIL])):
        seen = _Reader(html)
        assert "script" not in seen.tags and "\x1b" not in html
        assert any("<script>alert(1)</script>" in cell for cell in seen.cells)


def test_a_report_shows_its_first_screen() -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study), [], [])
    seen = _Reader(report._repr_html_())
    for task in report.tasks:
        assert task.key in seen.cells
        assert {cell.label for cell in task.cells if cell.runs} <= set(seen.cells)
        assert task.advice is not None and task.advice.lines[0] in seen.cells
    assert f"study {study.study}" in _Reader(study._repr_html_()).cells


def test_checks_show_whether_the_study_can_run() -> None:
    study = fake.study()
    item = CheckedItem("task", "words", error=DataError("is empty.", where="a.csv"))
    assert "the study cannot run" in CheckResult(study, (item,))._repr_html_()
    assert "the study can run" in CheckResult(study, ())._repr_html_()


def test_a_study_shows_for_how_long_it_trains() -> None:
    by_epochs = fake.study(training={"epochs": 3, "batch_size": 8})
    by_steps = fake.study(training={"epochs": 3, "max_steps": 4, "batch_size": 8})
    assert "3 epochs, batch 8" in _Reader(by_epochs._repr_html_()).cells
    assert "4 steps, batch 8" in _Reader(by_steps._repr_html_()).cells


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
