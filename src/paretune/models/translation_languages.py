"""The languages of a translation: how a model is given source and target, and which it knows.

Four ways are in use, and each is recognised by what the tokenizer has, not by the model's name:

=====================  ==============================================================
the tokenizer          the model
=====================  ==============================================================
has ``>>slv<<``        an OPUS-MT into several languages: the token stands before the text
has ``sl_SI`` or       mBART, NLLB, M2M100: the tokenizer marks the text, and the first
``slv_Latn``, ...      token of the translation is the language
has one direction      other OPUS-MT: nothing to set, but the direction must be this one
knows no languages     T5: ``source_prefix`` names them in words
=====================  ==============================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from paretune.data.language import ISO_639_3
from paretune.errors import ModelError

_LANGUAGES = {*ISO_639_3, *ISO_639_3.values()}
_CODE = re.compile(r"_*[a-z]{2,3}(_([A-Za-z]{2}|[A-Za-z]{4}))?_*")
"""A special token that names a language."""


@dataclass(frozen=True)
class TranslationDirection:
    """The languages of a translation, as the model is told them.

    Attributes:
        forced_bos_token_id: the first token of every translation; None: as the model generates it.
    """

    prefix: str = ""
    forced_bos_token_id: int | None = None


NO_DIRECTION = TranslationDirection()
"""The direction of a model that does not translate."""


def set_languages(
    tokenizer: Any, languages: tuple[str, ...], source_prefix: str | None, where: str
) -> TranslationDirection:
    """Set the tokenizer to the languages; return what else the model needs of them.

    Args:
        tokenizer: of the model; its ``src_lang`` and ``tgt_lang`` are set where it has them.
        languages: source and target, as the task names them.

    Raises:
        ModelError: the model does not know a language, or translates in another direction.
    """
    source, target = languages
    prefix = source_prefix or ""
    vocabulary = tokenizer.get_vocab()
    targets = [t for t in vocabulary if t.startswith(">>") and t.endswith("<<")]
    if targets and ">>" not in prefix:
        matching = [t for t in targets if t[2:-2].partition("_")[0] in _code_variants(target)]
        if not matching:
            raise _unknown_language(target, [t[2:-2] for t in targets], where)
        return TranslationDirection(f"{prefix}{min(matching, key=len)} ")
    if hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang"):
        codes = [t for t in tokenizer.all_special_tokens if _CODE.fullmatch(t)]
        tokenizer.src_lang = _find_code(source, codes, where)
        tokenizer.tgt_lang = _find_code(target, codes, where)
        code = tokenizer.tgt_lang
        first = vocabulary.get(code, vocabulary.get(f"__{code}__"))  # M2M100 calls __sl__ sl
        return TranslationDirection(prefix, first)
    direction = (getattr(tokenizer, "source_lang", None), getattr(tokenizer, "target_lang", None))
    for preposition, language, covered in zip(("from", "into"), languages, direction, strict=True):
        # An unknown language may be a group of languages, to which this one may belong.
        variants = _code_variants(covered) if isinstance(covered, str) else set[str]()
        if variants & _LANGUAGES and not variants & _code_variants(language):
            raise ModelError(
                f'translates {preposition} "{covered}", but the task is {preposition} '
                f'"{language}".',
                where=where,
                remedy=f"Choose a model that translates {source} to {target}, or exchange "
                "source_lang and target_lang of the task.",
            )
    return TranslationDirection(prefix)


def _code_variants(language: str) -> set[str]:
    """``sl`` and ``slv``; what a study writes in full (``slv_Latn``) stays as it is."""
    plain = language.partition("_")[0].partition("-")[0].casefold()
    two = next((two for two, three in ISO_639_3.items() if three == plain), plain)
    return {language, plain, two, ISO_639_3.get(two, two)}


def _find_code(language: str, codes: list[str], where: str) -> str:
    plain = {code.strip("_"): code for code in codes}
    if language in plain:
        return language
    fitting = [code for code in plain if code.partition("_")[0] in _code_variants(language)]
    if len(fitting) != 1:
        raise _unknown_language(language, fitting or sorted(plain), where)
    return fitting[0]


def _unknown_language(language: str, languages: list[str], where: str) -> ModelError:
    listed = ", ".join(languages[:12]) + (
        f" and {len(languages) - 12} more" if len(languages) > 12 else ""
    )
    return ModelError(
        f'does not know the language "{language}", or knows several forms of it: {listed}.',
        where=where,
        remedy="Write the language as the model does.",
    )
