import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support import fake_translations

from paretune.analysis.statistics.intervals import score_interval
from paretune.data.finding import Finding
from paretune.errors import StoreError
from paretune.reporting.build import build_report
from paretune.reporting.json.json_fields import FIELDS, OPEN
from paretune.reporting.json.study_json import build_study_json, field_paths, read_json, write_json

EVIL = '"\n\x1b]0;x\x07<script>\ud7ff'


def full_of_everything() -> tuple[Any, list[Any], list[Finding]]:
    study = fake.study(
        methods=[
            "full",
            "lora",
            {"name": "loha", "label": "".join(c for c in EVIL if c.isprintable())},
            "prompt",
        ]
    )
    records = fake.whole(study)
    bad = fake.make_run(study, "tune", "lora", 0, learning_rate=0.05)
    records.append(fake.record(bad, outcome="diverged", result={"notes": [EVIL]}))
    lost = fake.make_run(study, "final", "lora", 1)
    records.append(fake.record(lost, outcome="error", message=EVIL))
    return study, records, [Finding("warning", "x", "a.csv:1", EVIL, "Look.")]


def test_it_loads_back_with_every_score_and_its_basis(tmp_path: Path) -> None:
    study, records, findings = full_of_everything()
    path = write_json(build_report(study, records, [], findings), tmp_path / "a" / "study.json")
    document = read_json(path)
    report = build_report(study, records, [], findings)
    for task, task_document in zip(report.tasks, document["tasks"], strict=True):
        for row, cell in zip(task.all_rows, task_document["cells"], strict=True):
            assert cell["method"] == row.cell.method
            assert (cell["score"] is None) == (row.interval is None)
            if row.interval is not None:
                assert cell["score"]["estimate"] == row.interval.estimate
                assert cell["score"]["examples"] == row.interval.n_examples
                assert cell["score"]["seeds"] == row.interval.n_seeds
                assert cell["score"]["low"] <= cell["score"]["estimate"] <= cell["score"]["high"]
            for trial, one in zip(row.trials, cell["tried"], strict=True):
                basis = trial.score
                assert (basis is None) == (one["score"] is None) == (one["examples"] is None)
                if basis is not None:
                    assert one["score"] == basis.estimate and one["seeds"] == 1
                    assert (one["low"], one["high"]) == (basis.low, basis.high)
                    assert one["low"] < one["score"] < one["high"]
                    assert one["examples"] == basis.n_examples > 0
    lora = document["tasks"][0]["cells"][1]["tried"]
    assert [one["score"] is None for one in lora] == [False] * (len(lora) - 1) + [True]  # 0.05
    full = document["tasks"][0]["cells"][0]
    assert [one["with"] for one in full["comparisons"]] == ["head_only", "majority", "tfidf"]
    assert full["costs"][0]["phases"]["train"]["peak_bytes"] == 1890 * 2**20
    assert full["costs"][0]["not_measured"] == fake.NEVER
    parts = full["memory"]
    assert parts["peak"] == sum(
        parts[n] for n in ("weights", "gradients", "optimizer", "activations", "rest")
    )
    assert len(full["runs"]) == 3 and len(full["runs"][0]["curve"]) == 8
    assert document["environment"]["torch"] == "2.13.0"
    assert {f["outcome"] for f in document["failures"]} == {"diverged", "error"}
    assert document["findings"][0]["severity"] == "warning"
    assert document["study"]["settings"]["study"] == "sample"
    names = {cell["model"] for cell in document["tasks"][0]["cells"]}
    assert names == {"e5-small", None}


def test_every_field_is_documented_and_every_documented_field_is_written() -> None:
    study, records, findings = full_of_everything()
    paper = fake.study(protocol={"preset": "paper"}, tasks=[fake.own_task("cb")])
    seen: set[str] = set()
    translation = fake_translations.study(methods=["lora"])
    translation_records = fake_translations.whole(translation)
    chosen = replace(records[-1], predictions={"selection": fake.answers(0.6, part="selection")})
    assert chosen.run.stage == "final"
    further = {part: fake.answers(0.6, part=part) for part in ("selection", "test_shifted")}
    whole = [
        replace(
            r,
            predictions={**r.predictions, **further},
            result={**r.result, "forgetting": fake.forgetting(r.run.seed)},
        )
        if "test" in r.predictions
        else r
        for r in [*records, chosen]
    ]
    for example, example_records in (
        (study, whole),
        (paper, []),
        (translation, translation_records),
    ):
        document = build_study_json(build_report(example, example_records, [], findings))
        seen |= set(field_paths(document))
    assert seen == set(FIELDS)
    assert set(FIELDS) >= OPEN


def test_each_run_has_its_own_score_with_interval_and_says_of_how_many(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    run = fake.make_run(study, "final", "lora", 1)
    parts = {"test": fake.answers(0.7), "selection": fake.answers(0.6, n=40, part="selection")}
    silent = fake.record(fake.make_run(study, "final", "lora", 2), outcome="error")
    path = write_json(build_report(study, [fake.record(run, parts), silent]), tmp_path / "s.json")
    lora = next(c for c in read_json(path)["tasks"][0]["cells"] if c["method"] == "lora")
    first, second = lora["runs"]
    for name, part in parts.items():
        own = score_interval([part], "accuracy")
        score = first["score" if name == "test" else "selection"]
        assert (score["estimate"], score["low"], score["high"]) == (own.estimate, own.low, own.high)
        assert (score["examples"], score["seeds"]) == (len(part.uid), 1)
        assert score["low"] < score["estimate"] < score["high"]
    assert first["scores"]["primary"] == first["score"]["estimate"]
    assert first["scores"]["n"] == 60
    assert {point["examples"] for point in first["curve"]} == {40}
    assert second["score"] is None and second["selection"] is None and second["scores"] is None


def test_a_file_of_before_these_fields_is_read(tmp_path: Path) -> None:
    study, records, findings = full_of_everything()
    document = build_study_json(build_report(study, records, [], findings))
    for run in (r for t in document["tasks"] for c in t["cells"] for r in c["runs"]):
        del run["score"], run["selection"]
        for point in run["curve"]:
            del point["examples"]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(document), encoding="utf-8")
    assert read_json(old) == document


def test_no_nan_and_no_infinity_are_written(tmp_path: Path) -> None:
    study = fake.study()
    bad = [
        {"step": 1, "epoch": 0, "loss": math.nan, "selection": math.inf},
        {"step": 2, "epoch": 0, "loss": -math.inf, "selection": {"primary": 0.5, "loss": math.nan}},
    ]
    run = fake.make_run(study, "final", "lora", 1)
    records = [fake.record(run, {"test": fake.answers(0.7)}, loss=math.nan, result={"curve": bad})]
    path = write_json(build_report(study, records), tmp_path / "s.json")
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text
    lora = next(c for c in read_json(path)["tasks"][0]["cells"] if c["method"] == "lora")
    assert [point["loss"] for point in lora["runs"][0]["curve"]] == [None, None]
    assert [point["selection"] for point in lora["runs"][0]["curve"]] == [None, 0.5]
    assert lora["runs"][0]["scores"]["loss"] is None
    assert lora["score"]["from_seeds"] is None  # one seed: not known


def test_it_is_ascii(tmp_path: Path) -> None:
    study, records, _ = full_of_everything()
    assert write_json(build_report(study, records), tmp_path / "a").read_bytes().isascii()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"format": 1, "a": NaN}', "NaN is no number"),
        ("[]", "is not the JSON of a study"),
        ('{"format": 99}', "has format 99"),
        ('{"format": 2, "study": {}}', "has no tasks, environment, failures"),
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
