"""Rows without labels: final runs answer them, and differences are corrected by these answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_study import WORDS, finish, small

from paretune.data.build import MIN_UNLABELLED
from paretune.errors import DataError, StudyError
from paretune.metrics.classification import NO_LABEL
from paretune.reporting.build import build_report
from paretune.study import Study, TaskSpec
from paretune.tasks import load_dataset
from paretune.verbs.check import check

ROWS = [f"A {WORDS[i % 8]} {'sat' if i % 3 else 'turns'} afar {i}" for i in range(40)]


def task(folder: Path, rows: Sequence[str] = ROWS, head: str = "text") -> dict[str, Any]:
    """A task of two files beside one without labels."""
    fields = small(folder, folder / "model").tasks[0].model_dump(exclude_none=True)
    (folder / "more.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    return {**fields, "unlabelled": str(folder / "more.csv")}


def test_rows_are_read_without_labels_and_are_of_the_datas_identity(tmp_path: Path) -> None:
    spec = TaskSpec(**task(tmp_path, [f"{row},maybe" for row in ROWS], "text,label"))
    data = load_dataset(spec)
    assert [e.uid for e in data.unlabelled[:2]] == ["unlabelled:0", "unlabelled:1"]
    assert {e.label for e in data.unlabelled} == {None} and len(data.unlabelled) == 40
    assert data.source == "train.csv, test.csv, more.csv"
    without = load_dataset(spec.model_copy(update={"unlabelled": None}))
    assert without.unlabelled == () and without.content_hash != data.content_hash
    published = replace(without, unlabelled=data.unlabelled)  # as those of SloBench
    assert published.content_hash == without.content_hash


def test_rows_that_are_labelled_too_are_left_out(tmp_path: Path) -> None:
    fields = task(tmp_path, [*ROWS, "the CAT turns into train 0", "The dog sat on test 2"])
    data = load_dataset(TaskSpec(**fields))
    assert len(data.unlabelled) == 40
    (note,) = [f for f in data.findings if f.code == "unlabelled-seen"]
    assert note.where.endswith("more.csv line 42") and "2 of 42 unlabelled rows" in note.what


def test_rows_of_a_labelled_group_are_left_out(tmp_path: Path) -> None:
    fields = task(tmp_path, [f"{row},g{i}" for i, row in enumerate(ROWS)], "text,of")
    for name in ("train", "test"):
        lines = (tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        rows = [f"{line},g{i % 4}" for i, line in enumerate(lines[1:])]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"{lines[0]},of", *rows]))
    data = load_dataset(TaskSpec(**fields, group="of"))
    assert [e.group for e in data.unlabelled] == [f"g{i}" for i in range(4, 40)]


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    fields = task(tmp_path, ROWS[: MIN_UNLABELLED - 1])
    with pytest.raises(DataError, match="29 unlabelled rows are too few"):
        load_dataset(TaskSpec(**fields))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric": "macro_f1"}, "kind: classification or pair, and metric: accuracy"),
        ({"kind": "regression", "labels": None}, "kind: classification or pair"),
        ({"kind": "multilabel"}, "kind: classification or pair"),
        ({"train": None, "test": None}, "belong to a task with files of its own"),
    ],
)
def test_other_kinds_and_metrics_refuse_the_key(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    fields = {k: v for k, v in {**task(tmp_path), **changes}.items() if v is not None}
    with pytest.raises(StudyError, match=says):
        Study.parse({"study": "a", "tasks": [fields], "models": ["m"], "methods": ["full"]})


def test_a_study_without_the_key_keeps_its_identity(tmp_path: Path) -> None:
    study = small(tmp_path, tmp_path / "model")
    assert "unlabelled" not in study.canonical_form()["tasks"][0]


@pytest.mark.parametrize("outer", ["split", pytest.param(3, marks=pytest.mark.wide)])
def test_final_runs_answer_the_rows_and_the_report_says_what_they_bought(
    outer: Any, tmp_path: Path, tiny_model: Any
) -> None:
    protocol = {"trials": 2, "folds": 1, "seeds": [1, 2, 3], "outer": outer, "cost_seconds": 1}
    tasks, methods = [task(tmp_path / "data")], [{"name": "lora", "rank": 2}, "full"]
    study = small(tmp_path, tiny_model("bert"), tasks=tasks, protocol=protocol, methods=methods)
    described = "; ".join(map(str, check(study).items))
    assert ", 40 unlabelled rows, one of several labels" in described
    with finish(study, tmp_path / "store", costs=0) as store:
        records = store.load_records(study.study_hash, predictions=True)
    for record in records:
        assert ("unlabelled" in record.predictions) == (record.run.stage == "final")
        assert "unlabelled" not in record.result["scores"]
        if record.run.stage == "final":
            part = record.predictions["unlabelled"]
            assert len(part.uid) == 40 and set(part.label) == {NO_LABEL}
            scores = np.array(part.scores)
            assert np.array_equal(scores[range(40), part.prediction], scores.max(axis=1))
    beginning = "Differences of methods are corrected by 40 unlabelled rows"
    (of_task,) = build_report(study, records).tasks
    assert any(sentence.startswith(beginning) for sentence in of_task.sentences)
    # Runs of older stores have no such answers.
    older = [
        replace(r, predictions={k: v for k, v in r.predictions.items() if k != "unlabelled"})
        for r in records
    ]
    (without,) = build_report(study, older).tasks
    assert not any(sentence.startswith(beginning) for sentence in without.sentences)
    assert [row.score for row in without.cells] == [row.score for row in of_task.cells]
