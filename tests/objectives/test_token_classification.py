"""Words and their tags: which piece is scored, windows, exports, and what a bad file is told."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_study import small, train
from transformers import AutoTokenizer, pipeline

from paretune import objectives
from paretune.data.example import Example
from paretune.objectives.encoding import Encoded
from paretune.objectives.token_classification import find_words
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
            starts = [begin for begin, _ in find_words(text)]
            # A piece of a decoder begins with the blank before its word.
            tagged = [answers[b] if b in answers else answers[b - 1] for b in starts]
            assert " ".join(tagged) == tags
