"""The block on likelihood, in every output that has it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from support import fake_records as fake
from support.report_texts import find_table, texts_by_method

from paretune.reporting import Report
from paretune.reporting.build import build_report
from paretune.reporting.page import render_page
from paretune.reporting.table_files import render_csv
from paretune.reporting.tables import build_tables
from paretune.store.record import Record


@pytest.fixture(scope="module")
def report() -> Report:
    study = fake.study(tasks=[fake.own_task("topics")])
    part = {"selection": fake.answers(0.6, n=40, part="selection")}  # as runs leave it
    return build_report(study, fake.add_parts(fake.whole(study), lambda run: part))


def test_json_has_cells_and_runs(report: Report) -> None:
    (task,) = report.to_json()["tasks"]
    (table,) = (table for table in task["tables"] if table["name"] == "likelihood")
    methods = [row["method"] for row in table["rows"] if row["log_likelihood"]]
    assert methods == ["full", "lora", "head_only", "majority", "tfidf"]  # prompt has collapsed
    full = table["rows"][0]
    assert full["log_likelihood"]["low"] < full["log_likelihood"]["estimate"] < 0
    assert 0 < full["brier"]["estimate"] < 2 and full["brier"]["seeds"] == 3
    assert full["fitted"].startswith("T ")


def test_the_table_has_a_line_for_each_measure(report: Report) -> None:
    table = next(t for t in build_tables(report) if t.name == "likelihood")
    rows = [*csv.DictReader(io.StringIO(render_csv(table)))]
    assert {row["metric"] for row in rows} == {"log-likelihood", "Brier score"}
    for row in rows:
        assert float(row["low"]) <= float(row["score"]) <= float(row["high"])
        assert row["n"] == "60"


def test_a_translation_has_it_by_token_where_the_tokens_are_stored(tmp_path: Path) -> None:
    study = fake.translation_study(methods=["full", "lora"])
    records = fake.whole(study)
    without = build_report(study, records)
    reasons = find_table(without.tasks[0], "likelihood")
    assert reasons.rows == ()
    assert reasons.notes == ("Not known: no probabilities of the reference's tokens are stored.",)
    assert reasons.notes[0].split("'")[0] in render_page(without, lambda: "")

    def with_tokens(record: Record) -> Record:
        test = record.predictions.get("test")
        if test is None or record.run.method.name == "copy_source":
            return record
        loss = {"full": 0.5, "lora": 0.6}.get(record.run.method.name, 2.0)
        scores = tuple(
            tuple(-loss - 0.01 * (i % 3) for i in range(len(str(text).split())))
            for text in test.label
        )
        return replace(record, predictions={"test": replace(test, scores=scores)})

    report = build_report(study, [with_tokens(record) for record in records])
    texts = texts_by_method(report.tasks[0].find_table("likelihood"))
    full = texts["full fine-tuning"]
    assert full[0].startswith("-0.509 [") and full[3] == "–"
    assert "no probabilities of the reference's tokens" in texts["copied source"][4]
