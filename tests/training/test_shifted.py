"""A second, shifted test part is scored beside the test part, and changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.report_texts import find_table
from support.tiny_study import WORDS, finish, small

from paretune.data.audit import audit
from paretune.errors import DataError, StudyError
from paretune.reporting.build import build_report
from paretune.reporting.page import render_page
from paretune.reporting.parts import Score
from paretune.reporting.tables import build_tables
from paretune.study import Study, TaskSpec
from paretune.tasks import load_dataset


def task(folder: Path) -> dict[str, Any]:
    """A task of two files with a shifted part of 12 rows."""
    fields = small(folder, folder / "model").tasks[0].model_dump(exclude_none=True)
    rows = [f"A {WORDS[i % 8]} afar {i},{'yes' if i % 3 else 'no'}" for i in range(12)]
    (folder / "far.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return {**fields, "test_shifted": str(folder / "far.csv")}


def test_the_part_is_read_and_is_of_the_datas_identity(tmp_path: Path) -> None:
    spec = TaskSpec(**task(tmp_path))
    data = load_dataset(spec)
    assert [e.uid for e in data.shifted[:2]] == ["test_shifted:0", "test_shifted:1"]
    assert len(data.shifted) == 12 and data.source == "train.csv, test.csv, far.csv"
    without = load_dataset(spec.model_copy(update={"test_shifted": None}))
    assert without.shifted == () and without.content_hash != data.content_hash
    limited = load_dataset(spec.model_copy(update={"limit": {"test_shifted": 5}}))
    assert len(limited.shifted) == 5


def test_a_label_that_train_does_not_have_is_named(tmp_path: Path) -> None:
    fields = task(tmp_path)
    (tmp_path / "far.csv").write_text("text,label\nA cat,maybe\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"far.csv line 2: label \"maybe\" is not one of no, yes"):
        load_dataset(TaskSpec(**fields))


def test_rows_of_train_in_the_shifted_part_are_found(tmp_path: Path) -> None:
    fields = task(tmp_path)
    (tmp_path / "far.csv").write_text((tmp_path / "train.csv").read_text(), encoding="utf-8")
    leaks = [f for f in audit(load_dataset(TaskSpec(**fields))) if f.code == "leak"]
    assert len(leaks) == 1 and leaks[0].severity == "error"
    assert "40 of 40 test_shifted rows are in train" in leaks[0].what


def test_a_built_in_task_and_a_hub_dataset_refuse_the_key() -> None:
    for spec, says in (
        ({"name": "cb", "test_shifted": "far.csv"}, "belong to a task with files of its own"),
        (
            {"name": "mine", "kind": "classification", "text": "t", "label": "l", "dataset": "a/b",
             "test_shifted": "far.csv"},
            "splits: {test_shifted: SPLIT}",
        ),
    ):  # fmt: skip
        with pytest.raises(StudyError, match=says.replace("{", r"\{")):
            Study.parse({"study": "a", "tasks": [spec], "models": ["m"], "methods": ["full"]})


@pytest.mark.parametrize("outer", ["split", pytest.param(2, marks=pytest.mark.wide)])
def test_every_final_run_and_baseline_is_scored_on_it(
    outer: Any, tmp_path: Path, tiny_model: Any
) -> None:
    protocol = {"trials": 2, "folds": 1, "seeds": [1, 2], "outer": outer, "cost_seconds": 1}
    study = small(tmp_path, tiny_model("bert"), tasks=[task(tmp_path / "data")], protocol=protocol)
    with finish(study, tmp_path / "store", costs=0) as store:
        records = store.load_records(study.study_hash, predictions=True)
    for record in records:
        scored = record.run.stage == "final"
        assert ("test_shifted" in record.result["scores"]) == scored
        assert ("test_shifted" in record.predictions) == scored
        if scored:
            assert record.result["scores"]["test_shifted"]["n"] == 12
            assert len(record.predictions["test_shifted"].uid) == 12
    report = build_report(study, records)
    (task_report,) = report.tasks
    shifted = find_table(task_report, "shifted")
    rows = {row["method"]: row for row in shifted.values}
    score = rows["majority"]["score"]
    assert "tfidf" in rows and isinstance(score, Score)
    assert score.estimate in (pytest.approx(4 / 12), pytest.approx(8 / 12))
    assert score.low < score.estimate < score.high
    assert (rows["majority"]["change"] is None) == (outer == 2)
    assert "On the shifted test part" in render_page(report, lambda: "")
    assert any(table.name == "shifted" for table in build_tables(report))
