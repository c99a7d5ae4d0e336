"""Word tokens as NLTK 3.6.6's ``word_tokenize`` makes them, which SloBench counts.

An installed NLTK does the work, and its later changes are undone here: newer versions treat an
opening apostrophe differently, split at dashes, let a curly quote close a sentence, and search for
sentence ends from the left (seen in NLTK 3.10; each of them moves scores). Sentence ends come from
NLTK's Punkt models of Slovene and English, data that are not part of NLTK and never fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from paretune.errors import MissingDependencyError, explain_missing

Tokeniser = Callable[[str], list[str]]

LANGUAGES = {"sl": "slovene", "en": "english"}
"""NLTK's names of them."""

INSTALL_PUNKT = "Get it yourself, nothing is fetched: `python -m nltk.downloader punkt_tab`."

_DASHES = r"[\u2012-\u2015]"
_APOSTROPHE = re.compile(r"(?i)(\')(?!re|ve|ll|m|t|s|d|n)(\w)\b")
"""3.6.6 parts an opening apostrophe from what follows only where that is one letter or digit."""
_CLOSING = re.compile(r'["\')\]}]+?(?:\s+|(?=--)|$)', re.MULTILINE)
_NOT_IN_WORDS = r"[)\";}\]*:@'({\[!?]"
SENTENCE_END = re.compile(rf"[.?!](?=(?P<after_tok>{_NOT_IN_WORDS}|\s+\S+))")
"""A mark that may end a sentence."""

_PROBE = (
    """'Yes', he said – "it isn't Ann's, I cannot 'do' it" (3,5 %)... «Da»; o'clock 'a b' `x` --!"""
)
_PROBE_WORDS = (
    "'Yes ' , he said – `` it is n't Ann 's , I can not 'do ' it '' ( 3,5 % ) ... « Da » ; "
    "o'clock ' a b ' ` x ` -- !"
)
"""A sentence and its words as 3.6.6 cut them: a newer NLTK may have changed something more."""


@lru_cache(maxsize=len(LANGUAGES))
def load_tokeniser(language: str) -> Tokeniser:
    """The function that cuts a sentence of a language (``sl`` or ``en``) into words.

    Raises:
        MissingDependencyError: NLTK or its model of the language is not installed.
    """
    words = make_word_tokeniser()
    try:
        sentences = _make_sentence_splitter(LANGUAGES[language])
    except LookupError:
        raise MissingDependencyError(
            f"words are cut with NLTK's model punkt_tab ({LANGUAGES[language]}), which is not "
            "installed.",
            remedy=INSTALL_PUNKT,
        ) from None

    @lru_cache(maxsize=1 << 17)
    def tokenise(text: str) -> list[str]:
        return [word for sentence in sentences.tokenize(text.strip()) for word in words(sentence)]

    return tokenise


def make_word_tokeniser() -> Tokeniser:
    """The function that cuts one sentence into words, without looking for further sentences.

    It needs NLTK and no data.

    Raises:
        MissingDependencyError: NLTK is not installed, or is its version cuts in yet another way.
    """
    with explain_missing("nltk>=3.9.1,<4", "the splitter of words"):
        from nltk.tokenize.destructive import NLTKWordTokenizer

    cutter = NLTKWordTokenizer()
    cutter.STARTING_QUOTES = [*cutter.STARTING_QUOTES[:-1], (_APOSTROPHE, r"\1 \2")]
    cutter.ENDING_QUOTES = _remove_rules(cutter.ENDING_QUOTES, r"\s+")
    cutter.PUNCTUATION = _remove_rules(cutter.PUNCTUATION, _DASHES)
    cut: Tokeniser = cutter.tokenize
    if cut(_PROBE) != _PROBE_WORDS.split():
        raise MissingDependencyError(
            "this version of NLTK cuts words in a way that paretune cannot undo.",
            remedy='pip install "nltk<=3.10.4"',
        )
    return cut


def _remove_rules(rules: list[Any], pattern: str) -> list[Any]:
    return [rule for rule in rules if rule[0].pattern != pattern]


def find_sentence_ends(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], str]]:
    """Possible ends of sentences, each with the word before it, from the right.

    If a word has several, only the last counts.
    """
    begin = len(text) + 1
    for match in reversed(list(pattern.finditer(text))):
        if match.end() <= begin:
            *rest, word = text[: match.start()].rsplit(maxsplit=1) or [""]
            begin = len(rest[0]) if rest else 0
            yield match, word


def _make_sentence_splitter(language: str) -> Any:
    from nltk.tokenize.punkt import PunktLanguageVars, PunktTokenizer

    class Ends(PunktLanguageVars):  # type: ignore[misc]
        re_boundary_realignment = _CLOSING
        _re_non_word_chars = _NOT_IN_WORDS

    class Cutter(PunktTokenizer):  # type: ignore[misc]
        def _match_potential_end_contexts(self, text: str) -> list[tuple[re.Match[str], str]]:
            ends = find_sentence_ends(text, self._lang_vars.period_context_re())
            return [(m, word + m.group() + m.group("after_tok")) for m, word in ends][::-1]

    cutter = Cutter(language)
    cutter._lang_vars = Ends()
    return cutter
