"""Tokenizers as folders have them: SentencePiece BPE under a class that takes Unigram only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from support.hub import copied, hub_layout, sentencepiece_model, texts
from support.open_models import open_model
from support.tiny_study import finish, small
from tokenizers import Tokenizer, models
from tokenizers.models import BPE
from tokenizers.normalizers import Replace, Sequence
from transformers import AutoConfig, AutoTokenizer

import paretune
from paretune.errors import ModelError
from paretune.models.tokenizer import (
    repeats_repetition,
    require_bounded_patterns,
    require_same_tokenization,
)
from paretune.verbs.export import export

LINES = texts(1000, seed=7)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """SloBERTa's files, as small as can be."""
    return hub_layout("EMBEDDIA/sloberta", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folder(published, tmp_path):
    return copied(published, tmp_path / "sloberta")


def expected(folder):
    """The ids by fairseq's rule: the piece's number plus four, and the unknown one is 3."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    return [[i + 4 if i else 3 for i in model.encode(line)] for line in LINES]


def ids(tokenizer):
    return [tokenizer(line, add_special_tokens=False)["input_ids"] for line in LINES]


def test_a_camembert_with_bpe_opens_and_cuts_as_its_model_does(folder):
    tokenizer = open_model(folder).tokenizer
    assert ids(tokenizer) == expected(folder)
    one, two = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("Žaba.", "In pes?"))
    assert tokenizer("Žaba.", "In pes?")["input_ids"] == [5, *one, 6, 6, *two, 6]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (1, 1004)
    assert tokenizer.model_max_length == 512


@pytest.mark.parametrize("also", [(), ("special_tokens_map.json", "tokenizer_config.json")])
def test_without_tokenizer_json_it_is_built_from_the_model(folder, also):
    whole = open_model(folder).tokenizer
    for name in ("tokenizer.json", *also):
        (folder / name).unlink()
    tokenizer = open_model(folder).tokenizer
    assert ids(tokenizer) == expected(folder)
    assert tokenizer("Žaba.", "In pes?")["input_ids"] == whole("Žaba.", "In pes?")["input_ids"]
    assert tokenizer.special_tokens_map == whole.special_tokens_map
    assert tokenizer.get_vocab() == whole.get_vocab()


def test_without_the_model_tokenizer_json_is_enough(folder):
    reference = expected(folder)
    (folder / "sentencepiece.bpe.model").unlink()
    assert ids(open_model(folder).tokenizer) == reference


def refused(folder):
    with pytest.raises(ModelError) as error:
        open_model(folder)
    return str(error.value)


def test_a_cure_that_cuts_otherwise_is_refused(folder):
    """Pieces of the BPE model as a Unigram without scores: it opens, and most cuts are wrong."""
    core = json.loads((folder / "tokenizer.json").read_text())
    pieces = sorted(core["model"]["vocab"], key=core["model"]["vocab"].get)
    flat = Tokenizer(models.Unigram([(piece, 0.0) for piece in pieces], unk_id=3))
    core["model"] = json.loads(flat.to_str())["model"]
    (folder / "tokenizer.json").write_text(json.dumps(core))
    AutoTokenizer.from_pretrained(folder)  # nobody else minds
    message = refused(folder)
    assert "its tokenizer and its sentencepiece.bpe.model split texts differently" in message
    assert "fetch the folder as published" in message


def test_the_model_of_another_tokenizer_is_refused(folder):
    (folder / "sentencepiece.bpe.model").unlink()
    sentencepiece_model(folder / "sentencepiece.bpe.model", "bpe", 200)
    assert "split texts differently" in refused(folder)


def test_ids_that_are_moved_unevenly_are_refused(folder):
    """Every cut is right, and two pieces have each other's number."""
    core = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = core["model"]["vocab"]
    vocabulary["."], vocabulary[","] = vocabulary[","], vocabulary["."]
    (folder / "tokenizer.json").write_text(json.dumps(core))
    assert "split texts differently" in refused(folder)


def test_a_damaged_sentencepiece_model_is_named(folder):
    (folder / "sentencepiece.bpe.model").write_bytes(b"not this")
    assert "is no SentencePiece model" in refused(folder)


@pytest.mark.parametrize("lower", [True, False])
def test_families_that_change_letters_first(tmp_path, lower):
    """ALBERT's, uncased or without accents: SentencePiece never sees what it takes away."""
    file = tmp_path / "spiece.model"
    special = {"user_defined_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
    sentencepiece_model(file, "unigram", 500, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, **special)
    settings = {"tokenizer_class": "AlbertTokenizer", "do_lower_case": lower, "keep_accents": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text('{"model_type": "albert"}')
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    require_same_tokenization(tokenizer, file, "model albert")
    assert ("Ž" in "".join(tokenizer.tokenize("Žaba"))) is False


def test_exports_open_with_the_same_tokenizer(folder, tmp_path):
    study = small(tmp_path, folder)
    finish(study, tmp_path / "store", costs=0).close()
    reference = expected(folder)
    for form in ("merged", "peft", "paretune"):
        export(
            study,
            store=tmp_path / "store",
            method="lora",
            form=form,
            output=tmp_path / form,
            allow_collapsed=True,
        )
    assert AutoConfig.from_pretrained(tmp_path / "merged").model_type == "camembert"
    for form in ("merged", "peft"):
        assert ids(AutoTokenizer.from_pretrained(tmp_path / form)) == reference
    assert ids(paretune.load(tmp_path / "paretune")[1]) == reference
    shutil.copy(folder / "sentencepiece.bpe.model", tmp_path / "merged")
    assert (
        ids(open_model(tmp_path / "merged").tokenizer) == reference
    )  # and is a base of ours again


_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PUBLISHED = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++"
    r"[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
    r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
    r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "lookahead": r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+(?:'[sS]|'[tT])?",
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "clip": r"<\|startoftext\|>|<\|endoftext\|>|'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "t5": r" {2,}",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"
    r"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "brackets": r"[]a+)]+[^]*(]*",
    "atomic": r"(?>a+)+(?:b++)*",
    "fixed": r"(?:ab{3})+(?:(?:c)?)?",
}
WITHOUT_BOUND = [
    r"(a+)+$", r"(\w+\s?)+!", r"(.*a){20}x", r"(?:a*)*b", r"((a{1,5})){2,}", r"(?:(?:a|b+)c)*",
    r"(?<name>a+)+", r"(a?){30}a{30}", r"x[(+](a+){3}", r"(?i:a+)*?b",
]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_patterns_of_published_tokenizers_pass(name: str) -> None:
    assert not repeats_repetition(PUBLISHED[name])


@pytest.mark.parametrize("pattern", WITHOUT_BOUND)
def test_a_repeated_repetition_is_found(pattern: str) -> None:
    assert repeats_repetition(pattern)


def test_replacements_that_multiply_a_text_are_refused() -> None:
    tokenizer, doubling = Tokenizer(BPE()), Replace("a", "aa")
    tokenizer.normalizer = doubling
    require_bounded_patterns(tokenizer, "t")
    tokenizer.normalizer = Sequence([doubling] * 40)
    with pytest.raises(ModelError, match=r"makes up to 1\.1e\+12 characters of one"):
        require_bounded_patterns(tokenizer, "t")


@pytest.mark.parametrize("regex", [r"(a+)+$", "(("])
def test_a_model_with_such_a_tokenizer_is_refused(
    tmp_path: Path, tiny_model: Any, regex: str
) -> None:
    folder = tiny_model("bert", tmp_path / "odd")
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["pre_tokenizer"] = {
        "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ModelError, match=r"repeats a repetition|tokenizer cannot be opened"):
        open_model(folder, weights=False)
