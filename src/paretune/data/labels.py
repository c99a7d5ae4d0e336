"""From the value in a file to an index: spellings of labels, and answers to multiple choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")


def cell_text(value: object) -> str | None:
    """A label's own spelling, or None where there is none (null, empty, NaN).

    ``True`` is ``true`` and ``1.0`` is ``1``, as JSON and pandas write them; strings are only
    stripped.
    """
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def fold_label(text: str) -> str:
    """Spelling without case, and ``1.0`` as ``1``: what two writings of one label share."""
    text = text.strip().casefold()
    whole = _WHOLE_NUMBER.fullmatch(text)
    return whole.group(1) if whole else text


def _fold_unicode(text: str) -> str:
    """NFKC, without characters that cannot be seen."""
    normal = unicodedata.normalize("NFKC", text)
    return "".join(c for c in normal if unicodedata.category(c) != "Cf")


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "Unicode form": _fold_unicode,
    "case": str.casefold,
    "spaces": lambda text: " ".join(text.split()),
    "trailing punctuation": lambda text: text.rstrip(" .,;:!?…") or text,
}
"""In what two writings of one label may differ, and what takes the difference away."""


def fold_spelling(text: str, *, keep: str = "") -> str:
    """The label without all of :data:`SPELLINGS` (but for the one to ``keep``), ``1.0`` as 1."""
    for name, fold in SPELLINGS.items():
        text = text if name == keep else fold(text)
    whole = _WHOLE_NUMBER.fullmatch(text)
    return whole.group(1) if whole else text


def match_label(
    value: object, labels: Sequence[str], aliases: Mapping[str, str] | None = None
) -> int | None:
    """Index of the label that ``value`` means, or None.

    The exact spelling wins; then one that is equal but for case or ``.0``; then an alias; then one
    that is equal but for :data:`SPELLINGS`.
    """
    text = cell_text(value)
    if text is None:
        return None
    if text in labels:
        return labels.index(text)
    folded = fold_label(text)
    equal = [i for i, label in enumerate(labels) if fold_label(label) == folded]
    if len(equal) == 1:
        return equal[0]
    alias = (aliases or {}).get(folded)
    if alias is not None:
        return labels.index(alias)
    folded = fold_spelling(text)
    alike = [i for i, label in enumerate(labels) if fold_spelling(label) == folded]
    return alike[0] if len(alike) == 1 else None


def match_choice(
    value: object,
    columns: Sequence[str],
    texts: Sequence[str],
    names: Sequence[str] | None = None,
) -> int | str:
    """Index of the right choice, or a sentence that says why it is not known.

    Args:
        value: an index from 0, the name of the choice's column, its text, or one of ``names``.
        names: the spellings of the label, in the order of the choices, if the user gave them.
    """
    text = cell_text(value)
    if text is None:
        return "has no label."
    if names is not None:
        index_of_name = match_label(value, names)
        return (
            index_of_name
            if index_of_name is not None
            else f'label "{text}" is not one of {", ".join(names)}.'
        )
    index = int(fold_label(text)) if re.fullmatch(r"\d{1,6}", fold_label(text)) else None
    if index is not None and index >= len(texts):
        index = None
    candidates = {index} if index is not None else set()
    candidates |= {i for i, column in enumerate(columns) if column == text}
    candidates |= {i for i, option in enumerate(texts) if option.strip() == text}
    if len(candidates) == 1:
        return candidates.pop()
    if candidates:
        return f'label "{text}" fits more than one choice.'
    return (
        f'label "{text}" is not an index from 0 to {len(texts) - 1}, '
        f"not one of {', '.join(columns)}, and not the text of a choice."
    )


def sort_labels(labels: set[str]) -> tuple[str, ...]:
    """Labels that nobody listed, in a fixed order: by number if all are numbers, else by text."""
    if all(re.fullmatch(r"-?\d{1,18}", label) for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))
