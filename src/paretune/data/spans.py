"""Spans of a text, given by their words and the index of the first word: find and mark them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.data.labels import cell_text

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Span:
    """Characters ``start`` to ``end`` of a text.

    ``matched_by``: ``at`` its index, as the ``only`` occurrence of its words, or as the
    ``nearest`` of several occurrences to its index.
    """

    start: int
    end: int
    matched_by: Literal["at", "only", "nearest"]


def find_span(text: str, words: str, index: object) -> Span | None:
    """The occurrence of ``words`` in ``text``, or None.

    Words are counted from 0 and separated by white space. Case, white space, and punctuation at
    either end of the span do not matter; only whole words match. Where they are not at ``index``,
    the only other occurrence is taken, or the nearest of several (the earlier of two).
    """
    core = re.sub(r"^[\W_]+|[\W_]+$", "", words)
    if not core:
        return None
    pattern = r"\s+".join(re.escape(part) for part in core.split())
    hits = list(re.finditer(rf"(?<!\w){pattern}(?!\w)", text, flags=re.IGNORECASE))
    if not hits:
        return None
    starts = [match.start() for match in _WORD.finditer(text)]
    word = int(number) if (number := cell_text(index) or "").isdigit() else None

    def word_of(hit: re.Match[str]) -> int:
        return sum(start <= hit.start() for start in starts) - 1

    at = [hit for hit in hits if word_of(hit) == word]
    if at:
        return Span(at[0].start(), at[0].end(), "at")
    if len(hits) == 1:
        return Span(hits[0].start(), hits[0].end(), "only")
    if word is None:
        return None
    nearest = min(hits, key=lambda hit: abs(word_of(hit) - word))
    return Span(nearest.start(), nearest.end(), "nearest")


def mark_spans(text: str, spans: Sequence[tuple[Span, str]]) -> str:
    """The text with each span between two copies of its sign: ``* Ana * je rekla, da # je # ...``.

    Of two nested spans the longer has its signs outside.
    """
    # At one place the inner span ends first and begins last.
    cuts = [(s.end, 0, -s.start, f" {sign}") for s, sign in spans]
    cuts += [(s.start, 1, -s.end, f"{sign} ") for s, sign in spans]
    pieces, done = [], 0
    for place, _, _, sign in sorted(cuts):
        pieces += [text[done:place], sign]
        done = place
    return "".join([*pieces, text[done:]])
