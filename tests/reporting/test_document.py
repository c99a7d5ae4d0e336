import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import fake_records as fake
from support.pages import docs_script

from paretune.analysis.statistics.intervals import score_interval
from paretune.data.finding import Finding
from paretune.errors import StoreError
from paretune.reporting import Report, read_json, write_json
from paretune.reporting.build import build_report
from paretune.reporting.page import render_page
from paretune.reporting.table_files import write_tables
from paretune.reporting.text.terminal import print_screen, print_tables

EVIL = '"\n\x1b]0;x\x07<script>\ud7ff'


def full_of_everything() -> tuple[Any, list[Any], list[Finding]]:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    study = fake.labelled(study, {"loha": "".join(c for c in EVIL if c.isprintable())})
    records = fake.whole(study)
    bad = fake.make_run(study, "tune", "lora", 0, learning_rate=0.05)
    records.append(fake.record(bad, outcome="diverged", result={"notes": [EVIL]}))
    lost = fake.make_run(study, "final", "lora", 1)
    records.append(fake.record(lost, outcome="error", message=EVIL))
    return study, records, [Finding("warning", "x", "a.csv:1", EVIL, "Look.")]


def with_every_measure(records: list[Any]) -> list[Any]:
    """Final runs with answers to all parts, and with forgetting."""
    further = {part: fake.answers(0.6, part=part) for part in ("selection", "test_shifted")}
    return [
        replace(r, result={**r.result, "forgetting": fake.forgetting(r.run.seed)})
        if r.predictions
        else r
        for r in fake.add_parts(records, lambda run: further)
    ]


@pytest.mark.parametrize("translated", [False, True])
def test_what_is_read_back_is_the_report_in_every_output(tmp_path: Path, translated: bool) -> None:
    study, records, findings = full_of_everything()
    records = with_every_measure(records)
    if translated:
        study, findings = fake.translation_study(), []
        records = fake.whole(study)
    report = build_report(study, records, [], findings)
    again = read_json(write_json(report, tmp_path / "a" / "study.json"))
    assert again.to_json() == report.to_json()
    assert render_page(again, lambda: "") == render_page(report, lambda: "")
    assert [path.read_bytes() for path in write_tables(again, tmp_path / "b")] == [
        path.read_bytes() for path in write_tables(report, tmp_path / "c")
    ]
    printed = [io.StringIO(), io.StringIO()]
    for value, out in zip((again, report), printed, strict=True):
        print_screen(value, Console(file=out, width=100), "study.yaml")
        print_tables(value, Console(file=out, width=100))
    assert printed[0].getvalue() == printed[1].getvalue()
    assert again._repr_html_() == report._repr_html_()


def test_a_program_finds_scores_costs_and_comparisons(tmp_path: Path) -> None:
    study, records, findings = full_of_everything()
    document = build_report(study, records, [], findings).to_json()
    cells = document["tasks"][0]["cells"]
    for cell in cells:
        assert cell["score"]["low"] <= cell["score"]["estimate"] <= cell["score"]["high"]
        assert cell["score"]["examples"] == 60
        for trial in (t for t in cell["tried"] if t["score"] is not None):
            assert trial["score"]["low"] < trial["score"]["estimate"] < trial["score"]["high"]
            assert (trial["score"]["seeds"], trial["score"]["examples"]) == (1, 40)
    lora = cells[1]["tried"]
    assert [one["score"] is None for one in lora] == [False] * (len(lora) - 1) + [True]  # 0.05
    full = cells[0]
    of_full = [pair["b"] for pair in document["tasks"][0]["pairs"] if pair["a"] == "full"]
    assert of_full[-3:] == ["head_only", "majority", "tfidf"]
    assert full["costs"][0]["phases"]["train"]["peak_bytes"] == 1890 * 2**20
    assert full["costs"][0]["not_measured"] == fake.NEVER
    parts = full["memory"]
    assert parts["peak"] == sum(parts["counted"].values()) + parts["rest"]
    assert len(full["runs"]) == 3 and len(full["runs"][0]["curve"]) == 8
    assert document["environment"]["torch"] == "2.13.0"
    assert {f["outcome"] for f in document["failures"]} == {"diverged", "error"}
    assert document["findings"][0]["severity"] == "warning"
    assert document["study"]["settings"]["study"] == "sample"
    assert {cell["model"] for cell in cells} == {"e5-small", None}
    assert document["tasks"][0]["recommendation"]["kind"] == "method"


def test_every_field_has_a_meaning_and_stands_where_it_is_documented() -> None:
    study, records, findings = full_of_everything()
    document = build_report(study, with_every_measure(records), [], findings).to_json()
    fields = docs_script("json_page").list_fields()
    assert all(fields.values())
    for path in (
        "tasks[].cells[].score.low",
        "over_tasks[].comparison.effects[].variance",
        "study.hash",
    ):
        value: Any = document
        for part in path.split("."):
            value = value[part.removesuffix("[]")]
            value = value[0] if part.endswith("[]") else value
        assert path in fields and value is not None
    schema = Report.model_json_schema(mode="serialization")
    assert (
        schema["$defs"]["Score"]["properties"]["low"]["description"]
        == fields["tasks[].cells[].score.low"]
    )


def test_each_run_has_its_own_score_with_interval_and_says_of_how_many(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    run = fake.make_run(study, "final", "lora", 1)
    parts = {"test": fake.answers(0.7), "selection": fake.answers(0.6, n=40, part="selection")}
    silent = fake.record(fake.make_run(study, "final", "lora", 2), outcome="error")
    path = write_json(build_report(study, [fake.record(run, parts), silent]), tmp_path / "s.json")
    lora = next(c for c in read_json(path).to_json()["tasks"][0]["cells"] if c["method"] == "lora")
    first, second = lora["runs"]
    for name, part in parts.items():
        own = score_interval([part], "accuracy")
        score = first["score" if name == "test" else "selection"]
        assert (score["estimate"], score["low"], score["high"]) == (own.estimate, own.low, own.high)
        assert (score["examples"], score["seeds"]) == (len(part.uid), 1)
        assert score["low"] < score["estimate"] < score["high"]
    assert first["scores"]["primary"] == first["score"]["estimate"]
    assert first["scores"]["n"] == 60
    assert second["score"] is None and second["selection"] is None and second["scores"] is None


def test_no_nan_and_no_infinity_are_written(tmp_path: Path) -> None:
    study = fake.study()
    bad = [
        {"step": 1, "epoch": 0, "loss": math.nan, "selection": {"primary": math.inf}},
        {"step": 2, "epoch": 0, "loss": -math.inf, "selection": {"primary": 0.5, "loss": math.nan}},
    ]
    run = fake.make_run(study, "final", "lora", 1)
    records = [fake.record(run, {"test": fake.answers(0.7)}, loss=math.nan, result={"curve": bad})]
    path = write_json(build_report(study, records), tmp_path / "s.json")
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text and text.isascii()
    lora = next(c for c in read_json(path).to_json()["tasks"][0]["cells"] if c["method"] == "lora")
    assert [point["loss"] for point in lora["runs"][0]["curve"]] == [None, None]
    selected = [point["selection"]["primary"] for point in lora["runs"][0]["curve"]]
    assert selected == [None, 0.5]
    assert lora["runs"][0]["scores"]["loss"] is None
    assert lora["score"]["from_seeds"] is None  # one seed: not known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is not the JSON of a study in format 6"),
        ('{"format": 99}', "is not the JSON of a study in format 6"),
        ('{"format": 6, "study": {}}', "study.name: Field required"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=message):
        read_json(path)
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(tmp_path / "nowhere.json")


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="the JSON cannot be written"):
        write_json(build_report(fake.study(), []), tmp_path / "file" / "s.json")


def test_energy_of_an_older_store_is_kept_and_not_shown() -> None:
    study = fake.study()
    energy = {"joules": 3.5, "counter": "RAPL"}
    records = [
        replace(r, measured={**r.measured, "energy": energy}) if r.run.stage == "cost" else r
        for r in fake.whole(study)
    ]
    report = build_report(study, records)
    assert report.to_json()["tasks"][0]["cells"][0]["costs"][0]["energy"] == energy
    assert str(report) == str(build_report(study, fake.whole(study)))
