"""Tags of words: which scheme marks the entities, and the same entities in IOB2.

===========  ====================================================================
IOB2         an entity begins with ``B-`` and goes on with ``I-``
IOB1         it begins with ``I-``, and with ``B-`` where one of its type ends there
BIOES        it ends with ``E-``, and is ``S-`` where it has one word
BILOU        the same with ``L-`` and ``U-``
===========  ====================================================================

Ramshaw and Marcus 1995 (IOB1, arXiv:cmp-lg/9505040); Ratinov and Roth 2009 (BILOU, CoNLL).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from paretune.data.columns import Values
from paretune.data.conll import BIO
from paretune.data.finding import InvalidValueError
from paretune.data.label_sets import parse_list
from paretune.data.labels import sort_labels
from paretune.metrics.tags import OUTSIDE

Scheme = Literal["IOB1", "IOB2", "BIOES", "BILOU"]
_PLAIN = str.maketrans("ELUS", "IIBB")
"""Prefixes of longer schemes as those of IOB2."""


def find_scheme(sentences: Sequence[Sequence[str]]) -> Scheme | None:
    """The scheme of all sentences that most of their entities follow; None: they mark none."""
    tags = {tag for sentence in sentences for tag in sentence}
    marked = {tag for tag in tags if BIO.fullmatch(tag) and tag != OUTSIDE}
    if len(marked) <= len(tags - {OUTSIDE}) / 2 or not any(tag[0] in "BI" for tag in marked):
        return None
    prefixes = {tag[0] for tag in marked}
    if prefixes & {"E", "S"}:
        return "BIOES"
    if prefixes & {"L", "U"}:
        return "BILOU"
    begun = {"B": 0, "I": 0}
    for sentence in sentences:
        for before, tag in zip((OUTSIDE, *sentence), sentence, strict=False):
            if tag in marked and not _share_type(before, tag):
                begun[tag[0]] += 1
    return "IOB1" if begun["I"] > begun["B"] else "IOB2"


def to_iob2(tags: Sequence[str], words: Sequence[str], scheme: Scheme) -> list[str]:
    """The same entities in IOB2.

    Raises:
        InvalidValueError: a tag contradicts the scheme; says which, of which word.
    """
    converted = []
    for place, tag in enumerate(tags):
        before, behind = ((OUTSIDE, *tags)[place], (*tags, OUTSIDE)[place + 1])
        if why := _contradict(tag, before, behind, scheme):
            what = f'tag "{tag}" of word {place + 1}, "{words[place]}", {why} ({scheme}).'
            raise InvalidValueError("tag-scheme", what, _REMEDIES[scheme])
        begins = scheme == "IOB1" and not _share_type(before, tag)
        plain = tag if tag == OUTSIDE else tag[0].translate(_PLAIN) + tag[1:]
        converted.append(f"B{tag[1:]}" if begins and tag != OUTSIDE else plain)
    return converted


def read_tags(
    values: Values, text: str, label: str, listed: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The words of a row, and the tag of each as it is written.

    A blank inside a word is read as a no-break space.

    Args:
        listed: the tags that there are; one that is a number is named by its place among them.

    Raises:
        InvalidValueError: they are no lists of equal length, a word is empty, or a tag is unknown.
    """
    words, tags = (_read_list(values, column) for column in (text, label))
    if len(words) != len(tags):
        what = f'has {len(words)} words in "{text}" and {len(tags)} tags in "{label}".'
        raise InvalidValueError("unequal-lengths", what, "Give each word one tag.")
    if not words or not all(words):
        what = f'has an empty word in "{text}".' if words else f'has no words in "{text}".'
        raise InvalidValueError("missing-text", what, "Remove it with its tag, or the row.")
    for place, tag in enumerate(tags):
        if listed and tag not in listed and tag.isdecimal() and int(tag) < len(listed):
            tag = tags[place] = listed[int(tag)]
        if (listed and tag not in listed) or not tag or len(tag.split()) > 1:
            fault = f"is not one of {', '.join(listed)}" if listed else "is empty, or holds a blank"
            what = f'tag "{tag}" of word {place + 1}, "{words[place]}", {fault}.'
            raise InvalidValueError("unknown-label", what, "Fix the tag, or add it to labels.")
    return ["\u00a0".join(word.split()) for word in words], tags


def list_tags(
    sentences: Sequence[tuple[list[str], list[str]]],
    listed: Sequence[str] | None,
    scheme: Scheme | None,
) -> tuple[str, ...]:
    """The tags of all sentences as they are trained: as listed, or ``O`` first and in order."""
    if listed is not None and scheme in (None, "IOB2"):
        return tuple(listed)
    tags: set[str] = set()
    for words, of_words in sentences:
        with suppress(InvalidValueError):  # building the examples names it
            tags.update(to_iob2(of_words, words, scheme) if scheme else of_words)
    if scheme is None:
        return sort_labels(tags)
    return tuple(sorted(tags, key=lambda tag: (tag != OUTSIDE, tag[1:], tag)))


def _read_list(values: Values, column: str) -> list[str]:
    """A list of texts or numbers; also one that is written as a text, or words with blanks."""
    value = parse_list(values.get(column))
    if isinstance(value, str):
        value = value.split()
    if value is None or value != value:
        what = f'has nothing in "{column}".'
        raise InvalidValueError("missing-label", what, "Fill it in, or remove the row.")
    plain = isinstance(value, list) and all(
        isinstance(item, str | int) and not isinstance(item, bool) for item in value
    )
    if not isinstance(value, list) or not plain:
        what = f'holds no list of texts in "{column}".'
        raise InvalidValueError("not-list", what, "Write a list: one text for each word.")
    return [" ".join(str(item).split()) for item in value]


def _contradict(tag: str, before: str, behind: str, scheme: Scheme) -> str:
    """What is wrong with a tag between two others, or ""."""
    end, single = {"BIOES": ("E", "S"), "BILOU": ("L", "U")}.get(scheme, ("I", "B"))
    if tag == OUTSIDE:
        return ""
    if not BIO.fullmatch(tag) or tag[0] not in {"B", "I", end, single}:
        return "is none of the scheme"
    open_before = before[0] in "BI" and _share_type(before, tag)
    if scheme == "IOB1":
        return "" if tag[0] == "I" or open_before else f'follows "{before}"'
    if tag[0] in {"I", end} and not open_before:
        return f'follows "{before}"'
    goes_on = behind[0] in {"I", end} and _share_type(behind, tag)
    if end != "I" and (tag[0] in "BI") != goes_on:
        return f'is followed by "{behind}"'
    return ""


def _share_type(first: str, second: str) -> bool:
    return OUTSIDE not in (first, second) and first[1:] == second[1:]


_REMEDIES: dict[Scheme, str] = {
    "IOB1": "B- stands only where an entity follows another of its type: fix the tag.",
    "IOB2": "An entity begins with B- and goes on with I- of the same type: fix the tag.",
    "BIOES": "An entity is S-, or begins with B- and ends with E-: fix the tag.",
    "BILOU": "An entity is U-, or begins with B- and ends with L-: fix the tag.",
}
