"""What every objective says of itself holds together with the rooms that it names."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
import torch

from paretune import metrics, objectives
from paretune.data.audit import CHECKS
from paretune.data.example import Example
from paretune.errors import StudyError
from paretune.methods import available
from paretune.objectives import LossOptions, ModelPredictions, Objective, TargetScale
from paretune.objectives.encoding import Encoded
from paretune.tasks import READERS

EVERY = [objectives.get(name) for name in objectives.names()]


def named(objective: Objective) -> str:
    return objective.name


@pytest.mark.parametrize("objective", EVERY, ids=named)
def test_what_it_names_exists(objective: Objective) -> None:
    assert objective.reader in READERS
    templates = files("paretune.exporting") / "templates"
    assert (templates / f"predict_{objective.usage}.py.j2").is_file()
    assert {*objective.checks} <= {*CHECKS}
    assert {*objective.baselines, *objective.tabular_baselines, objective.probe} <= {*available()}
    assert objective.accepts(metrics.get(objective.default_metric))
    assert {objective.default_metric} <= {*objective.selectable_metrics}
    for name in objective.recorded_metrics:
        assert metrics.get(name).target_type in objective.target_types


def test_an_unknown_kind_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(StudyError, match='there is no kind "ranking"') as refused:
        objectives.get("ranking")
    assert "regression" in refused.value.remedy


def test_facts_need_no_torch() -> None:
    code = (
        "import sys, paretune.objectives, paretune.reporting.build, paretune.tasks; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def encoded(labels: list[int | float]) -> Encoded:
    n = len(labels)
    return Encoded([[[1, 2]]] * n, None, [2] * n, [*labels], [False] * n)


def examples(labels: list[int | float]) -> list[Example]:
    return [Example(str(i), (("a", None),), y, "here") for i, y in enumerate(labels)]


@pytest.mark.parametrize("name", ["classification", "multiple_choice", "answer_set"])
def test_the_loss_of_labels_is_cross_entropy(name: str) -> None:
    objective, labels = objectives.get(name), [0, 1, 1, 0]
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0], [-1.0, 1.0], [0.0, 0.0]], requires_grad=True)
    loss = objective.loss(logits, encoded(labels), [0, 1, 2, 3], LossOptions())
    loss.backward()
    probability = torch.softmax(logits.detach(), 1)
    rows = torch.arange(4)
    assert float(loss.detach()) == pytest.approx(float(-probability[rows, labels].log().sum()))
    expected = probability.clone()
    expected[rows, labels] -= 1
    assert logits.grad is not None and torch.allclose(logits.grad, expected)
    predicted = objective.predict(logits.detach().numpy(), examples(labels), None)
    assert predicted.prediction == [0, 0, 1, 0]
    assert predicted.loss == pytest.approx(float(loss.detach()) / 4)


def test_numbers_are_learnt_in_standard_deviations_and_predicted_in_their_unit() -> None:
    objective = objectives.get("regression")
    numbers = [10.0, 20.0, 60.0]
    scale = objective.fit_target(examples(numbers))
    assert scale == TargetScale(30.0, pytest.approx(np.std(numbers)))
    exact = np.array([scale.standardise(examples(numbers))], dtype=np.float64).T
    options = objective.loss_options(examples(numbers))
    loss = objective.loss(torch.tensor(exact), encoded(numbers), [0, 1, 2], options)
    assert float(loss) == pytest.approx(0.0, abs=1e-12)
    predicted = objective.predict(exact, examples(numbers), scale)
    assert predicted.prediction == pytest.approx(numbers)
    assert objectives.get("classification").fit_target(examples([0, 1])) is None


def test_scores_have_the_primary_metric_its_parts_and_what_is_always_recorded() -> None:
    predictions = ModelPredictions([0, 1, 1, 1], [[]] * 4, 0.5)
    rows = examples([0, 1, 0, 1])
    scores = objectives.get("answer_set").score(
        predictions, rows, metrics.get("f1a_em"), [0, 0, 1, 1]
    )
    assert {*scores} == {
        *("accuracy", "macro_f1", "weighted_f1", "f1a", "em"),
        *("primary", "n", "questions", "loss"),
    }
    assert scores["primary"] == (scores["f1a"] + scores["em"]) / 2
    assert (scores["n"], scores["questions"], scores["loss"]) == (4, 2, 0.5)
    plain = objectives.get("pair").score(predictions, rows, metrics.get("accuracy_f1"))
    assert {*plain} == {"accuracy", "macro_f1", "weighted_f1", "primary", "n", "loss"}


def test_a_collector_puts_logits_in_the_order_of_the_examples() -> None:
    collector = objectives.get("classification").collector(encoded([0, 1, 0]))
    collector.add([2, 0], torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    collector.add([1], torch.tensor([[1.0, 0.0]]))
    assert collector.result()[:, 0].tolist() == [0.0, 1.0, 2.0]
