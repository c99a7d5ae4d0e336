"""Which labels a user's task has, and in which order: listed, declared by the file, or found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from paretune.data.finding import Finding
from paretune.data.formats.row import Row
from paretune.data.labels import cell_text, fold_label, sort_labels
from paretune.errors import DataError

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
        return listed, _check_listed(listed, declared, where)
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
        *_find_similar_labels(labels, where),
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
    """One fault instead of one for each row, where no row at all has a label that is known."""
    codes = {fault.code for fault in faults}
    if len(rows) < 2 or len(faults) != len(rows) or not codes <= {"unknown-label", "missing-label"}:
        return faults
    if codes == {"missing-label"}:
        what = f'no row of all {len(rows)} has a label in "{column}".'
        remedy = "Name a file or split that has labels."
    else:
        most_common = Counter(str(cell_text(row.values.get(column))) for row in rows).most_common(5)
        values = ", ".join(value for value, _ in most_common)
        what = f'no row has a label that is known; "{column}" holds {values}.'
        remedy = "List these in labels: [...], or name another column."
    where = rows[0].where.rsplit(" ", 2)[0]
    return [Finding("error", "no-label-known", where, what, remedy)]


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


def _find_similar_labels(labels: Labels, where: str) -> list[Finding]:
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(fold_label(label), []).append(label)
    return [
        Finding(
            "warning",
            "labels-alike",
            where,
            f'the labels "{same[0]}" and "{same[1]}" differ in spelling only, and count as two.',
            "Fix the rows, or list labels: [...]: then case does not matter.",
        )
        for same in groups.values()
        if len(same) > 1
    ]
