"""Words and their tags: which piece is scored, windows, exports, and what a bad file is told."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.tiny_study import small, train
from transformers import AutoTokenizer, pipeline

from paretune import objectives
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.testing import ObjectiveContract
from paretune.testing.tiny_models import tiny_model as write_tiny_model
from paretune.testing.tiny_tasks import tiny_task
from paretune.verbs.export import export
from paretune.verbs.report import load_results

TAGS = ("O", "B-X", "I-X")
KIND = objectives.get("token_classification")
assert KIND.for_labels is not None
OBJECTIVE = KIND.for_labels(KIND, TAGS)
WORDS = ["the", "cat", "sat", "on", "unbelievable", "mats", ",", "water", "café"]


def tagged(lengths: list[int], words: list[str] = WORDS) -> list[Example]:
    draw = random.Random(1)  # noqa: S311
    rows = [[draw.choice(words) for _ in range(n)] for n in lengths]
    return [
        Example(
            f"test:{i}", ((" ".join(row), None),), None, f"line {i}",
            target=" ".join(draw.choice(TAGS) for _ in row),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip


class TestTokenClassification(ObjectiveContract):
    objective = OBJECTIVE
    num_labels = 3

    def examples(self) -> list[Example]:
        return tagged([30, 1, 5, 12, 2, 60, 3, 9])

    def draw_outputs(self) -> torch.Tensor:
        return torch.randn(24, 16, 3, generator=torch.Generator().manual_seed(1))

    def make_outputs(self, outputs: torch.Tensor, indices: Any) -> Any:
        places = self.rows.word_places or []
        return torch.cat([outputs[i, places[i]] for i in indices])

    @pytest.fixture
    def data(self, tmp_path: Path) -> Encoded:
        self.rows = encode(self.examples(), "bert", tmp_path, 16)
        return self.rows


def encode(examples: list[Example], family: str, folder: Path, length: int) -> Encoded:
    tokenizer = AutoTokenizer.from_pretrained(write_tiny_model(family, folder))
    return OBJECTIVE.encode(examples, tokenizer, length, "")


@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_a_word_is_scored_once_at_its_first_piece_in_the_middle_of_a_window(
    family: str, tmp_path: Path
) -> None:
    examples = [*tagged([1, 40]), *tagged([5], ["the", "\u200b", "unbelievable"])]
    whole, cut = (encode(examples, family, tmp_path / "m", length) for length in (500, 12))
    assert whole.owners == [0, 1, 2] and cut.owners is not None and cut.owners.count(1) > 3
    assert whole.word_places and cut.word_places and whole.word_labels and cut.word_labels
    assert [*map(len, whole.word_places)] == [1, 40, 5]
    begun = [[whole.ids[1][0][place] for place in whole.word_places[1]], list[int]()]
    for row, places in enumerate(cut.word_places):
        if cut.owners[row] == 1:
            begun[1] += [cut.ids[row][0][place] for place in places]
    assert begun[0] == begun[1]  # no word is lost, none is scored twice
    labels = [
        label for row, o in zip(cut.word_labels, cut.owners, strict=True) for label in row if o
    ]
    assert labels == [*whole.word_labels[1], *whole.word_labels[2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_loss_is_torchs_over_the_words(
    dtype: torch.dtype, weights: Any, tmp_path: Path
) -> None:
    examples = tagged([30, 3])
    data = encode(examples, "bert", tmp_path, 16)
    options = OBJECTIVE.loss_options(examples, TAGS, class_weights=weights)
    logits = torch.randn(33, 3, generator=torch.Generator().manual_seed(2)).to(dtype)
    logits.requires_grad_(True)
    rows = range(len(data.ids))
    loss = OBJECTIVE.loss(logits, data, rows, options)
    tags = [TAGS.index(tag) for e in examples for tag in str(e.target).split()]
    assert OBJECTIVE.weight(data, rows) == len(tags) == 33
    weight = None if weights == "none" else 11 / torch.bincount(torch.tensor(tags))
    again = logits.detach().float().requires_grad_(True)
    expected = F.cross_entropy(again, torch.tensor(tags), weight, reduction="sum")
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and again.grad is not None
    torch.testing.assert_close(logits.grad.float(), again.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize(("family", "max_length"), [("bert", 64), ("llama", 64), ("bert", 12)])
def test_an_export_gives_the_stored_answers(
    family: str, max_length: int, tmp_path: Path, tiny_model: Any
) -> None:
    """By the card's program, in windows too; where nothing is cut, by the pipeline."""
    task = tiny_task(tmp_path / "data", "token_classification", test=20)
    training = {"max_steps": 40, "eval_every": 20, "max_length": max_length}
    study, store = train(
        small(
            tmp_path, tiny_model(family), tasks=[task.model_dump(exclude_none=True)],
            methods=[{"name": "lora", "rank": 4, "learning_rates": [2e-2]}], training=training,
            protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
        ),
        tmp_path / "store",
    )  # fmt: skip
    out = tmp_path / "out"
    done = export(study, store=store, method="lora", form="merged", output=out)
    assert (done.answers.rows, done.answers.different) == (20, 0)
    records = (r for r in load_results(study, store).records if r.run.method.name == "lora")
    record = next(r for r in records if r.run.stage == "final")
    assert "entity_f1 X" in record.result["scores"]["test"]
    stored = record.predictions["test"].prediction
    assert len({tag for tags in stored for tag in str(tags).split()}) == 2
    if max_length == 64:
        tagger = pipeline("token-classification", model=str(out), ignore_labels=[])
        texts = [row["text"] for row in csv.DictReader((tmp_path / "data/test.csv").open())]
        for text, tags in zip(texts, stored, strict=True):
            answers = {piece["start"]: piece["entity"] for piece in reversed(tagger(text))}
            starts = [word.start() for word in re.finditer("[^ ]+", text)]
            # A piece of a decoder begins with the blank before its word.
            tagged = [answers[b] if b in answers else answers[b - 1] for b in starts]
            assert " ".join(tagged) == tags
