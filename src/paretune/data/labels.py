"""Labels: from the value in a file to an index, and which labels a task has.

Several labels in a row stand in lists, in texts with a separator, or in a column of 0 and 1 for
each. They are read as a text of 0 and 1 (:mod:`paretune.metrics.classification`).

A null value that a program wrote as text (:data:`~paretune.data.columns.NULL_VALUES`) is a label
only where the study or the file lists it, or where it is found among labels that nobody listed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from textwrap import shorten

from paretune.data.columns import NULL_VALUES, Values, cell_text, parse_literal, parse_number
from paretune.data.finding import MAX_EXAMPLES, MAX_SHOWN, Finding, InvalidValueError
from paretune.data.rows import Row
from paretune.data.task import TaskRows
from paretune.errors import DataError
from paretune.metrics.classification import write_label_set

Labels = tuple[str, ...]
SEPARATORS = "|;,/"
CONSTANT_SHARE = 0.85
"""If the most frequent label has at least this share, accuracy says little about the others."""
_INDICATORS = {"0": False, "1": True, "false": False, "true": True}
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")


def fold_label(text: str) -> str:
    """The label without case, and ``1.0`` as ``1``."""
    folded = text.strip().casefold()
    whole = _WHOLE_NUMBER.fullmatch(folded)
    return whole.group(1) if whole else folded


def fold_spelling(text: str) -> str:
    """A label in NFKC, without invisible characters, runs of spaces and trailing punctuation."""
    normal = unicodedata.normalize("NFKC", text)
    visible = "".join(c for c in normal if unicodedata.category(c) != "Cf")
    spaced = " ".join(visible.split())
    return fold_label(spaced.rstrip(" .,;:!?…") or spaced)


def match_label(
    value: object, labels: Sequence[str], aliases: Mapping[str, str] | None = None
) -> int | None:
    """Index of the label that ``value`` means, or None.

    The exact spelling wins; then one that is equal by :func:`fold_label`; then an alias; then one
    that is equal by :func:`fold_spelling`.
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
        if aliases and fold(text) in aliases and fold is fold_label:
            return labels.index(aliases[fold(text)])
    return None


def read_label(values: Values, column: str) -> str:
    """The text of a row's label.

    Raises:
        InvalidValueError: it is empty, or there are several.
    """
    value = values.get(column)
    if isinstance(value, list | dict):
        what = f'holds a {type(value).__name__} in "{column}"; it has one label.'
        remedy = "Keep one label in each row, or write kind: multilabel."
        raise InvalidValueError("not-label", what, remedy)
    text = cell_text(value)
    if text is None:
        raise _missing_label()
    return text


def _missing_label() -> InvalidValueError:
    return InvalidValueError("missing-label", "has no label.", "Give it one, or remove the row.")


def read_class(
    values: Values, column: str, labels: Sequence[str], aliases: Mapping[str, str] | None = None
) -> int:
    """The index of a row's label (:func:`match_label`).

    Raises:
        InvalidValueError: it is none of them.
    """
    text = read_label(values, column)
    index = match_label(text, labels, aliases)
    if index is None and text in NULL_VALUES:
        raise _missing_label()
    if index is None:
        what = f'label "{text}" is not one of {", ".join(labels)}.'
        raise InvalidValueError("unknown-label", what, "Fix the row, or add it to labels.")
    return index


def read_choice(
    values: Values, column: str, choices: Mapping[str, str], *, labelled: bool = False
) -> int:
    """The right one of a row's choices, named by its index from 0, its column or its text.

    Args:
        choices: their texts by column.
        labelled: the row itself names its choices; these names come first, and no index counts.

    Raises:
        InvalidValueError: the label fits none of them, or several.
    """
    text = read_label(values, column)
    if labelled and text in choices:
        return list(choices).index(text)
    number = None if labelled else fold_label(text)
    named = [
        i for i, (name, choice) in enumerate(choices.items()) if text in (name, choice.strip())
    ]
    places = {*named, *(i for i in range(len(choices)) if number == str(i))}
    if len(places) != 1:
        index = "" if labelled else f"an index from 0 to {len(choices) - 1}, not "
        raise InvalidValueError(
            "unknown-label",
            f'label "{text}" fits more than one choice.'
            if places
            else f'label "{text}" is not {index}'
            f"one of {', '.join(choices)}, and not the text of a choice.",
            "Fix the row; labels that count from 1 are listed as labels: [1, 2, ...].",
        )
    return places.pop()


def read_number(values: Values, column: str) -> float:
    """The label of a regression: a finite number, as a number or as text.

    Raises:
        InvalidValueError: it is something else.
    """
    text = read_label(values, column)
    number = parse_number(text)
    if number is None and text in NULL_VALUES:
        raise _missing_label()
    if number is None:
        raise InvalidValueError(
            "not-a-number",
            f'"{text}" is not a finite number.',
            "Fix the row, or make the task a classification.",
        )
    return number


def parse_list(value: object) -> object:
    """A list, also one that a CSV holds as text; anything else as it is."""
    literal = parse_literal(value)
    return literal if isinstance(literal, list) else value


def read_items(values: Values, column: str, separator: str | None) -> list[str]:
    """The items of a list, or the parts of a text; "" for an empty item.

    Raises:
        InvalidValueError: there is no cell, or an object in it.
    """
    items = parse_list(values.get(column))
    if cell_text(items) is None:
        remedy = "Write a list, [] if nothing is in it, or remove the row."
        raise InvalidValueError("missing-label", f'has nothing in "{column}".', remedy)
    if not isinstance(items, list | tuple | dict):
        parts = str(items).split(separator) if separator else [items]
        items = [part for part in parts if cell_text(part) is not None]
    if isinstance(items, dict) or any(isinstance(item, list | dict) for item in items):
        what = f'holds objects in the place of texts in "{column}".'
        raise InvalidValueError("not-list", what, "Write a list of texts.")
    return [cell_text(item) or "" for item in items]


def read_names(values: Values, column: str, separator: str | None) -> list[str]:
    """The labels that a row names.

    Raises:
        InvalidValueError: there is no cell, an object in it, or a label twice.
    """
    names = [name for name in read_items(values, column, separator) if name]
    if twice := [name for name in names if names.count(name) > 1]:
        what = f'names the label "{twice[0]}" twice.'
        remedy = "Name each label once; of lists of 0 and 1 make a column for each label."
        raise InvalidValueError("not-label", what, remedy)
    return names


def list_labels(rows: Sequence[Row], column: str) -> tuple[list[Row], str | None]:
    """A row for each label of each row that can be read; and the separator of labels in texts.

    The separator is the one of ``|;,/`` that most texts have.
    """
    broken = {finding.where for finding in find_broken_lists(rows, column)}
    rows = [row for row in rows if row.where not in broken]
    cells = [row.values.get(column) for row in rows]
    texts = [cell for cell in cells if isinstance(cell, str) and parse_list(cell) is cell]
    count, mark = max((sum(mark in text for text in texts), mark) for mark in SEPARATORS)
    listed, separator = [], mark if count else None
    for row in rows:
        with suppress(InvalidValueError):  # building the examples says which rows
            names = read_names(row.values, column, separator)
            listed += [Row({column: name}, row.where) for name in names]
    return listed, separator


def find_broken_lists(rows: Sequence[Row], column: str) -> list[Finding]:
    """An error for each text that begins or ends as a list and is none, in a column of lists.

    A column of lists has a list, or all of its texts have the brackets of one.
    """
    cells = [(row.where, parse_list(row.values.get(column))) for row in rows]
    texts = [cell_text(cell) or "[]" for _, cell in cells]
    bracketed = all(text[0] == "[" and text[-1] == "]" for text in texts)
    if not bracketed and not any(isinstance(cell, list) for _, cell in cells):
        return []
    remedy = "Close its brackets and quotes: ['a', 'b']."
    return [
        Finding("error", "broken-list", where, f"{shorten(cell, 80)} is not a whole list.", remedy)
        for where, cell in cells
        if isinstance(cell, str) and (cell.lstrip()[:1] == "[" or cell.rstrip()[-1:] == "]")
    ]


def fill_empty_sets(rows: TaskRows, column: str) -> TaskRows:
    """Rows whose empty cells are an empty set of labels, with one note for all of them.

    A part all of whose cells are empty stays as it is: nobody labelled it.
    """

    def fill(part: Sequence[Row]) -> list[Row]:
        empty = [cell_text(row.values.get(column)) is None for row in part]
        if all(empty):
            return list(part)
        return [
            replace(row, values={**row.values, column: []}) if is_empty else row
            for row, is_empty in zip(part, empty, strict=True)
        ]

    filled = rows.map(fill)
    every, after = (
        [row for part in parts.parts().values() for row in part] for parts in (rows, filled)
    )
    empty = [row for row, same in zip(every, after, strict=True) if row is not same]
    if not empty:
        return rows
    what = f"{describe_unlabelled(empty, len(every))} That is an empty set of labels."
    places = tuple(row.where for row in empty)
    remedy = "If nobody labelled them, leave them out: drop_unlabelled: true."
    note = Finding("note", "empty-label-set", empty[0].file, what, remedy, places)
    return replace(filled, findings=[*rows.findings, note])


def read_label_set(
    values: Values, column: str | None, labels: Labels, separator: str | None
) -> str:
    """Read the labels of a row.

    Args:
        column: names them; None: each label has a column of 0 and 1.

    Raises:
        InvalidValueError: a cell holds nothing, names what is no label, or is neither 0 nor 1.
    """
    if column is not None:
        names = read_names(values, column, separator)
        places = {read_class({column: name}, column, labels) for name in names}
        return write_label_set(place in places for place in range(len(labels)))
    texts = [read_label(values, label) for label in labels]
    for label, text in zip(labels, texts, strict=True):
        if fold_label(text) not in _INDICATORS:
            what = f'"{text}" in "{label}" is neither 0 nor 1.'
            raise InvalidValueError("not-indicator", what, "Fix it: 1 is a label that it has.")
    return write_label_set(_INDICATORS[fold_label(text)] for text in texts)


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
    where = rows[0].file
    if listed is not None:
        if doubled := sorted(label for label, count in Counter(listed).items() if count > 1):
            raise DataError(
                f'labels lists "{doubled[0]}" twice.', where=where, remedy="Remove one of them."
            )
        if len(listed) < 2:
            raise DataError(
                "labels lists one label only.", where=where, remedy="List two labels or more."
            )
        return listed, find_similar_labels(values, listed, where)
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


def lacks_label(row: Row, columns: Sequence[str], labels: Sequence[str] = ()) -> bool:
    """Whether one of a row's columns of labels is empty, or a null value that is no label.

    Args:
        labels: that the study or the file lists.
    """
    texts = [cell_text(row.values.get(column)) for column in columns]
    return any(
        text is None or (text in NULL_VALUES and match_label(text, labels) is None)
        for text in texts
    )


def collapse_label_faults(
    findings: list[Finding], rows: Sequence[Row], column: str
) -> list[Finding]:
    """One fault for all rows without a label, and one where no row has a label that is listed."""
    faulty = {finding.where for finding in findings if finding.code == "missing-label"}
    unlabelled = [row for row in rows if row.where in faulty]
    rest = [finding for finding in findings if finding.code != "missing-label"]
    if 1 < len(rows) == len(findings) and all(f.code == "unknown-label" for f in rest):
        what = f'no row of all {len(rows)} has a label in "{column}".'
        remedy = "Name a file or split that has labels."
        if rest:
            values = Counter(str(cell_text(row.values.get(column))) for row in rows)
            most_common = ", ".join(value for value, _ in values.most_common(5))
            what = f'no row has a label that is known; "{column}" holds {most_common}.'
            remedy = "List these in labels: [...], or name another column."
        return [Finding("error", "no-label-known", rows[0].file, what, remedy)]
    if len(rest) == len(findings):
        return findings
    pronoun = "it" if len(unlabelled) == 1 else "them"
    remedy = f"Fill {pronoun} in, or drop {pronoun}: drop_unlabelled: true."
    what, places = describe_unlabelled(unlabelled, len(rows)), tuple(r.where for r in unlabelled)
    return [Finding("error", "missing-label", rows[0].file, what, remedy, places), *rest]


def describe_unlabelled(unlabelled: Sequence[Row], rows: int) -> str:
    """``37 of 112 rows have no label (lines 2, 5, 6, ...).``"""
    _, noun, _ = unlabelled[0].where.rsplit(" ", 2)
    numbers = [row.where.rpartition(" ")[2] for row in unlabelled[:MAX_EXAMPLES]]
    ellipsis = ", ..." if len(unlabelled) > MAX_EXAMPLES else ""
    several = len(unlabelled) > 1
    return (
        f"{len(unlabelled)} of {rows} rows {'have' if several else 'has'} no label "
        f"({noun}{'s' * several} {', '.join(numbers)}{ellipsis})."
    )


def find_null_labels(
    rows: Sequence[Row], column: str, labels: Labels, *, listed: bool
) -> list[Finding]:
    """A warning for null values that count as labels: how many rows, and how to leave them out.

    Args:
        labels: that count.
        listed: the study lists them.
    """
    cells = Counter(cell_text(row.values.get(column)) for row in rows)
    nulls = {label: cells[label] for label in labels if label in NULL_VALUES and cells[label]}
    if not nulls:
        return []
    spellings = ", ".join(f'"{label}" ({count:,})' for label, count in nulls.items())
    verb = "counts as a label" if len(nulls) == 1 else "count as labels"
    what = f'{spellings} in "{column}" {verb}: {sum(nulls.values()):,} of {len(rows):,} rows.'
    remedy = "If these rows have none, leave them out: drop_unlabelled: true"
    if listed:
        rest = [label for label in labels if label not in nulls]
        remedy += f", with labels: {json.dumps(rest, ensure_ascii=False)}"
    return [Finding("warning", "null-labels", rows[0].file, what, remedy)]


def describe_imbalance(counts: Mapping[str, int]) -> str:
    """``97 of 100 rows have label "ham": ...``; empty where accuracy still tells something.

    Args:
        counts: of rows by label.
    """
    label, most = max(counts.items(), key=lambda item: item[1], default=("", 0))
    total = sum(counts.values())
    if most < CONSTANT_SHARE * total or most == total:
        return ""
    return (
        f'{most:,} of {total:,} rows have label "{label}": to answer nothing else has accuracy '
        f"{most / total:.2f}."
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
    alike = [
        group
        for group in groups.values()
        if len(group) > 1 and not {*group} <= {*NULL_VALUES}  # warned of as null values
    ]
    if not alike:
        return []
    spellings = [
        " and ".join(f'"{label}" ({counts[label]:,})' for label in group)
        for group in alike[:MAX_SHOWN]
    ]
    if len(alike) > MAX_SHOWN:
        spellings.append(f"{len(alike) - MAX_SHOWN} more")
    what = (
        "labels that differ only in spelling count as different ones, here with their rows: "
        f"{'; '.join(spellings)}."
    )
    # Of one that is listed, all spellings are read (match_label): the most frequent stands for all.
    joined = [max(group, key=lambda label: counts[label]) for group in groups.values()]
    remedy = f"To join them, write labels: {json.dumps(joined, ensure_ascii=False)}"
    return [Finding("warning", "labels-alike", where, what, remedy)]
