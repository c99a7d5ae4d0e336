"""Labels: from the value in a file to an index, and which labels a task has."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from paretune.data.columns import cell_text, parse_number
from paretune.data.finding import MAX_EXAMPLES, MAX_SHOWN, Finding, InvalidValueError
from paretune.data.rows import Row
from paretune.errors import DataError
from paretune.study import Label

Labels = tuple[str, ...]
Texts = Mapping[str, str]
LabelParser = Callable[[object, Texts], Label]
"""From the label's value (and the row's texts) to its index or number; may raise
:class:`InvalidValueError`."""
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")


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


def fold_label(text: str) -> str:
    """Spelling without case, and ``1.0`` as ``1``: what two writings of one label share."""
    return _drop_zero_decimals(text.strip().casefold())


def fold_spelling(text: str, *, keep: str = "") -> str:
    """The label without all of :data:`SPELLINGS` (but for the one to ``keep``), ``1.0`` as 1."""
    for name, fold in SPELLINGS.items():
        text = text if name == keep else fold(text)
    return _drop_zero_decimals(text)


def _drop_zero_decimals(text: str) -> str:
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
    for fold in (fold_label, fold_spelling):
        alike = [i for i, label in enumerate(labels) if fold(label) == fold(text)]
        if len(alike) == 1:
            return alike[0]
        if fold is fold_label and (alias := (aliases or {}).get(fold(text))) is not None:
            return labels.index(alias)
    return None


def require_label(value: object) -> str:
    """The text of a label.

    Raises:
        InvalidValueError: it is empty.
    """
    text = cell_text(value)
    if text is None:
        raise InvalidValueError("missing-label", "has no label.", "Give it one, or remove the row.")
    return text


def class_label_parser(
    names: Sequence[str], aliases: Mapping[str, str] | None = None
) -> LabelParser:
    """Find a label among names (:func:`match_label`)."""

    def parse(value: object, texts: Texts) -> int:
        text = require_label(value)
        index = match_label(value, names, aliases)
        if index is None:
            what = f'label "{text}" is not one of {", ".join(names)}.'
            raise InvalidValueError("unknown-label", what, "Fix the row, or add it to labels.")
        return index

    return parse


def choice_parser(columns: Sequence[str], names: Sequence[str] | None) -> LabelParser:
    """Find the right choice by its index from 0, its column, its text, or one of ``names``.

    Raises:
        DataError: ``names`` are given, but not one for each choice.
    """
    if names is not None and len(names) != len(columns):
        raise DataError(
            f"labels names {len(names)} choices, and there are {len(columns)}.",
            remedy="List a label for each choice, in their order, or leave labels out.",
        )

    def parse(value: object, texts: Texts) -> int:
        text = require_label(value)
        choices = [texts[column].strip() for column in columns]
        if names is not None:
            index = match_label(value, names)
            places = set() if index is None else {index}
            what = f'label "{text}" is not one of {", ".join(names)}.'
        else:
            number = fold_label(text)
            places = {i for i in range(len(columns)) if text in (columns[i], choices[i])}
            if re.fullmatch(r"\d{1,6}", number) and int(number) < len(columns):
                places.add(int(number))
            what = (
                f'label "{text}" fits more than one choice.'
                if places
                else f'label "{text}" is not an index from 0 to {len(columns) - 1}, '
                f"not one of {', '.join(columns)}, and not the text of a choice."
            )
        if len(places) != 1:
            remedy = "Fix the row; labels that count from 1 are listed as labels: [1, 2, ...]."
            raise InvalidValueError("unknown-label", what, remedy)
        return places.pop()

    return parse


def parse_number_label(value: object, texts: Texts) -> float:
    """The label of a regression: a finite number, as a number or as text.

    Raises:
        InvalidValueError: it is something else.
    """
    text, number = require_label(value), parse_number(value)
    if number is None:
        raise InvalidValueError(
            "not-a-number",
            f'"{text}" is not a finite number.',
            "Fix the row, or make the task a classification.",
        )
    return number


def sort_labels(labels: set[str]) -> Labels:
    """Labels that nobody listed, in a fixed order: by number if all are numbers, else by text."""
    if all(re.fullmatch(r"-?\d{1,18}", label) for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def determine_labels(
    rows: Sequence[Row], column: str, listed: Labels | None, declared: Labels | None
) -> tuple[Labels, list[Finding]]:
    """The labels of a task's rows, and the findings about them.

    Args:
        listed: labels of the study file; they win.
        declared: label names that the data file declares (Parquet, hub); they come next.

    Raises:
        DataError: a label is listed twice, only one label, or too many for a label column.
    """
    values = [v for row in rows if not isinstance(v := row.values.get(column), list | dict)]
    distinct = {text for text in map(cell_text, values) if text is not None}
    where = rows[0].where.rsplit(" ", 2)[0]
    if listed is not None:
        if doubled := sorted(label for label, count in Counter(listed).items() if count > 1):
            raise DataError(
                f'labels lists "{doubled[0]}" twice.', where=where, remedy="Remove one of them."
            )
        if len(listed) < 2:
            raise DataError(
                "labels lists one label only.", where=where, remedy="List two labels or more."
            )
        order = check_label_order(listed, declared, where, "the study lists")
        return listed, [*order, *find_similar_labels(values, listed, where)]
    if declared is not None:
        return declared, []
    if not distinct:
        return (), []  # no column or no labels: building the examples says which rows
    if len(distinct) == 1:
        raise DataError(
            f'every row has the same label, "{next(iter(distinct))}".',
            where=where,
            remedy="There is nothing to learn: name another label column, or add rows.",
        )
    if len(distinct) > max(2, len(values) / 2):
        raise DataError(
            f'"{column}" holds {len(distinct)} different values in {len(values)} rows, '
            "too many for a label.",
            where=where,
            remedy="Name another column, or list labels: [...] if they are right.",
        )
    labels = sort_labels(distinct)
    listing = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    what = f'labels were found in "{column}" and sorted: {listing}.'
    remedy = "List labels: [...] in the study file to fix them and their order."
    note = Finding("note", "labels-found", where, what, remedy)
    return labels, [note, *find_similar_labels(values, labels, where)]


def check_label_order(
    expected: Labels | None, declared: Labels | None, where: str, whose: str
) -> list[Finding]:
    """A warning where two declarations name labels in different orders, or different labels."""
    if expected is None or declared is None or expected == declared:
        return []
    what = f"declares the labels {', '.join(declared)}, but {whose} {', '.join(expected)}."
    remedy = (
        "Rows are read by name, so scores are right; a model trained elsewhere may count otherwise."
    )
    return [Finding("warning", "label-order", where, what, remedy)]


def collapse_label_faults(faults: list[Finding], rows: Sequence[Row], column: str) -> list[Finding]:
    """One fault for all rows without a label, and one where no row has a label that is known."""
    unlabelled = tuple(fault.where for fault in faults if fault.code == "missing-label")
    rest = [fault for fault in faults if fault.code != "missing-label"]
    where = rows[0].where.rsplit(" ", 2)[0] if rows else ""
    unknown = all(fault.code == "unknown-label" for fault in rest)
    if len(rows) > 1 and len(faults) == len(rows) and unknown:
        what = f'no row of all {len(rows)} has a label in "{column}".'
        remedy = "Name a file or split that has labels."
        if rest:
            values = Counter(str(cell_text(row.values.get(column))) for row in rows)
            most_common = ", ".join(value for value, _ in values.most_common(5))
            what = f'no row has a label that is known; "{column}" holds {most_common}.'
            remedy = "List these in labels: [...], or name another column."
        return [Finding("error", "no-label-known", where, what, remedy)]
    if not unlabelled:
        return faults
    what = describe_unlabelled(unlabelled, len(rows))
    pronoun = "it" if len(unlabelled) == 1 else "them"
    remedy = f"Fill {pronoun} in, or drop {pronoun}: drop_unlabelled: true."
    return [Finding("error", "missing-label", where, what, remedy, unlabelled), *rest]


def describe_unlabelled(places: Sequence[str], rows: int) -> str:
    """``37 of 112 rows have no label (lines 2, 5, 6, ...).``, from the places of the rows."""
    _, noun, _ = places[0].rsplit(" ", 2)
    numbers = [place.rpartition(" ")[2] for place in places[:MAX_EXAMPLES]]
    ellipsis = ", ..." if len(places) > MAX_EXAMPLES else ""
    several = len(places) > 1
    return (
        f"{len(places)} of {rows} rows {'have' if several else 'has'} no label "
        f"({noun}{'s' * several} {', '.join(numbers)}{ellipsis})."
    )


def find_similar_labels(values: Iterable[object], labels: Labels, where: str) -> list[Finding]:
    """A warning for labels that are probably one: how many rows each has, and how to join them.

    Args:
        values: of the column of labels, in all rows.
        labels: that count as different ones.
    """
    counts = Counter(cell_text(value) for value in values if not isinstance(value, list | dict))
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(fold_spelling(label), []).append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    spellings = [
        " and ".join(f'"{label}" ({counts[label]:,})' for label in group)
        for group in alike[:MAX_SHOWN]
    ]
    if len(alike) > MAX_SHOWN:
        spellings.append(f"{len(alike) - MAX_SHOWN} more")
    differences = [
        name
        for name in SPELLINGS
        if any(len({fold_spelling(label, keep=name) for label in group}) > 1 for group in alike)
    ]
    what = (
        f"labels that differ only in {' or '.join(differences) or 'spelling'} count as different "
        f"ones, here with their rows: {'; '.join(spellings)}."
    )
    # Of one that is listed, all spellings are read (match_label): the most frequent stands for all.
    joined = [max(group, key=lambda label: counts[label]) for group in groups.values()]
    remedy = f"To join them, write labels: {json.dumps(joined, ensure_ascii=False)}"
    return [Finding("warning", "labels-alike", where, what, remedy)]
