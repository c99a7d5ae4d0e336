"""Objectives: what each is, what all promise, and how texts become token ids."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
import torch

from paretune import metrics, objectives
from paretune.data.audit import CHECKS
from paretune.errors import StudyError
from paretune.exporting.card import USAGES
from paretune.objectives import LossOptions, ModelPredictions, Objective
from paretune.objectives.encoding import Encoded, encode_texts
from paretune.objectives.example import Example
from paretune.tasks import READERS
from paretune.testing import MetricContract, ObjectiveContract

EVERY = [objectives.get(name) for name in objectives.names()]


def named(objective: Objective) -> str:
    return objective.name


@pytest.mark.parametrize("objective", EVERY, ids=named)
def test_what_it_names_exists(objective: Objective) -> None:
    assert objective.reader in (*READERS, "")
    templates = files("paretune.exporting") / "templates"
    assert (templates / f"predict_{USAGES[objective.head]}.py.j2").is_file()
    assert objective.reader in CHECKS
    assert objective.accepts(metrics.get(objective.default_metric))
    assert {objective.default_metric} <= {*objective.selectable_metrics}


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


LONG = "The cat sat on the mat, and the dog slept by the door. " * 3


def make_examples(labels: list[Any], choices: int = 1) -> list[Example]:
    return [
        Example(
            f"train:{i}", tuple((f"{LONG}" if i % 3 else "water", None) for _ in range(choices)),
            label, f"line {i}",
        )
        for i, label in enumerate(labels)
    ]  # fmt: skip


class TestClassification(ObjectiveContract):
    objective = objectives.get("classification")

    def examples(self) -> list[Example]:
        return make_examples([0, 1] * 5)


class TestMultipleChoice(ObjectiveContract):
    objective = objectives.get("multiple_choice")

    def examples(self) -> list[Example]:
        return make_examples([0, 1] * 5, choices=2)


class TestRegression(ObjectiveContract):
    objective = objectives.get("regression")
    num_labels = 0

    def examples(self) -> list[Example]:
        return make_examples([0.5 * i for i in range(10)])


class TestMultilabel(ObjectiveContract):
    objective = objectives.get("multilabel")
    num_labels = 3

    def examples(self) -> list[Example]:
        return make_examples(["011", "100", "000", "111", "010"] * 2)


SCORED = [
    metric
    for metric in map(metrics.get, metrics.names())
    if metric.target_type in ("label", "number") and not metric.parts
]


@pytest.fixture(params=SCORED, ids=lambda metric: metric.name)
def metric(request: pytest.FixtureRequest) -> metrics.Metric:
    return request.param


class TestMetrics(MetricContract):
    @pytest.fixture(autouse=True)
    def choose(self, metric: metrics.Metric) -> None:
        type(self).metric = metric


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "is", "it", "a", "b", "c", "d", "e"]
    vocabulary = {w: i for i, w in enumerate(words)}
    raw = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        **special,
        model_max_length=16,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def example(*segments: tuple[str, str | None], label: int | None = 0) -> Example:
    return Example("train:0", segments, label, "train.csv line 2")


def test_the_short_question_survives_a_long_passage(tokenizer: Any) -> None:
    encoded = encode_texts([example(("what is it", "a b c d e " * 20))], tokenizer, 12)
    (ids,) = encoded.ids[0]
    assert len(ids) == 12 and encoded.lengths == [12] and encoded.truncated == [True]
    assert ids[:5] == [2, 4, 5, 6, 3]
    assert encoded.type_ids is not None and encoded.type_ids[0][0] == [0] * 5 + [1] * 7


def test_what_fits_is_what_the_tokenizer_says_and_is_not_called_cut(tokenizer: Any) -> None:
    encoded = encode_texts([example(("a", "b"), label=None), example(("c", "d"))], tokenizer, 5)
    assert encoded.ids == [[tokenizer("a", "b")["input_ids"]], [tokenizer("c", "d")["input_ids"]]]
    assert encoded.truncated == [False, False]
    assert encoded.labels == [None, 0]
    assert encoded.type_ids == [[[0, 0, 0, 1, 1]], [[0, 0, 0, 1, 1]]]


def test_every_choice_is_encoded_and_the_longest_counts(tokenizer: Any) -> None:
    row = example(("a", "b"), ("a", "b c d e b c d e"), label=1)
    encoded = encode_texts([row, row], tokenizer, 8)
    assert [len(t) for t in encoded.ids[0]] == [5, 8]
    assert encoded.lengths == [8, 8] and encoded.truncated == [True, True]
    counted = objectives.get("multiple_choice").text_lengths([row], tokenizer)
    assert counted == {"rows": [12]}
