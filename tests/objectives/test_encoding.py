"""Encoding with a real fast tokenizer: cuts, choices, and texts with and without a second."""

from __future__ import annotations

from typing import Any

import pytest

from paretune.data.example import Example
from paretune.objectives.encoding import count_tokens, encode_texts, pad_batch


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
    encoded = encode_texts([example(("a b", None), label=None), example(("c", "d"))], tokenizer, 5)
    assert encoded.ids == [[tokenizer("a b")["input_ids"]], [tokenizer("c", "d")["input_ids"]]]
    assert encoded.truncated == [False, False]
    assert encoded.labels == [None, 0]
    assert encoded.type_ids == [[[0] * 4], [[0, 0, 0, 1, 1]]]


def test_every_choice_is_encoded_and_the_longest_counts(tokenizer: Any) -> None:
    row = example(("a", "b"), ("a", "b c d e b c d e"), label=1)
    encoded = encode_texts([row, row], tokenizer, 8)
    assert [len(t) for t in encoded.ids[0]] == [5, 8]
    assert encoded.lengths == [8, 8] and encoded.truncated == [True, True]
    assert count_tokens([row], tokenizer) == [12]


def test_no_examples_encode_to_nothing(tokenizer: Any) -> None:
    assert encode_texts([], tokenizer, 8).ids == [] and count_tokens([], tokenizer) == []


def test_padding_has_the_shape_of_the_batch(tokenizer: Any) -> None:
    encoded = encode_texts([example(("a", None)), example(("a b c", None))], tokenizer, 8)
    batch = pad_batch(encoded, [1, 0], pad_id=9)
    assert batch["input_ids"].tolist() == [[2, 7, 8, 9, 3], [2, 7, 3, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["token_type_ids"].shape == (2, 5)
    assert {v.dtype.name for v in batch.values()} == {"int64"}
    several = encode_texts([example(("a", "b"), ("a", "b c"))], tokenizer, 8)
    assert pad_batch(several, [0], 0)["input_ids"].shape == (1, 2, 6)


def test_a_tokenizer_without_type_ids_makes_none(tokenizer: Any) -> None:
    names = tokenizer.model_input_names
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    try:
        encoded = encode_texts([example(("a", "b"))], tokenizer, 8)
    finally:
        tokenizer.model_input_names = names
    assert encoded.type_ids is None
    assert set(pad_batch(encoded, [0], 0)) == {"input_ids", "attention_mask"}
