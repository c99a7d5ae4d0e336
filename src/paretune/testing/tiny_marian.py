"""A whole tiny OPUS-MT: folder, SentencePiece files, random weights; and a language it can learn.

The language is Slovene words set to English ones, one by one, in the same order.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel

from paretune.study import TaskSpec

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
