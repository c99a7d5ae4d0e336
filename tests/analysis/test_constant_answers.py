import pytest
from sklearn.metrics import f1_score
from support import fake_records as fake

from paretune.analysis.outcomes import find_best_constant, is_collapsed, score_constants


def test_one_answer_for_all_is_constant() -> None:
    assert is_collapsed(fake.constant(10))
    assert not is_collapsed(fake.predictions([0, 0, 1], [0, 0, 1]))
    assert not is_collapsed(fake.predictions([0], [0]))


def test_constant_scores_equal_scikit_learn() -> None:
    labels = [0, 0, 0, 1, 1, 2]
    scores = score_constants(labels, "weighted_f1")
    for label, value in scores.items():
        expected = f1_score(labels, [label] * 6, average="weighted", zero_division=0)
        assert value == pytest.approx(expected)
    assert score_constants(labels, "accuracy") == {0: 0.5, 1: 1 / 3, 2: 1 / 6}


def test_the_best_constant_is_the_first_of_equals() -> None:
    assert find_best_constant([0, 1, 1], "accuracy") == 1
    assert find_best_constant([1, 0], "accuracy") == 0
