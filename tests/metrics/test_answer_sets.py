"""F1a and EM: by hand, against scikit-learn, and as SloBench computes them on its sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from paretune.analysis.scores import score
from paretune.metrics import answer_sets


def test_by_hand() -> None:
    label = [1, 0, 1, 0, 1, 1]
    answer = [1, 0, 1, 1, 1, 0]
    found = answer_sets.scores(label, answer, [0, 0, 0, 1, 1, 2], "f1a_em")
    assert found["f1a"] == pytest.approx(2 * 3 / (4 + 4))
    assert found["em"] == pytest.approx(1 / 3)
    assert found["primary"] == pytest.approx((0.75 + 1 / 3) / 2)
    assert (found["n"], found["questions"]) == (6, 3)
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_a_question_need_not_stand_together() -> None:
    label, answer = [1, 0, 1, 0], [1, 1, 1, 0]
    apart = answer_sets.scores(label, answer, [0, 1, 0, 1], "f1a_em")
    assert apart["em"] == 0.5
    assert score(label, answer, "f1a_em", [0, 1, 0, 1]) == apart["primary"]


@pytest.mark.parametrize("seed", range(5))
def test_f1a_is_scikit_learns_and_the_analysis_agrees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, answer = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    question = [int(q) for q in rng.integers(0, 15, 60)]
    found = answer_sets.scores(label, answer, question, "f1a_em")
    assert found["f1a"] == pytest.approx(f1_score(label, answer))
    whole = [all((label == answer)[np.array(question) == q]) for q in sorted(set(question))]
    assert found["em"] == pytest.approx(np.mean(whole))
    assert score(label, answer, "f1a_em", question) == pytest.approx(found["primary"])


def test_nothing_right_and_nothing_called_right() -> None:
    found = answer_sets.scores([0, 0], [0, 0], [0, 1], "f1a_em")
    assert (found["f1a"], found["em"], found["primary"]) == (0, 1, 0.5)
    assert score([0, 0], [0, 0], "f1a_em", [0, 1]) == 0.5


def test_other_metrics_decide_where_they_are_asked_for() -> None:
    found = answer_sets.scores([1, 0], [1, 1], [0, 0], "accuracy")
    assert (found["primary"], found["em"]) == (0.5, 0)
    with pytest.raises(ValueError, match="not one of answer sets"):
        answer_sets.scores([1, 0], [1, 1], [0, 0], "r2")
    with pytest.raises(ValueError, match="2 labels but 1 questions"):
        answer_sets.scores([1, 0], [1, 1], [0], "f1a_em")


def judged(path: Path) -> dict[tuple[int, int, int], int]:
    rows: list[Any] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {
        (row["idx"], question["idx"], answer["idx"]): answer["label"]
        for row in rows
        for question in row["passage"]["questions"]
        for answer in question["answers"]
    }


def test_slobenchs_sample(shared: Path) -> None:
    """Its evaluator says F1a .4, EM 0, mean .2."""
    folder = shared / "data" / "slobench-samples" / "question_answering"
    truth = judged(folder / "sample_reference_dataset" / "MultiRC.jsonl")
    given = judged(folder / "sample_submission" / "MultiRC.jsonl")
    assert truth.keys() == given.keys()
    questions: dict[tuple[int, int], int] = {}
    asked = [questions.setdefault(key[:2], len(questions)) for key in truth]
    found = answer_sets.scores(list(truth.values()), [given[key] for key in truth], asked, "f1a_em")
    assert (found["f1a"], found["em"]) == (pytest.approx(0.4), 0)
    assert found["primary"] == pytest.approx(0.2)
