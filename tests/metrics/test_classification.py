"""Scores against numbers worked out by hand, and against the values of constant answers."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.metrics.classification import PRIMARY, scores


def test_boolq_always_yes_scores_what_the_published_bars_show():
    labels = np.array([1] * 14 + [0] * 4)
    got = scores(labels, np.ones(18, dtype=int), 2, "accuracy")
    # F1 of "yes" is 2*14/(14+18) = 0.875, of "no" 0: macro 0.4375, weighted 0.875 * 14/18.
    assert got["accuracy"] == got["primary"] == pytest.approx(14 / 18)
    assert got["macro_f1"] == pytest.approx(0.4375)
    assert got["weighted_f1"] == pytest.approx(0.875 * 14 / 18)
    assert round(float(got["accuracy"]), 4) == 0.7778
    assert round(float(got["weighted_f1"]), 4) == 0.6806
    assert got["n"] == 18


def test_cb_always_entailment_scores_what_the_published_bars_show():
    labels = np.array([0] * 7 + [1] * 13 + [2] * 2)
    got = scores(labels, np.zeros(22, dtype=int), 3, "accuracy_f1")
    assert round(float(got["accuracy"]), 4) == 0.3182
    assert round(float(got["weighted_f1"]), 4) == 0.1536
    macro = (2 * 7 / (7 + 22)) / 3
    assert got["macro_f1"] == pytest.approx(macro)
    assert got["primary"] == pytest.approx((7 / 22 + macro) / 2)


def test_copa_always_the_first_choice():
    labels = np.array([0] * 55 + [1] * 45)
    got = scores(labels, np.zeros(100, dtype=int), 2, "weighted_f1")
    assert round(float(got["primary"]), 4) == 0.3903


def test_three_labels_by_hand():
    #  label 0: tp 2, asked 3, answered 2 -> 4/5; label 1: tp 2, asked 2, answered 3 -> 4/5;
    #  label 2: tp 1, asked 1, answered 1 -> 1.
    got = scores([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 2], 3, "macro_f1")
    assert got["accuracy"] == pytest.approx(5 / 6)
    assert got["macro_f1"] == pytest.approx((4 / 5 + 4 / 5 + 1) / 3)
    assert got["weighted_f1"] == pytest.approx((3 * 4 / 5 + 2 * 4 / 5 + 1) / 6)


def test_a_label_that_nobody_asks_or_answers_is_left_out_of_the_macro_mean():
    assert scores([0, 1], [0, 1], 3, "macro_f1")["macro_f1"] == 1.0
    # Answered but never asked: it counts, with F1 0.
    assert scores([0, 1], [0, 2], 3, "macro_f1")["macro_f1"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("metric", PRIMARY)
def test_every_primary_metric_is_perfect_on_perfect_answers(metric):
    assert scores([0, 1, 2, 0], [0, 1, 2, 0], 3, metric)["primary"] == 1.0


@pytest.mark.parametrize(
    ("labels", "predictions", "num_labels", "metric", "says"),
    [
        ([0, 1], [0, 1], 2, "f1", "accuracy_f1"),
        ([0, 1], [0], 2, "accuracy", "2 labels but 1"),
        ([], [], 2, "accuracy", "at least one"),
        ([0, 2], [0, 1], 2, "accuracy", "0..1"),
        ([0, 1], [0, -1], 2, "accuracy", "predictions must lie"),
        ([0.5, 1.0], [0, 1], 2, "accuracy", "integers"),
        ([[0], [1]], [0, 1], 2, "accuracy", "shape"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, predictions, num_labels, metric, says):
    with pytest.raises(ValueError, match=says):
        scores(labels, predictions, num_labels, metric)
