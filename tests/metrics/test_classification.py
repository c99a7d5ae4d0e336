"""Label metrics against numbers worked out by hand, and against the values of constant answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from paretune import metrics
from paretune.metrics.classification import METRICS


def compute(name: str, references: Sequence[int], predictions: Sequence[int]) -> float:
    return metrics.get(name).compute(references, predictions, ())


def test_boolq_always_yes_scores_what_the_published_bars_show() -> None:
    references, predictions = [1] * 14 + [0] * 4, [1] * 18
    # F1 of "yes" is 2*14/(14+18) = 0.875, of "no" 0: macro 0.4375, weighted 0.875 * 14/18.
    assert compute("accuracy", references, predictions) == pytest.approx(14 / 18)
    assert compute("macro_f1", references, predictions) == pytest.approx(0.4375)
    assert compute("weighted_f1", references, predictions) == pytest.approx(0.875 * 14 / 18)
    assert round(compute("accuracy", references, predictions), 4) == 0.7778
    assert round(compute("weighted_f1", references, predictions), 4) == 0.6806


def test_cb_always_entailment_scores_what_the_published_bars_show() -> None:
    references, predictions = [0] * 7 + [1] * 13 + [2] * 2, [0] * 22
    assert round(compute("accuracy", references, predictions), 4) == 0.3182
    assert round(compute("weighted_f1", references, predictions), 4) == 0.1536
    macro = (2 * 7 / (7 + 22)) / 3
    assert compute("macro_f1", references, predictions) == pytest.approx(macro)
    assert compute("accuracy_f1", references, predictions) == pytest.approx((7 / 22 + macro) / 2)


def test_copa_always_the_first_choice() -> None:
    assert round(compute("weighted_f1", [0] * 55 + [1] * 45, [0] * 100), 4) == 0.3903


def test_three_labels_by_hand() -> None:
    #  label 0: tp 2, references 3, predictions 2 -> 4/5; label 1: tp 2, 2, 3 -> 4/5; label 2: 1.
    references, predictions = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 2]
    assert compute("accuracy", references, predictions) == pytest.approx(5 / 6)
    assert compute("macro_f1", references, predictions) == pytest.approx((4 / 5 + 4 / 5 + 1) / 3)
    weighted = (3 * 4 / 5 + 2 * 4 / 5 + 1) / 6
    assert compute("weighted_f1", references, predictions) == pytest.approx(weighted)


def test_a_label_that_nobody_has_or_predicts_is_left_out_of_the_macro_mean() -> None:
    assert compute("macro_f1", [0, 1], [0, 1]) == 1.0
    # Predicted but never a reference: it counts, with F1 0.
    assert compute("macro_f1", [0, 1], [0, 2]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(12))
def test_sums_give_scikit_learns_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = int(rng.integers(2, 7))
    label = rng.integers(0, labels, 40)
    # Some seeds never predict the last label, or predict one that nobody has.
    answer = rng.integers(0, labels - 1 + (seed % 3), 40)
    accuracy = accuracy_score(label, answer)
    f1 = {a: f1_score(label, answer, average=a, zero_division=0) for a in ("macro", "weighted")}
    expected = {
        "accuracy": accuracy,
        "macro_f1": f1["macro"],
        "weighted_f1": f1["weighted"],
        "accuracy_f1": (accuracy + f1["macro"]) / 2,
    }
    for name, value in expected.items():
        assert compute(name, list(label), list(answer)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS[:4], ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [
        ([0, 1], [0], "2 references but 1"),
        ([], [], "0 references"),
        ([0, 1], [0, -2], "predictions: expected label indices"),
        ([0.5, 1.0], [0, 1], "references: expected label indices"),
        ([[0], [1]], [0, 1], "expected .examples,."),
    ],
)
def test_what_cannot_be_scored_is_refused(
    metric: metrics.Metric, references: list[int], predictions: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric.compute(references, predictions, ())


def test_a_prediction_of_no_label_is_a_miss_and_nobodys_mistake() -> None:
    references, predictions = [0, 0, 1, 1], [0, -1, 1, -1]
    # Both labels: 1 hit, 1 prediction, 2 references: F1 = 2 / 3; there is no third label.
    assert compute("accuracy", references, predictions) == 0.5
    for name in ("macro_f1", "weighted_f1"):
        assert compute(name, references, predictions) == pytest.approx(2 / 3)
    assert compute("macro_f1", references, [-1] * 4) == 0.0
    with pytest.raises(ValueError, match="label indices"):
        compute("accuracy", [-1, 0], [0, 0])
