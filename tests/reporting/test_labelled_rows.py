"""The part of a report on shares of the labelled rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from rich.console import Console
from support import fake_records as fake
from support.shared_rows import shared_rows

from paretune.reporting import Report, read_json, write_json
from paretune.reporting.build import build_report
from paretune.reporting.document import LabelledRows
from paretune.reporting.figure_files import write_figures
from paretune.reporting.page import render_page
from paretune.reporting.rows_chart import chart_labelled_rows
from paretune.reporting.table_files import write_tables
from paretune.reporting.text.terminal import print_screen, print_tables


@pytest.fixture(scope="module")
def report() -> Report:
    return build_report(*shared_rows(("topics", "entailment")))


def rows_of(report: Report) -> LabelledRows:
    assert report.labelled_rows is not None
    return report.labelled_rows


def test_the_sentence_says_with_how_many_rows_the_reference_is_proven_better(
    report: Report,
) -> None:
    assert rows_of(report).sentence == (
        "Over all 2 tasks LoRA is proven better than the linear probe with 100 labelled rows or "
        "more; than TF-IDF with 100 labelled rows or more."
    )


def test_of_one_task_nothing_is_counted() -> None:
    sentence = rows_of(build_report(*shared_rows())).sentence
    assert "TF-IDF with 100 labelled rows or more." in sentence and "tasks" not in sentence


def test_rows_that_differ_between_tasks_are_told_as_shares() -> None:
    study, records = shared_rows(("topics", "entailment"))
    few = shared_rows(("topics", "entailment"), rows=200)[1]
    mixed = [r for r in records if r.run.task.key == "topics"]
    mixed += [r for r in few if r.run.task.key == "entailment"]
    rows = rows_of(build_report(study, mixed))
    assert "with 50 % of the labelled rows or more;" in rows.sentence
    assert {"25 %", "50 %", "100 %"} <= {column.heading for column in rows.differences.columns}
    texts = {line[0]: line for line in rows.least.texts}["LoRA against TF-IDF"]
    assert texts[1:] == ["50 %", "100", "80"]


def test_each_pair_has_its_least_rows_by_task(report: Report) -> None:
    least = rows_of(report).least
    assert [c.heading for c in least.columns] == ["pair", "all 2 tasks", "topics", "entailment"]
    texts = {line[0]: line[1:] for line in least.texts}
    assert texts["LoRA against TF-IDF"] == ["100", "100", "100"]
    assert texts["full fine-tuning against LoRA"] == ["not with 200"] * 3


def test_differences_carry_their_standings(report: Report) -> None:
    differences = rows_of(report).differences
    headings = [column.heading for column in differences.columns]
    assert headings == ["task", "pair", "better from", "50", "100", "200"]
    line = next(x for x in differences.texts if x[:2] == ["topics", "LoRA against TF-IDF"])
    assert [text[-1] for text in line[3:]] == ["≈", "▲", "▲"]
    worse = next(
        x for x in differences.texts if x[:2] == ["topics", "full fine-tuning against LoRA"]
    )
    assert worse[4].endswith("▼")


def test_a_panel_of_each_task_has_every_score(report: Report) -> None:
    rows = rows_of(report)
    chart = chart_labelled_rows(rows)
    assert chart is not None
    points = chart.spec["data"]["values"]
    assert len(points) == len(rows.scores.rows) == 2 * 5 * 3
    assert {point["place"] for point in points} == {0, 1}
    assert {point["rows"] for point in points} == {50, 100, 200}
    assert all(point["low"] <= point["score"] <= point["high"] for point in points)
    assert "topics, LoRA, 100 rows: " in chart.description


def test_page_screen_and_files_have_it(report: Report, tmp_path: Path) -> None:
    rows = rows_of(report)
    page = render_page(report)
    for text in (rows.sentence, 'id="labelled-rows"', 'id="from-rows"', rows.differences.title):
        assert text in page
    for show in (lambda c: print_screen(report, c, "s.yaml"), lambda c: print_tables(report, c)):
        console = Console(width=160, record=True)
        show(console)
        assert "LoRA against TF-IDF" in console.export_text()
    names = {path.name for path in write_figures(report, tmp_path, ["svg"])}
    assert "labelled-rows.svg" in names
    tables = {path.name: path for path in write_tables(report, tmp_path)}
    with tables["labelled-rows.csv"].open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert {row["labelled_rows"] for row in scores} == {"50", "100", "200"}
    assert read_json(write_json(report, tmp_path / "report.json")) == report


def test_without_shares_there_is_no_such_part() -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study))
    assert report.labelled_rows is None and "labelled-rows" not in render_page(report)
