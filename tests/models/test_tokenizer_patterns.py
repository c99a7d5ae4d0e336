"""Regular expressions of tokenizers: those of published ones pass, those without bound do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace, Sequence

from paretune import objectives
from paretune.errors import ModelError
from paretune.models.load import load_model
from paretune.models.sources.resolve import resolve_source
from paretune.models.tokenizer import repeats_repetition, require_bounded_patterns
from paretune.study import ModelSpec

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
    head = objectives.get("classification").head_spec(("a", "b"))
    with pytest.raises(ModelError, match=r"repeats a repetition|tokenizer cannot be opened"):
        load_model(resolve_source(ModelSpec(name=str(folder))), head, weights=False)
