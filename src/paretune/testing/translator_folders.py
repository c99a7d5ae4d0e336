"""Whole tiny translation models of three families in folders: random weights and a tokenizer.

The weights are those of tiny_translators.py, so no bias is 0 and no shape like another; the
tokenizers know the words of tiny_marian.py. Marian's is SentencePiece, as OPUS-MT comes; those of
T5 and mBART are the families' own fast ones, and mBART's knows the codes
of the languages of mBART-50.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretune.testing.tiny_marian import WORDS, tiny_marian
from paretune.testing.tiny_translators import tiny_translator

TRANSLATORS = ("marian", "t5", "mbart")
POSITIONS = 128


def translator_folder(family: str, folder: Path) -> Path:
    """Write a checkpoint that translates "sl" to "en"; the same bits every time."""
    if family == "marian":
        tiny_marian(folder)
        tokenizer = None
        size = _rows(folder)
        config = {"pad_token_id": size - 1, "decoder_start_token_id": size - 1, "eos_token_id": 0,
                "bos_token_id": None, "forced_eos_token_id": 0}  # fmt: skip
    else:
        tokenizer = _tokenizer(family)
        size = max(tokenizer.get_vocab().values()) + 1
        config = {"eos_token_id": tokenizer.eos_token_id}
    if family != "t5":
        config["max_position_embeddings"] = POSITIONS
    model = tiny_translator(family, vocab_size=size, **config)
    model.generation_config.num_beams = 2
    if tokenizer is not None and family == "mbart":  # or half of what it says are languages
        model.final_logits_bias[:, tokenizer.all_special_ids] = -20.0
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def _rows(folder: Path) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder).vocab_size)


def _tokenizer(family: str) -> Any:
    from transformers import MBart50Tokenizer, T5Tokenizer

    if family == "t5":
        special = ("<pad>", "</s>", "<unk>")
        return T5Tokenizer(_pieces(special), extra_ids=0, model_max_length=POSITIONS)
    vocabulary = _pieces(("<unk>", "<s>", "</s>"))
    return MBart50Tokenizer(vocabulary, model_max_length=POSITIONS)


def _pieces(special: tuple[str, ...]) -> list[tuple[str, float]]:
    """Unigrams with their scores: the known words, with the mark of their start, and letters."""
    words = sorted({*WORDS, *WORDS.values()})
    entries = [("\u2581", -4.0), *((f"\u2581{word}", -4.0) for word in words)]
    entries += [(letter, -8.0) for letter in sorted(set("".join(words)))]
    return [(piece, 0.0) for piece in special] + entries
