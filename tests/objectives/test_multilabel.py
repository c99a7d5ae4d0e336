"""Several labels: loss and thresholds, beside torch and what is best by trial."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from paretune import objectives
from paretune.methods import configure
from paretune.metrics.classification import multi_hot
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.study import MethodSpec

OBJECTIVE = objectives.get("multilabel")
WORDS = ("cat", "dog", "ice")


def draw(rows: int = 40, seed: int = 0) -> tuple[list[Example], np.ndarray[Any, Any]]:
    """Examples whose text names their labels, the last of which none has; and logits."""
    generator = np.random.default_rng(seed)
    table = generator.random((rows, 4)) < [0.5, 0.3, 0.1, 0.0]
    examples = [
        Example(
            str(i),
            ((" ".join(["a", *(w for w, h in zip(WORDS, row, strict=False) if h), str(i)]), None),),
            "".join("01"[int(has)] for has in row),
            "here",
        )
        for i, row in enumerate(table)
    ]
    logits = 2.0 * table + generator.normal(size=table.shape) - 1.5
    return examples, logits.astype(np.float32)


def encode(examples: list[Example]) -> Encoded:
    n = len(examples)
    return Encoded([[[1, 2]]] * n, None, [2] * n, [e.label for e in examples], [False] * n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_torchs(dtype: torch.dtype, weighted: bool) -> None:
    examples, logits = draw()
    outputs = torch.tensor(logits).to(dtype).requires_grad_(True)
    weights = ((0.5, 1.0, 0.8, 1.0), (1.5, 1.0, 3.0, 1.0))
    options = LossOptions(class_weights=weights if weighted else None)
    loss = OBJECTIVE.loss(outputs, encode(examples), range(len(examples)), options)
    loss.backward()  # type: ignore[no-untyped-call]
    true = torch.tensor(multi_hot(e.label for e in examples)).float()
    absent, present = torch.tensor(weights)
    again = outputs.detach().float().requires_grad_(True)
    named = {"weight": absent, "pos_weight": present / absent} if weighted else {}
    expected = F.binary_cross_entropy_with_logits(again, true, **named) * len(examples)
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
    assert outputs.grad is not None and again.grad is not None
    torch.testing.assert_close(outputs.grad.float(), again.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_has_a_higher_f1(seed: int) -> None:
    examples, logits = draw(seed=seed)
    predictions = OBJECTIVE.predict(np.round(logits, 1), examples, None)
    parts, thresholds = OBJECTIVE.decide({"selection": predictions}, examples)
    assert thresholds[3] == 0.5  # no example has that label
    decided = multi_hot(parts["selection"].prediction)
    true = multi_hot(e.label for e in examples)
    probabilities = 1 / (1 + np.exp(-np.array(predictions.scores)))
    for label in range(3):
        column = probabilities[:, label]
        best = max(f1_score(true[:, label], column > t, zero_division=0) for t in [-1.0, *column])
        assert f1_score(true[:, label], decided[:, label]) == pytest.approx(best)
    assert OBJECTIVE.decide({"test": predictions}, []) == ({"test": predictions}, ())


@pytest.mark.parametrize("name", ["majority", "tfidf"])
def test_a_baseline_has_a_logit_for_each_label(name: str) -> None:
    examples, _ = draw(120)
    train, test = examples[:80], examples[80:]
    method = configure(MethodSpec(name=name))
    scores = method.fit(train, 4, 1)(test)  # type: ignore[union-attr]
    assert scores.shape == (40, 4) and np.isfinite(scores).all()
    share = multi_hot(e.label for e in train).sum(axis=0)
    expected = np.log((share + 1) / (len(train) - share + 1))
    if name == "majority":
        np.testing.assert_allclose(scores, np.tile(expected, (40, 1)))
    else:
        predicted = multi_hot(OBJECTIVE.predict(scores, test, None).prediction)
        assert f1_score(multi_hot(e.label for e in test)[:, 0], predicted[:, 0]) > 0.9
