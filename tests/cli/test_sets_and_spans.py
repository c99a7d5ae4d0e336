"""Answer sets and span pairs from runs to report; every method that serves pairs serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import finish, small, superglue

from paretune import methods, objectives
from paretune.study import Study, TaskSpec
from paretune.tasks import load_dataset
from paretune.verbs.report import report


@pytest.fixture
def study(tmp_path: Path, tiny_model: Any) -> Study:
    source = str(superglue(tmp_path / "data", "zips"))
    return small(
        tmp_path,
        tiny_model("bert"),
        tasks=[{"name": n, "language": "sl", "source": source} for n in ("multirc", "wsc")],
        training={"max_steps": 2, "eval_every": 2, "max_length": 48, "precision": "fp32"},
    )


def test_predictions_keep_questions_and_groups_for_the_report(study: Study, tmp_path: Path) -> None:
    with finish(study, tmp_path / "store", costs=1) as store:
        states = store.load_statuses(study.study_hash)
        assert [s.message for s in states if s.state == "failed"] == []
        records = store.load_records(study.study_hash, predictions=True)
    final = [r for r in records if r.run.stage == "final"]
    for record in final:
        test, scores = record.predictions["test"], record.result["scores"]["test"]
        if record.run.task.name == "wsc":
            assert len(set(test.cluster)) == 5 and test.question == () and "f1a" not in scores
            continue
        assert len(test.uid) == 40 and test.uid[5] == "test:1/2/5"
        assert test.question[:6] == (0, 0, 1, 1, 2, 2)
        assert test.cluster[:6] == (0, 0, 0, 0, 1, 1)
        assert scores["primary"] == pytest.approx((scores["f1a"] + scores["em"]) / 2)
        assert (scores["n"], scores["questions"]) == (40, 20)
        selected = record.predictions["selection"]
        assert len(set(selected.cluster)) == 4 and len(selected.uid) == 16

    tasks = {task.key: task for task in report(study, store=tmp_path / "store").tasks}
    multirc = tasks["multirc-sl"]
    assert multirc.metric_title == "mean of F1a and EM"
    assert multirc.basis.startswith("40 test answers to 20 questions in 10 groups, ")
    assert {row.score.n_clusters for row in multirc.cells if row.score} == {10}
    assert tasks["wsc-sl"].basis.startswith("10 test examples in 5 groups, ")
    assert all(row.score for task in tasks.values() for row in task.cells)
    assert all(row.verdict for task in tasks.values() for row in task.methods)


@pytest.mark.parametrize("name", ["multirc", "wsc"])
@pytest.mark.parametrize("language", ["sl", "en"])
def test_every_method_that_serves_pairs_serves_them(
    name: str, language: str, tmp_path: Path
) -> None:
    source = superglue(tmp_path, "folders")
    kind = load_dataset(TaskSpec(name=name, language=language, source=str(source))).kind
    for method in methods.available().values():
        pairs = methods.refusal(method, objectives.get("pair"), tabular=False)
        assert bool(methods.refusal(method, objectives.get(kind), tabular=False)) == bool(pairs)
