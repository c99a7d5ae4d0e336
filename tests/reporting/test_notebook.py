"""What values show of themselves in a notebook: HTML in which nothing of the data is markup."""

from __future__ import annotations

from html.parser import HTMLParser

from support import fake_records as fake

from paretune.errors import DataError
from paretune.reporting.build import build_report
from paretune.terminal.notebook import html_code, html_lines, html_table
from paretune.verbs.check import CheckedItem, CheckResult

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
