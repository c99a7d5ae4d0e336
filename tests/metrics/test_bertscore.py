"""BERTScore against its definition, written out for one pair at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from paretune.metrics.bertscore import default_layer, score_pairs

OURS = ["the cat sat on a mat", "dog", "", "room room room water"]
THEIRS = ["the dog sat", "a dog ran to the door", "ice", "water"]


@pytest.fixture(scope="module")
def opened(tiny_model: Any) -> tuple[Any, Any]:
    folder = tiny_model("bert")
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def by_hand(ours: str, theirs: str, model: Any, tokenizer: Any, layer: int) -> float:
    vectors = []
    for text in (ours, theirs):
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**encoded, output_hidden_states=True).hidden_states[layer][0].numpy()
        vectors.append(hidden / np.linalg.norm(hidden, axis=1, keepdims=True))
    if min(map(len, vectors)) == 2:
        return 0.0
    cosines = vectors[0] @ vectors[1].T
    # The first and the last token are special: partners, but not counted.
    precision = cosines.max(axis=1)[1:-1].mean()
    recall = cosines.max(axis=0)[1:-1].mean()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_it_is_its_definition_and_batches_change_nothing(
    opened: tuple[Any, Any], layer: int
) -> None:
    expected = [by_hand(a, b, *opened, layer) for a, b in zip(OURS, THEIRS, strict=True)]
    for batch in (1, 3, 32):
        assert score_pairs(OURS, THEIRS, *opened, layer, batch=batch) == pytest.approx(
            expected, abs=1e-5
        )


def test_layers_are_slobenchs_where_the_model_is() -> None:
    assert default_layer("google-bert/bert-base-multilingual-cased", 12) == 9
    assert default_layer("roberta-large", 24) == 17
    assert default_layer("./my-model", 12) == 12
