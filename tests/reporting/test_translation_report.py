"""A study of translations as it is shown: scores up to 100, further tables, loss curves."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sacrebleu.metrics import BLEU
from support import fake_records as fake
from support.report_texts import headings, texts_by_method

from paretune.errors import MissingDependencyError
from paretune.reporting import Report
from paretune.reporting.build import build_report
from paretune.reporting.page import write_page
from paretune.reporting.table import Table
from paretune.reporting.text.formatting import format_interval
from paretune.reporting.text.terminal import print_tables
from paretune.store.record import Record
from paretune.study import Study
from paretune_slovene.slobench import official_scores

NUMBER = re.compile(r"(\d\.\d{3}) \[(\d\.\d{3}), (\d\.\d{3})\]")
ASKED = {"metrics": ["meteor", "bertscore"], "bertscore_model": "FacebookAI/roberta-large"}


def print_to_text(report: Report, width: int = 80) -> str:
    out = io.StringIO()
    print_tables(report, Console(file=out, width=width))
    return out.getvalue()


def tables_of(report: Report) -> list[Table]:
    """Every score of the texts, and SloBench's own."""
    return [t for t in report.tasks[0].tables if t.name in ("translations", "slobench")]


def page(study: Study, records: list[Record], folder: Path) -> str:
    return write_page(build_report(study, records), folder / "page.html").read_text("utf-8")


def test_scores_go_to_a_hundred_and_have_one_decimal(tmp_path: Path) -> None:
    study = fake.translation_study()
    records = fake.whole(study)
    task = build_report(study, records).tasks[0]
    assert (task.metric_title, task.highest, task.generates) == ("BLEU", 100.0, True)
    interval = next(r for r in task.methods if r.method == "lora").score
    finals = [r for r in records if r.run.method.name == "lora" and r.run.stage == "final"]
    own = [
        BLEU(force=True)
        .corpus_score(list(r.predictions["test"].prediction), [list(r.predictions["test"].label)])
        .score
        for r in finals
    ]
    assert interval is not None and interval.estimate == pytest.approx(sum(own) / 3, abs=1e-9)
    text = f"{interval.estimate:.1f} [{interval.low:.1f}, {interval.high:.1f}]"
    assert format_interval(interval) == text
    assert text in print_to_text(build_report(study, records)) and text in page(
        study, records, tmp_path
    )


def test_a_bertscore_whose_model_no_record_names_has_no_gap_in_its_note() -> None:
    study = fake.translation_study(generation=ASKED)
    records = [
        replace(r, run=r.run.model_copy(update={"generation": None}))
        for r in fake.whole(study, segment=("meteor", "bertscore"))
    ]
    scores, _ = tables_of(build_report(study, records))
    assert "BERTScore (F1) by a model that no record names." in scores.notes


def test_slobenchs_table_is_its_own_scorers_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake.translation_study()
    records = fake.whole(study)
    monkeypatch.setattr(official_scores, "load_tokeniser", lambda language: str.split)
    _, own = tables_of(build_report(study, records))
    assert {"BLEU (avg)", "CHRF (avg = corpus)", "BLEU (corpus)"} <= set(headings(own))
    finals = [r for r in records if r.run.method.name == "lora" and r.run.stage == "final"]
    answers = [r.predictions["test"] for r in finals]
    intervals = official_scores.score_translations(answers, "en").intervals
    row = dict(zip(headings(own), texts_by_method(own)["LoRA"], strict=True))
    for name in ("BLEU (avg)", "BLEU (corpus)", "CHRF (avg)"):
        interval, heading = intervals[name], name.replace("CHRF (avg)", "CHRF (avg = corpus)")
        numbers = [f"{n:.3f}" for n in (interval.estimate, interval.low, interval.high)]
        assert [*NUMBER.fullmatch(row[heading]).groups()] == numbers  # type: ignore[union-attr]
    assert row["n x seeds"] == "80 x 3"


@pytest.mark.thorough
def test_no_heading_and_no_number_is_cut_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official_scores, "load_tokeniser", lambda language: str.split)
    study = fake.translation_study(generation=ASKED, models=["long-" * 12, "two"])
    report = build_report(study, fake.whole(study, segment=("meteor", "bertscore")))
    grids = tables_of(report)
    assert [len(headings(grid)) for grid in grids] == [6, 6]
    for width in (60, *range(70, 92), 170):
        text = print_to_text(report, width)
        assert max(map(len, text.splitlines())) <= width
        lines = text[text.index("Every score") : text.index("Where the bytes go")].splitlines()
        rows = [line for line in lines if line.startswith(" ")]  # and no wrapped sentence
        heads = [line for line in rows if line.split()[1:2] == ["method"]]
        for grid in grids:
            assert all(any(title in line for line in heads) for title in headings(grid))
            assert all(any(t in line for line in lines) for texts in grid.texts for t in texts[1:])


def test_what_slobenchs_table_lacks_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(language: str) -> None:
        raise MissingDependencyError("words need data.", remedy="Get `punkt_tab`.")

    monkeypatch.setattr(official_scores, "load_tokeniser", lacking)
    study = fake.translation_study()
    _, own = tables_of(build_report(study, fake.whole(study)))
    assert headings(own) == ["CHRF (avg = corpus)", "n x seeds"]
    assert any("BLEU (avg)" in n and "Words need data. Get `punkt_tab`." in n for n in own.notes)
    german = fake.translation_study(tasks=[{**study.tasks[0].model_dump(), "target_lang": "de"}])
    _, none = tables_of(build_report(german, fake.whole(german)))
    assert none.rows == () and "into sl or en only" in none.notes[0]


def test_another_sacrebleu_is_told() -> None:
    study = fake.translation_study()
    first, *rest = fake.whole(study)
    old = replace(first, result={**first.result, "signatures": {"bleu": "nrefs:1|version:1.5"}})
    scores, _ = tables_of(build_report(study, [old, *rest]))
    assert any("nrefs:1|version:1.5" in note and "computed anew" in note for note in scores.notes)
