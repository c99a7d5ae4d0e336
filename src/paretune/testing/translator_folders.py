"""Tiny translation models as folders: an OPUS-MT with a language it can learn, T5 and mBART.

Random weights, and tokenizers that know the words of that language: Slovene words set to English
ones, one by one, in the same order. Marian's is SentencePiece, as OPUS-MT comes; those of T5 and
mBART are the families' own fast ones, and mBART's knows the codes of the languages of mBART-50.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import sentencepiece
import torch
from transformers import AutoConfig, MarianConfig, MarianMTModel, MBart50Tokenizer, T5Tokenizer

from paretune.study import TaskSpec
from paretune.testing.tiny_translators import tiny_translator

WORDS = {
    "mačka": "cat", "pes": "dog", "hiša": "house", "voda": "water", "okno": "window",
    "miza": "table", "knjiga": "book", "drevo": "tree", "rdeča": "red", "velika": "big",
    "stara": "old", "nova": "new", "gre": "goes", "stoji": "stands", "bere": "reads",
    "čaka": "waits",
}  # fmt: skip


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of two to seven words, no two equal."""
    rng = random.Random(seed)  # noqa: S311 (a toy's words, no secret)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        words = rng.choices(list(WORDS), k=rng.randint(2, 7))
        pairs[" ".join(words)] = " ".join(WORDS[word] for word in words)
    return list(pairs.items())


def tiny_marian(folder: Path, source: str = "sl", target: str = "en") -> Path:
    """A checkpoint that ``from_pretrained`` opens, 2 + 2 layers, always the same bits."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(text for pair in sentences(80, 0) for text in pair))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spm"), vocab_size=90, num_threads=1,
        hard_vocab_limit=False, bos_id=-1, eos_id=0, unk_id=1, minloglevel=2,
    )  # fmt: skip
    corpus.unlink()
    pieces = [line.split("\t")[0] for line in (folder / "spm.vocab").read_text().splitlines()]
    (folder / "spm.vocab").unlink()
    content = (folder / "spm.model").read_bytes()
    (folder / "spm.model").unlink()
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(content)
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    tokenizer_config = {
        "tokenizer_class": "MarianTokenizer", "source_lang": source, "target_lang": target,
        "model_max_length": 64, "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    config = MarianConfig(
        vocab_size=len(vocabulary), decoder_vocab_size=len(vocabulary), d_model=32,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, scale_embedding=True,
        pad_token_id=vocabulary["<pad>"], decoder_start_token_id=vocabulary["<pad>"],
        eos_token_id=0, forced_eos_token_id=0, num_beams=2, max_length=64, dropout=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MarianMTModel(config)
    model.generation_config.num_beams = 2
    model.save_pretrained(folder)
    return folder


def tiny_pairs(folder: Path, train: int = 60, test: int = 10, name: str = "words") -> TaskSpec:
    """The task of that language, Slovene to English, in TSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = sentences(train + test, 1)
    for part, rows in (("train", pairs[:train]), ("test", pairs[train:])):
        with (folder / f"{part}.tsv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t").writerows([("sl", "en"), *rows])
    return TaskSpec(
        name=name, kind="translation", source_lang="sl", target_lang="en",
        train=str(folder / "train.tsv"), test=str(folder / "test.tsv"),
    )  # fmt: skip


TRANSLATORS = ("marian", "t5", "mbart")
POSITIONS = 128


def translator_folder(family: str, folder: Path) -> Path:
    """Write a checkpoint that translates "sl" to "en"; the same bits every time."""
    if family == "marian":
        tiny_marian(folder)
        tokenizer = None
        size = int(AutoConfig.from_pretrained(folder).vocab_size)
        config = {"pad_token_id": size - 1, "decoder_start_token_id": size - 1, "eos_token_id": 0,
                "bos_token_id": None, "forced_eos_token_id": 0}  # fmt: skip
    else:
        if family == "t5":
            special = ("<pad>", "</s>", "<unk>")
            tokenizer = T5Tokenizer(_pieces(special), extra_ids=0, model_max_length=POSITIONS)
        else:
            vocabulary = _pieces(("<unk>", "<s>", "</s>"))
            tokenizer = MBart50Tokenizer(vocabulary, model_max_length=POSITIONS)
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


def _pieces(special: tuple[str, ...]) -> list[tuple[str, float]]:
    """Unigrams with their scores: the known words, with the mark of their start, and letters."""
    words = sorted({*WORDS, *WORDS.values()})
    entries = [("\u2581", -4.0), *((f"\u2581{word}", -4.0) for word in words)]
    entries += [(letter, -8.0) for letter in sorted(set("".join(words)))]
    return [(piece, 0.0) for piece in special] + entries
