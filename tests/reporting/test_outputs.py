"""A report is built once for all outputs, and shows itself in a notebook and as a data frame."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import fake_records as fake
from support.pages import Tags
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

    monkeypatch.setattr("paretune.verbs.report.build_report", count)
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


def read(html: str) -> Tags:
    """What a piece of HTML holds."""
    tags = Tags()
    tags.feed(html)
    return tags


def test_what_comes_from_data_is_text() -> None:
    for html in (html_table([EVIL], [[EVIL]]), html_lines([EVIL]), html_code([EVIL])):
        seen = read(html)
        assert "script" not in [name for name, _ in seen.seen] and "\x1b" not in html
        assert any("<script>alert(1)</script>" in cell for cell in seen.texts)


def test_a_report_shows_its_first_screen() -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study), [], [])
    seen = read(report._repr_html_())
    for task in report.tasks:
        assert task.key in seen.texts
        assert {cell.label for cell in task.cells if cell.runs} <= set(seen.texts)
        assert task.advice is not None and task.advice.lines[0] in seen.texts
    assert f"study {study.study}" in read(study._repr_html_()).texts


def test_what_to_take_and_to_do_next_print_as_sentences() -> None:
    study = fake.study()
    (task, *_) = build_report(study, fake.whole(study), [], []).tasks
    advice, next_steps = task.advice, task.next_steps
    assert advice is not None and next_steps is not None
    assert str(advice) == repr(advice) and str(next_steps) == repr(next_steps)
    lines = str(advice).splitlines()
    assert lines[0].startswith(f"On {task.key}, take ") and lines[-1] == advice.command
    for sentence in advice.details:
        line = f"- {sentence.text}" if sentence.about == "change" else sentence.text
        assert lines.count(line) == 1
    assert str(next_steps).startswith(f"On {task.key}: {next_steps.sentence}\n- ")


def test_checks_show_whether_the_study_can_run() -> None:
    study = fake.study()
    item = CheckedItem("task", "words", error=DataError("is empty.", where="a.csv"))
    assert "the study cannot run" in CheckResult(study, (item,))._repr_html_()
    assert "the study can run" in CheckResult(study, ())._repr_html_()


def test_a_study_shows_for_how_long_it_trains() -> None:
    by_epochs = fake.study(training={"epochs": 3, "batch_size": 8})
    by_steps = fake.study(training={"epochs": 3, "max_steps": 4, "batch_size": 8})
    assert "3 epochs, batch 8" in read(by_epochs._repr_html_()).texts
    assert "4 steps, batch 8" in read(by_steps._repr_html_()).texts


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
        interval = row.score.estimate, row.score.low, row.score.high
        assert (line["score"], line["low"], line["high"]) == interval
        assert line["seeds"] >= 1 and line["n"] == row.score.n_examples
        assert line.get("peak_bytes") == row.cost.memory.value
        assert line["train_seconds"] == row.run_seconds
    assert any(line["peak_bytes"] for line in table if "peak_bytes" in line)


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study), [], [])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match='pip install "pandas"'):
        report.to_pandas()
