"""Labels: from the value in a file to an index, and which labels a task has."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from paretune.data.finding import MAX_EXAMPLES, MAX_SHOWN, Finding
from paretune.data.rows import Row
from paretune.errors import DataError

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


Labels = tuple[str, ...]


def determine_labels(
    train: Sequence[Row],
    test: Sequence[Row],
    column: str,
    listed: Labels | None,
    declared: Labels | None,
) -> tuple[Labels, list[Finding]]:
    """The task's labels, and the findings about them.

    Args:
        train: rows; with ``test``, the labels are found in both.
        listed: labels of the study file; they win.
        declared: label names that the data file declares (Parquet, hub); they come next.

    Raises:
        DataError: a label is listed twice, only one label, or too many for a label column.
    """
    values = [
        v for row in (*train, *test) if not isinstance(v := row.values.get(column), list | dict)
    ]
    values_seen = {s for s in map(cell_text, values) if s is not None}
    where = train[0].where.rsplit(" ", 2)[0]
    if listed is not None:
        alike = find_similar_labels(values, listed, where)
        return listed, [*_check_listed(listed, declared, where), *alike]
    if declared is not None:
        what = f'labels are those that the file declares for "{column}": {", ".join(declared)}.'
        return declared, [Finding("note", "labels-declared", where, what, "Nothing to do.")]
    if not values_seen:
        return (), []  # no column or no labels: building the examples says which rows
    if len(values_seen) == 1:
        raise DataError(
            f'every row has the same label, "{next(iter(values_seen))}".',
            where=where,
            remedy="There is nothing to learn: name another label column, or add rows.",
        )
    if len(values_seen) > max(2, len(values) / 2):
        raise DataError(
            f'"{column}" holds {len(values_seen)} different values in {len(values)} rows, '
            "too many for a label.",
            where=where,
            remedy="Name another column, or list labels: [...] if they are right.",
        )
    labels = sort_labels(values_seen)
    listing = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    what = f'labels were found in "{column}" and sorted: {listing}.'
    remedy = "List labels: [...] in the study file to fix them and their order."
    return labels, [
        Finding("note", "labels-found", where, what, remedy),
        *find_similar_labels(values, labels, where),
    ]


def decode_label_ids(rows: list[Row], column: str, declared: Labels | None) -> list[Row]:
    """Rows whose label is a number become rows with the name that the file declares for it.

    ``-1``, which the hub writes for "no label", becomes None; other numbers stay, to be refused.
    """
    if declared is None:
        return rows
    named = []
    for row in rows:
        value = row.values.get(column)
        if isinstance(value, int) and not isinstance(value, bool) and -1 <= value < len(declared):
            name = None if value == -1 else declared[value]
            row = replace(row, values={**row.values, column: name})
        named.append(row)
    return named


def check_label_order(
    one: Labels | None, other: Labels | None, where: str, whose: str
) -> list[Finding]:
    """A warning where two declarations name labels in different orders, or different labels."""
    if one is None or other is None or one == other:
        return []
    what = f"declares the labels {', '.join(other)}, but {whose} {', '.join(one)}."
    remedy = (
        "Rows are read by name, so scores are right; a model trained elsewhere may count otherwise."
    )
    return [Finding("warning", "label-order", where, what, remedy)]


def collapse_label_problems(
    faults: list[Finding], rows: Sequence[Row], column: str
) -> list[Finding]:
    """One fault for all rows without a label, and one where no row has a label that is known."""
    unlabelled = tuple(fault.where for fault in faults if fault.code == "missing-label")
    rest = [fault for fault in faults if fault.code != "missing-label"]
    where = rows[0].where.rsplit(" ", 2)[0] if rows else ""
    unknown = all(fault.code == "unknown-label" for fault in rest)
    if len(rows) > 1 and len(faults) == len(rows) and unknown:
        if not rest:
            what = f'no row of all {len(rows)} has a label in "{column}".'
            remedy = "Name a file or split that has labels."
        else:
            values = [str(cell_text(row.values.get(column))) for row in rows]
            most_common = ", ".join(value for value, _ in Counter(values).most_common(5))
            what = f'no row has a label that is known; "{column}" holds {most_common}.'
            remedy = "List these in labels: [...], or name another column."
        return [Finding("error", "no-label-known", where, what, remedy)]
    if not unlabelled:
        return faults
    what = describe_unlabelled(unlabelled, len(rows))
    fill, drop = (
        ("Fill it in", "drop it") if len(unlabelled) == 1 else ("Fill them in", "drop them")
    )
    remedy = f"{fill}, or {drop}: drop_unlabelled: true."
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


def _check_listed(listed: Labels, declared: Labels | None, where: str) -> list[Finding]:
    doubled = sorted({label for label in listed if listed.count(label) > 1})
    if doubled:
        raise DataError(
            f'labels lists "{doubled[0]}" twice.', where=where, remedy="Remove one of them."
        )
    if len(listed) < 2:
        raise DataError(
            "labels lists one label only.", where=where, remedy="List two labels or more."
        )
    findings = check_label_order(listed, declared, where, "the study lists")
    if declared is None and sort_labels(set(listed)) != listed and all(s.isdigit() for s in listed):
        what = f"its labels are numbers, and the study lists them as {', '.join(listed)}."
        remedy = (
            f"Output 0 of the model will mean {listed[0]}; list them in order if that is not meant."
        )
        findings.append(Finding("warning", "label-order", where, what, remedy))
    return findings


def find_similar_labels(values: Iterable[object], labels: Labels, where: str) -> list[Finding]:
    """A warning for labels that are probably one: how many rows each has, and how to join them.

    Args:
        values: of the column of labels, in all rows.
        labels: that count as different ones.
    """
    rows = Counter(cell_text(value) for value in values if not isinstance(value, list | dict))
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(fold_spelling(label), []).append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    spellings = [
        " and ".join(f'"{label}" ({rows[label]:,})' for label in group)
        for group in alike[:MAX_SHOWN]
    ]
    if len(alike) > MAX_SHOWN:
        spellings.append(f"{len(alike) - MAX_SHOWN} more")
    what = (
        f"labels that differ only in {_describe_difference(alike)} count as different ones, here "
        f"with their rows: {'; '.join(spellings)}."
    )
    # Of one that is listed, all spellings are read (match_label): the most frequent stands for all.
    joined = [max(group, key=lambda label: rows[label]) for group in groups.values()]
    remedy = f"To join them, write labels: {json.dumps(joined, ensure_ascii=False)}"
    return [Finding("warning", "labels-alike", where, what, remedy)]


def _describe_difference(groups: Sequence[Sequence[str]]) -> str:
    """In which of :data:`SPELLINGS` labels differ: ``case``, ``case or spaces``."""
    names = [
        name
        for name in SPELLINGS
        if any(len({fold_spelling(label, keep=name) for label in group}) > 1 for group in groups)
    ]
    return " or ".join(names) or "spelling"
