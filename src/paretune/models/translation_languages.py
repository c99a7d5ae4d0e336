"""From which language into which: how a translation model is told, and whether it can be.

Four ways are in use, and each is recognised by what the tokenizer has, not by the model's name:

=====================  ==============================================================
the tokenizer          the model
=====================  ==============================================================
has ``>>slv<<``        an OPUS-MT into several languages: the token stands before the text
has ``sl_SI`` or       mBART, NLLB, M2M100: the tokenizer marks the text, and the first
``slv_Latn``, ...      token of the translation is the language
is for one direction   other OPUS-MT: nothing to say, but the direction must be this one
knows no languages     T5: ``source_prefix`` says it in words
=====================  ==============================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paretune.errors import ModelError

_ISO_639_3 = {
    "bg": "bul", "bs": "bos", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng",
    "es": "spa", "et": "est", "fi": "fin", "fr": "fra", "hr": "hrv", "hu": "hun", "it": "ita",
    "lt": "lit", "lv": "lav", "mk": "mkd", "nl": "nld", "pl": "pol", "pt": "por", "ro": "ron",
    "ru": "rus", "sk": "slk", "sl": "slv", "sq": "sqi", "sr": "srp", "sv": "swe", "tr": "tur",
    "uk": "ukr", "ar": "ara", "zh": "zho", "ja": "jpn", "ko": "kor", "hi": "hin", "vi": "vie",
}  # fmt: skip
"""ISO 639-1 to ISO 639-3, of the languages that data of one's own is likely to be in."""
_NOT_INDO_EUROPEAN = ("et", "fi", "hu", "tr", "ar", "zh", "ja", "ko", "vi")
_GROUPS = {
    "sla": "bg bs cs hr mk pl ru sk sl sr uk",
    "zls": "bg bs hr mk sl sr",
    "zle": "ru uk",
    "zlw": "cs pl sk",
    "gmw": "de en nl",
    "gem": "da de en nl sv",
    "roa": "es fr it pt ro",
    "itc": "es fr it pt ro",
    "bat": "lt lv",
    "ine": " ".join(two for two in _ISO_639_3 if two not in _NOT_INDO_EUROPEAN),
}
"""Names of language groups that OPUS-MT models carry, with those of the languages above."""


@dataclass(frozen=True)
class TranslationDirection:
    """What is said to the model: words before the text, and the translation's first token."""

    prefix: str = ""
    forced_bos_token_id: int | None = None


NO_DIRECTION = TranslationDirection()
"""Of a model that does not translate."""


def set_languages(
    tokenizer: Any, model: Any, languages: tuple[str, ...], source_prefix: str | None, where: str
) -> TranslationDirection:
    """Set the tokenizer to the languages, and say what else the model must be told.

    Args:
        tokenizer: of the model; its ``src_lang`` and ``tgt_lang`` are set where it has them.
        model: its config is read.
        languages: source and target, as the task names them.
        source_prefix: the study's own words before every text.
        where: the model's name, for errors.

    Raises:
        ModelError: the model cannot be told this direction, or is made for another.
    """
    source, target = languages
    told = source_prefix or ""
    vocabulary = tokenizer.get_vocab()
    several = [t for t in vocabulary if t.startswith(">>") and t.endswith("<<")]
    if several and ">>" not in told:
        wanted = [t for t in several if t[2:-2].partition("_")[0] in _code_variants(target)]
        if not wanted:
            raise _unknown_language(target, [t[2:-2] for t in several], where)
        return TranslationDirection(f"{told}{min(wanted, key=len)} ")
    if hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang"):
        codes = [t for t in tokenizer.all_special_tokens if _is_code(t)]
        tokenizer.src_lang = _find_code(source, codes, where)
        tokenizer.tgt_lang = _find_code(target, codes, where)
        return TranslationDirection(
            told, vocabulary.get(_vocabulary_token(tokenizer.tgt_lang, vocabulary))
        )
    own = (getattr(tokenizer, "source_lang", None), getattr(tokenizer, "target_lang", None))
    for what, asked, has in zip(("from", "into"), languages, own, strict=True):
        if isinstance(has, str) and has and not _covers(has, asked):
            raise ModelError(
                f'translates {what} "{has}", and the task is {what} "{asked}".',
                where=where,
                remedy=f"Choose a model that translates {source} to {target}, or exchange "
                "source_lang and target_lang of the task.",
            )
    return TranslationDirection(told)


def _code_variants(language: str) -> set[str]:
    """``sl`` and ``slv``; what a study writes in full (``slv_Latn``) stands as it is."""
    plain = language.partition("_")[0].partition("-")[0].casefold()
    two = next((two for two, three in _ISO_639_3.items() if three == plain), plain)
    return {language, plain, two, _ISO_639_3.get(two, two)}


def _covers(has: str, wanted: str) -> bool:
    """Whether a model's language, or group of languages, has the task's in it."""
    known = _code_variants(has) | set(_GROUPS.get(has, "").split())
    known |= {part for one in has.replace("+", "_").split("_") for part in _code_variants(one)}
    unknown_group = len(has) == 3 and has not in _GROUPS and has not in _ISO_639_3.values()
    return has == "mul" or unknown_group or bool(known & _code_variants(wanted))


def _is_code(token: str) -> bool:
    plain = token.strip("_")
    head, _, tail = plain.partition("_")
    return head.isalpha() and head.islower() and len(head) in (2, 3) and len(tail) in (0, 2, 4)


def _find_code(language: str, codes: list[str], where: str) -> str:
    plain = {code.strip("_"): code for code in codes}
    if language in plain:
        return language
    fitting = [code for code in plain if code.partition("_")[0] in _code_variants(language)]
    if len(fitting) != 1:
        raise _unknown_language(language, fitting or sorted(plain), where)
    return fitting[0]


def _vocabulary_token(code: str, vocabulary: dict[str, int]) -> str:
    """M2M100 writes ``__sl__`` and calls it ``sl``."""
    return code if code in vocabulary else f"__{code}__"


def _unknown_language(language: str, known: list[str], where: str) -> ModelError:
    shown = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return ModelError(
        f'does not know the language "{language}", or knows several of it: {shown}.',
        where=where,
        remedy="Write the language as the model does.",
    )
