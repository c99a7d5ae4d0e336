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

import re
from collections.abc import Sequence

from paretune.data.columns import Values, cell_text
from paretune.data.finding import InvalidValueError
from paretune.data.label_sets import read_items
from paretune.metrics.tags import OUTSIDE, find_entities

SCHEMES = {"BIOES": ("E", "S"), "BILOU": ("L", "U"), "IOB2": ("I", "B"), "IOB1": ("I", "B")}
"""Prefixes of the last word of an entity, and of the only one."""
_ENTITY_TAG = re.compile(r"O|[BIESLU](-\S+)?")


def are_entity_tags(tags: Sequence[str]) -> bool:
    """Whether these are tags of entities in any scheme, but for a tenth."""
    marked = sum(_ENTITY_TAG.fullmatch(tag) is not None for tag in tags)
    return marked > 0.9 * len(tags) and any(tag[:2] in ("B-", "I-") for tag in tags)


def convert_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """The same entities in another scheme; in their own, what is wrong is put right."""
    converted = [OUTSIDE] * len(tags)
    (end, single), before = SCHEMES[scheme], ("", 0)
    for kind, first, behind in find_entities(" ".join(tags), strict=False):
        length = behind - first
        prefixes = f"B{'I' * (length - 2)}{end}" if length > 1 else single
        if scheme == "IOB1" and before != (kind, first):  # type and end of the entity before it
            prefixes = "I" * length
        converted[first:behind] = [f"{prefix}-{kind}" if kind else prefix for prefix in prefixes]
        before = kind, behind
    return converted


def find_scheme(sentences: Sequence[Sequence[str]]) -> str | None:
    """The scheme that the fewest tags of all sentences contradict; None: they mark no entities."""
    tags = {tag for sentence in sentences for tag in sentence} - {OUTSIDE}
    marked = [tag for tag in tags if _ENTITY_TAG.fullmatch(tag)]
    if len(marked) <= len(tags) / 2 or not any(tag[0] in "BI" for tag in marked):
        return None

    def count_wrong(scheme: str) -> int:
        pairs = (zip(tags, convert_tags(tags, scheme), strict=True) for tags in sentences)
        return sum(tag != right for of_sentence in pairs for tag, right in of_sentence)

    return min(SCHEMES, key=count_wrong)


def check_tags(tags: Sequence[str], words: Sequence[str], scheme: str) -> None:
    """Refuse tags that contradict the scheme.

    Raises:
        InvalidValueError: says which, of which word.
    """
    for place, (tag, right) in enumerate(zip(tags, convert_tags(tags, scheme), strict=True)):
        if tag != right:
            before, behind = ((OUTSIDE, *tags)[place], (*tags, OUTSIDE)[place + 1])
            what = (
                f'tag "{tag}" of word {place + 1}, "{words[place]}", contradicts {scheme} between '
                f'"{before}" and "{behind}", where "{right}" is right.'
            )
            raise InvalidValueError("tag-scheme", what, "Fix this tag, or those beside it.")


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
    tags = read_items(values, label, " ")
    words = read_items(values, text, " ") if cell_text(values.get(text)) else []
    if not words or not all(words):
        what = f'has an empty word in "{text}".' if words else f'has no words in "{text}".'
        raise InvalidValueError("missing-text", what, "Remove it with its tag, or the row.")
    if len(words) != len(tags):
        what = f'has {len(words)} words in "{text}" and {len(tags)} tags in "{label}".'
        raise InvalidValueError("unequal-lengths", what, "Give each word one tag.")
    for place, tag in enumerate(tags):
        if listed and tag not in listed and tag.isdecimal() and int(tag) < len(listed):
            tag = tags[place] = listed[int(tag)]
        if (listed and tag not in listed) or not tag or len(tag.split()) > 1:
            fault = f"is not one of {', '.join(listed)}" if listed else "is empty, or holds a blank"
            what = f'tag "{tag}" of word {place + 1}, "{words[place]}", {fault}.'
            raise InvalidValueError("unknown-label", what, "Fix the tag, or add it to labels.")
    return ["\u00a0".join(word.split()) for word in words], tags


def list_tags(
    sentences: Sequence[Sequence[str]], listed: Sequence[str] | None, scheme: str | None
) -> tuple[str, ...]:
    """The tags of all sentences as they are trained: as listed, or ``O`` first and in order."""
    if listed is not None and scheme in (None, "IOB2"):
        return tuple(listed)
    tags = {
        tag for of_row in sentences for tag in (convert_tags(of_row, "IOB2") if scheme else of_row)
    }
    return tuple(sorted(tags, key=lambda tag: (tag != OUTSIDE, tag.partition("-")[2], tag)))
