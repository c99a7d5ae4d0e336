"""Regression, and a table whose rows become sentences, from files to the exported model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_study import small

from paretune import methods, metrics, objectives
from paretune.errors import MethodError, StudyError
from paretune.methods import baselines
from paretune.methods.core.options import MethodOptions
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.objective import TargetScale
from paretune.objectives.regression import fit_target_scale
from paretune.study import TaskSpec
from paretune.tasks import load_dataset as load_task
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training.trainer import train_run
from paretune.verbs.check import check


def numbers(labels: list[float]) -> list[Example]:
    return [Example(f"train:{i}", ((f"row {i}", None),), y, "x") for i, y in enumerate(labels)]


REGRESSION = objectives.get("regression")


def loss_of(outputs: torch.Tensor, examples: list[Example], scale: TargetScale) -> float:
    """The summed loss of outputs for these examples."""
    count = range(len(examples))
    labels = [example.label for example in examples]
    data = Encoded([[[1]] for _ in count], None, [1 for _ in count], labels, [False for _ in count])
    return float(REGRESSION.loss(outputs, data, count, LossOptions(scale)))


def table(folder: Path, rows: int = 60) -> Path:
    """Houses whose price follows from their rooms and kind; "year" is missing here and there."""
    folder.mkdir(exist_ok=True)
    rng = random.Random(1)  # noqa: S311 (a toy's prices, no secret)
    for part, count in (("train", rows), ("test", 30)):
        lines = ["id,rooms,kind,year,price"]
        for i in range(count):
            rooms, kind = rng.randint(1, 9), rng.choice(["flat", "house"])
            year = "" if i % 7 == 0 else str(rng.randint(1900, 2020))
            price = 20_000 * rooms + 50_000 * (kind == "house") + rng.randint(0, 5000)
            lines.append(f"{part}{i},{rooms},{kind},{year},{price}")
        (folder / f"{part}.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "train.csv"


def houses(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "houses",
        "kind": "regression",
        "train": str(table(folder)),
        "test": str(folder / "test.csv"),
        "features": ["rooms", "kind", "year"],
        "label": "price",
        "id": "id",
        **changes,
    }


def test_a_scale_is_that_of_the_training_part() -> None:
    scale = fit_target_scale(numbers([1.0, 3.0, 5.0]))
    assert scale == TargetScale(3.0, pytest.approx(np.std([1, 3, 5])))
    assert fit_target_scale(numbers([2.0, 2.0])) == TargetScale(2.0, 1.0)
    assert fit_target_scale([Example("train:0", (("a", None),), 1, "x")]) is None


def test_losses_and_answers_are_in_units_of_the_scale() -> None:
    scale, out = TargetScale(100.0, 20.0), torch.tensor([[0.5], [-1.0]])
    labels = numbers([120.0, 100.0])
    expected = ((0.5 - 1.0) ** 2 + (-1.0 - 0.0) ** 2) / 2
    assert loss_of(out, labels, scale) == pytest.approx(expected)
    predictions = REGRESSION.predict(out.numpy(), labels, scale)
    assert predictions.loss == pytest.approx(expected / 2)
    assert predictions.prediction == [110.0, 80.0]
    # Far from zero a float32 would round the labels themselves: they are scaled in float64.
    far = TargetScale(1e9, 1.0)
    assert loss_of(torch.tensor([[0.25]]), numbers([1e9 + 0.25]), far) == 0.0


def test_a_number_is_learnt_scored_and_kept_in_its_unit(tmp_path: Path, tiny_model: Any) -> None:
    task = tiny_task(tmp_path, "regression", train=60, test=20)
    run = tiny_run(
        task,
        tiny_model("bert"),
        "full",
        learning_rate=3e-3,
        training={"max_steps": 60, "eval_every": 30, "patience": None},
    )
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    scores = outcome.result["scores"]["test"]
    assert outcome.result["outcome"] == "ok" and scores["primary"] == scores["r2"] > 0.5
    predictions = json.loads(outcome.blobs["predictions"])["test"]
    answers = predictions["prediction"]
    assert 0.2 < np.mean(answers) < 1.8
    assert metrics.get("r2").compute(predictions["label"], answers) == scores["r2"]
    assert {*scores} == {"r2", "pearson", "spearman", "rmse", "mae", "primary", "n", "loss"}
    assert 0.9 < outcome.result["target"]["mean"] < 1.1


def test_a_run_that_learns_nothing_has_collapsed(tmp_path: Path, tiny_model: Any) -> None:
    task = tiny_task(tmp_path, "regression")
    run = tiny_run(task, tiny_model("bert"), "head_only", learning_rate=0.0)
    run = run.model_copy(update={"training": run.training.model_copy(update={"max_steps": 1})})
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    assert outcome.result["outcome"] == "ok"  # an untrained head is no constant
    run = tiny_run(task, tiny_model("bert"), "majority", learning_rate=None)
    outcome = train_run(run, checkpoint=tmp_path / "y", report=silent)
    assert outcome.result["outcome"] == "collapsed"
    assert outcome.result["scores"]["test"]["r2"] == pytest.approx(0.0, abs=0.2)


def test_baselines_find_numbers() -> None:
    train = numbers([float(i % 2) for i in range(40)])
    train = [
        Example(e.uid, ((f"{'warm' if e.label else 'cold'} day", None),), e.label, "x")
        for e in train
    ]
    scale = fit_target_scale(train)
    for fit in (baselines.fit_majority, baselines.fit_tfidf):
        scores = fit(train, 1, MethodOptions(), 0)(train)
        assert scores.shape == (40, 1)
        answers = np.array(REGRESSION.predict(scores, train, scale).prediction)
        error = np.abs(answers - [float(e.label or 0.0) for e in train]).mean()
        assert error == pytest.approx(0.5) if fit is baselines.fit_majority else error < 0.1


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_gradient_boosting_reads_the_columns(tmp_path: Path, kind: str) -> None:
    label = {"regression": "price", "classification": "kind"}[kind]
    columns = {"regression": ["rooms", "kind", "year"], "classification": ["rooms", "price"]}[kind]
    data = load_task(TaskSpec(**houses(tmp_path, kind=kind, label=label, features=columns)))
    fitted = baselines.fit_gradient_boosting(data.train, len(data.labels), MethodOptions(), 0)
    objective = objectives.get(kind)
    scale = objective.fit_target(data.train)
    answers = objective.predict(fitted(data.test), data.test, scale).prediction
    labels = [e.label for e in data.test]
    if kind == "regression":
        assert metrics.get("r2").compute(labels, answers) > 0.6
    else:
        assert np.mean([a == b for a, b in zip(labels, answers, strict=True)]) > 0.6


def test_what_train_did_not_know_counts_as_missing(tmp_path: Path) -> None:
    data = load_task(TaskSpec(**houses(tmp_path)))
    fitted = baselines.fit_gradient_boosting(data.train, 1, MethodOptions(), 0)
    strange = Example("test:x", data.test[0].segments, 0.0, "x", None, (3.0, "castle", None))
    assert np.isfinite(fitted([strange])).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "kind"}, "features replace text"),
        ({"kind": "pair", "text_pair": "kind"}, "features replace text_pair"),
        ({"kind": "multiple_choice"}, "features go with kind classification or regression"),
        ({"features": ["rooms", "price"]}, "not the label"),
        ({"metric": "accuracy"}, "metric accuracy is none of regression: r2, pearson, spearman"),
        ({"labels": ["a", "b"]}, "a regression has numbers"),
    ],
)
def test_a_study_file_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskSpec(**houses(tmp_path, **changes))


def test_a_template_that_cannot_be_is_told_with_the_features(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"\{room\}.*Write each of \{rooms\}, \{kind\}, \{year\}"):
        load_task(TaskSpec(**houses(tmp_path, template="{room} {kind} {year}")))


def test_check_refuses_what_a_method_cannot_serve(tmp_path: Path, tiny_model: Any) -> None:
    """Before anything is trained, with the reason; the other methods are looked at all the same."""
    study = small(tmp_path, tiny_model("bert"), methods=["gradient_boosting", "head_only"])
    seen = check(study)
    (error,) = seen.errors
    assert isinstance(error, MethodError)
    assert "reads the columns of a table, and the task has none" in str(error)
    assert [s.name for s in seen.items if s.kind == "step"] == ["words x tiny x head_only"]
    translation = objectives.get("translation")
    assert (
        methods.refusal(methods.get("gradient_boosting"), translation, tabular=False)
        == "gradient boosting serves other tasks, not translation"
    )
