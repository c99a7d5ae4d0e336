"""Class weights: scikit-learn's, of mean 1 over the training part; and where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from paretune import objectives
from paretune.errors import StudyError
from paretune.metrics.classification import multi_hot
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.readouts.label_words import right_answer_loss
from paretune.objectives.token_outputs import TokenLogits, TokenStates

NAMES = ("a", "b", "c")
LABELS = [0] * 12 + [1] * 6 + [2] * 2
SETS = ["110", "100", "101", "100", "000"] * 4


def rows(labels: list[Any]) -> list[Example]:
    return [Example(str(i), (("a", None),), y, "here") for i, y in enumerate(labels)]


def options_of(kind: str, labels: list[Any], weights: Any) -> Any:
    return objectives.get(kind).loss_options(rows(labels), NAMES, class_weights=weights)


def test_balanced_is_scikit_learns() -> None:
    options = options_of("classification", LABELS, "balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(np.array(options.class_weights)[:, 0], expected)
    options = options_of("multilabel", SETS, "balanced")
    for place, column in enumerate(multi_hot(SETS).T[1:], 1):
        expected = compute_class_weight("balanced", classes=np.array([False, True]), y=column)
        np.testing.assert_allclose(np.array(options.class_weights)[:, place], expected)


def test_given_weights_are_ratios() -> None:
    (a,), (b,), (c,) = options_of("pair", LABELS, {"c": 5, "b": 2}).class_weights
    assert (b / a, c / a) == pytest.approx((2, 5)) and 12 * a + 6 * b + 2 * c == pytest.approx(20)
    absent, present = options_of("multilabel", SETS, {"b": 3}).class_weights
    assert present[1] / absent[1] == pytest.approx(3)
    assert absent[0] == present[0] == absent[2] == pytest.approx(1)
    assert options_of("pair", [1, 1, 2, 2], "balanced").class_weights[1:] == ((1.0,), (1.0,))


def test_a_weighted_loss_is_torchs() -> None:
    options = options_of("classification", LABELS, "balanced")
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    data = Encoded([[[1]]] * 20, None, [1] * 20, [*LABELS], [False] * 20)
    loss = objectives.get("classification").loss(logits, data, range(20), options)
    weight = torch.tensor(options.class_weights)[:, 0]
    mean = F.cross_entropy(logits, torch.tensor(LABELS), weight)  # weights add up to 20
    torch.testing.assert_close(loss, mean * 20)


@pytest.mark.parametrize("states", [False, True])
def test_the_words_of_a_label_weigh_as_much(states: bool) -> None:
    """The right answers have one token, two, and one; the gradient is that of separate losses."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(4, 8, generator=generator, requires_grad=True)
    table = torch.randn(11, 8, generator=generator)
    tokens, texts = torch.tensor([3, 5, 7, 1]), [(0, 0), (1, 0), (2, 0)]
    data = Encoded(
        [[[9, 3]], [[9, 5, 7]], [[9, 1]]], None, [2, 3, 2], [0, 1, 2], [False] * 3,
        completion_starts=[[1]] * 3,
    )  # fmt: skip
    options = options_of("classification", LABELS, {"b": 2, "c": 7})
    logits = hidden @ table.T
    padded = torch.full((3, 2, 11), 0.0), torch.full((3, 2), -100)
    for place, (row, column) in enumerate([(0, 0), (1, 0), (1, 1), (2, 0)]):
        padded[0][row, column], padded[1][row, column] = logits[place], tokens[place]
    outputs = (
        TokenStates(hidden, table, None, tokens, texts) if states else TokenLogits(*padded, texts)
    )
    loss = right_answer_loss(outputs, data, range(3), options)
    (gradient,) = torch.autograd.grad(loss, hidden, retain_graph=True)
    (a,), (b,), (c,) = options.class_weights
    each = F.cross_entropy(logits, tokens, reduction="none") * torch.tensor([a, b, b, c])
    torch.testing.assert_close(loss, each.sum())
    torch.testing.assert_close(gradient, torch.autograd.grad(each.sum(), hidden)[0])


def test_a_weight_for_what_is_no_label_is_refused() -> None:
    with pytest.raises(StudyError, match='"d" is none of the labels'):
        options_of("classification", LABELS, {"d": 2})
