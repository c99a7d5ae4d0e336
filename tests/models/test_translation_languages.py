"""How a translation model is told its languages, and when it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune import objectives
from paretune.errors import ModelError
from paretune.models.load import load_model
from paretune.models.sources.resolve import resolve_source
from paretune.models.translation_languages import TranslationDirection, set_languages
from paretune.study import ModelSpec
from paretune.testing.translator_folders import tiny_marian


class Told:
    """A tokenizer's part in it."""

    def __init__(self, words: list[str], **attributes: Any) -> None:
        self.words = words
        self.all_special_tokens = [w for w in words if w not in ("a", "b")]
        vars(self).update(attributes)

    def get_vocab(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}


def result(tokenizer: Told, *languages: str, prefix: str | None = None) -> TranslationDirection:
    return set_languages(tokenizer, languages, prefix, "model m")


def test_a_token_before_the_text_where_a_model_has_several_targets() -> None:
    several = Told(["a", ">>slv<<", ">>hrv<<", ">>srp_Cyrl<<", ">>srp_Latn<<"])
    assert result(several, "en", "sl") == TranslationDirection(">>slv<< ")
    assert result(several, "en", "hr") == TranslationDirection(">>hrv<< ")
    assert result(several, "en", "sl", prefix=">>hrv<< ") == TranslationDirection(">>hrv<< ")
    with pytest.raises(ModelError, match=r'"fi".*slv, hrv'):
        result(several, "en", "fi")


@pytest.mark.parametrize(
    ("words", "codes", "first"),
    [
        (["</s>", "en_XX", "sl_SI", "hr_HR", "a"], ("sl_SI", "en_XX"), 1),
        (["</s>", "eng_Latn", "slv_Latn", "b"], ("slv_Latn", "eng_Latn"), 1),
        (["</s>", "__en__", "__sl__", "__hr__"], ("sl", "en"), 1),
    ],
    ids=["mbart", "nllb", "m2m100"],
)
def test_codes_of_the_tokenizers_own(words: list[str], codes: Any, first: int) -> None:
    tokenizer: Any = Told(words, src_lang=None, tgt_lang=None)
    assert result(tokenizer, "sl", "en") == TranslationDirection("", first)
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == codes


def test_a_code_that_is_not_unique_is_asked_for_in_full() -> None:
    words = ["zho_Hans", "zho_Hant", "eng_Latn"]
    with pytest.raises(ModelError, match="zho_Hans, zho_Hant"):
        result(Told(words, src_lang=None, tgt_lang=None), "en", "zh")
    full: Any = Told(words, src_lang=None, tgt_lang=None)
    assert result(full, "en", "zho_Hant") == TranslationDirection("", 1)


@pytest.mark.parametrize(
    ("has", "pair"),
    [
        (("sl", "en"), ("sl", "en")),
        (("slv", "eng"), ("sl", "en")),
        (("sla", "en"), ("sl", "en")),
        (("mul", "en"), ("sl", "en")),
        (("xyz", "en"), ("sl", "en")),  # a group that is not known here: the model may know it
        (("ine", "en"), ("hr", "en")),
        ((None, None), ("sl", "en")),
    ],
)
def test_one_direction_that_fits(has: Any, pair: tuple[str, str]) -> None:
    tokenizer = Told(["a"], source_lang=has[0], target_lang=has[1])
    assert result(tokenizer, *pair) == TranslationDirection()


@pytest.mark.parametrize("pair", [("en", "sl"), ("hr", "en"), ("sl", "de")])
def test_one_direction_that_does_not_fit_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(ModelError, match="exchange source_lang and target_lang"):
        result(Told(["a"], source_lang="sl", target_lang="en"), *pair)


def test_words_before_the_text_of_a_model_that_knows_no_languages() -> None:
    message = "translate English to German: "
    assert result(Told(["a"]), "en", "de", prefix=message) == TranslationDirection(message)


def test_a_marian_of_the_other_direction_is_refused(tmp_path: Path) -> None:
    source = resolve_source(ModelSpec(name=str(tiny_marian(tmp_path / "m"))), offline=True)
    assert (
        load_model(source, objectives.get("translation").head_spec((), ("sl", "en"))).direction
        == TranslationDirection()
    )
    with pytest.raises(ModelError, match='translates from "sl", but the task is from "en"'):
        load_model(source, objectives.get("translation").head_spec((), ("en", "sl")))
