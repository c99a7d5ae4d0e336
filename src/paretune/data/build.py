"""Makes examples of rows, and a dataset. All faults are collected and reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune import objectives
from paretune.data.columns import Values, cell_text, find_possible_groups, gather_columns
from paretune.data.example import Dataset, text_key
from paretune.data.finding import Finding, InvalidValueError, raise_for_findings
from paretune.data.rows import Row
from paretune.data.split import assign_folds, read_dates, sample_held_out, take_newest
from paretune.data.task import TaskRows
from paretune.errors import DataError, suggest
from paretune.objectives.example import Example
from paretune.study import TaskSpec, derive_seed

MIN_UNLABELLED = 30
"""Fewer say nothing of a mean."""
Built = tuple[list[Example], list[Finding]]
"""The examples of some rows, and what was found in them; errors are findings too."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Rules for making an example of a row.

    Attributes:
        columns: columns that at least one row must have.
        read: makes fields of the example of a row's values: ``segments``, ``label``, ``target``
            ...; InvalidValueError says what is wrong with them.
        id: column of the identifier; rows are counted where None.
        group: column whose equal values stay together in a split.
        read_group: makes the group's name of its value.
    """

    columns: Sequence[str]
    read: Callable[[Values], dict[str, Any]]
    id: str | None = None
    group: str | None = None
    read_group: Callable[[object], str | None] = cell_text


def build_examples(rows: Sequence[Row], schema: Schema, part: str) -> Built:
    """Examples of one part (``train``, ``test`` ...), in the order of the rows.

    Uids are ``part:id``, made unique by the row's position (``train:2#4``) where a file repeats
    an id.
    """
    present = dict.fromkeys(name for row in rows for name in row.values)
    required = dict.fromkeys(filter(None, (*schema.columns, schema.id, schema.group)))
    if rows and (missing := [column for column in required if column not in present]):
        # A column that no row has is one fault, not one for each row.
        listing = f"Its columns are {', '.join(present)}; name one of them in the study file."
        return [], [
            Finding(
                "error",
                "no-column",
                rows[0].file,
                f'has no column "{column}".',
                f"{listing} {suggest(column, present)}".rstrip(),
            )
            for column in missing
        ]
    examples: list[Example] = []
    findings: list[Finding] = []
    uids: set[str] = set()
    for position, row in enumerate(rows):
        try:
            fields = schema.read(row.values)
        except InvalidValueError as error:
            findings.append(Finding("error", error.code, row.where, error.what, error.remedy))
            continue
        name = cell_text(row.values.get(schema.id)) if schema.id else None
        uid = f"{part}:{position if name is None else name}"
        uid = f"{uid}#{position}" if uid in uids else uid
        uids.add(uid)
        group = schema.read_group(row.values.get(schema.group)) if schema.group else None
        fields = {"label": None, **fields}
        examples.append(Example(uid=uid, where=row.where, group=group, **fields))
    return examples, findings


def build_dataset(
    spec: TaskSpec,
    kind: str,
    rows: TaskRows,
    build: Callable[[Sequence[Row], str], Built],
    *,
    together: str,
    max_held_out: int | None = None,
    **about: Any,
) -> Dataset:
    """The dataset from its rows; a fifth of train is held out where there are none to test on.

    With ``split_by`` of the task it is the newest fifth, otherwise it is drawn.

    Args:
        build: makes the examples of a part's rows.
        together: words for the rows held out, and those that stay together (``pairs, equal
            sources``).
        max_held_out: most rows that are held out; None: one of five parts, stratified by label.
        about: further fields of the dataset (``labels``, ``language``, ``prompt`` ...).

    Raises:
        DataError: rows of which no example can be made; all are named at once.
    """
    examples: dict[str, list[Example]] = {}
    findings = [*rows.findings]
    for part, part_rows in rows.parts().items():
        examples[part], part_findings = build(part_rows, part)
        findings += part_findings
    raise_for_findings([finding for finding in findings if finding.severity == "error"])
    if "test" not in examples:
        every, seed = examples["train"], derive_seed(0, "hold out")
        description = f"{together} kept together"
        most = min(len(every) // 5, max_held_out or len(every))
        if spec.split_by is not None:
            if spec.group is not None:
                raise DataError(
                    f"split_by: {spec.split_by} is a column of dates, which parts groups.",
                    where=f"task {spec.key}",
                    remedy="Remove split_by, or group.",
                )
            chosen, oldest = take_newest(read_dates(rows.train, spec.split_by), most)
            description = f"rows, the newest by {spec.split_by} (from {oldest} on)"
        elif max_held_out is None:
            chosen = {i for i, fold in enumerate(assign_folds(every, seed)) if fold == 0}
        else:
            chosen = sample_held_out(every, most, seed)
        examples["train"] = [e for i, e in enumerate(every) if i not in chosen]
        examples["test"] = [every[i] for i in sorted(chosen)]
        what = (
            f"no test file, so a part of train is the test part: {len(chosen)} of {len(every)} "
            f"{description}. This is the first of them."
        )
        remedy = "They are always the same; give the task test: FILE to decide it yourself."
        where = (examples["test"] or every)[0].where
        findings.append(Finding("note", "test-held-out", where, what, remedy))
    if spec.unlabelled is not None:
        examples["unlabelled"], note = keep_unseen(examples)
        findings += note
    findings += _propose_groups(spec, rows.train)
    limits = {str(name): limit for name, limit in (spec.limit or {}).items()}

    def take(part: str) -> tuple[Example, ...]:
        rows, limit = examples.get(part, []), limits.get(part)
        if limit is None or limit >= len(rows):
            return tuple(rows)
        cut = rows[limit].question  # a question that does not fit whole is left out
        whole = tuple(e for e in rows[:limit] if cut is None or e.question != cut)
        return whole or tuple(rows[:limit])

    return Dataset(
        **{
            "task": spec.key,
            "kind": kind,
            "labels": (),
            "train": take("train"),
            "test": take("test"),
            "shifted": take("test_shifted"),
            "unlabelled": take("unlabelled"),
            "predicts_unlabelled": spec.unlabelled is not None,
            "metric": spec.metric or objectives.get(kind).default_metric,
            "language": spec.language,
            "licence": spec.licence or rows.licence,
            "source": rows.source,
            "findings": tuple(findings),
            "clustered": spec.group is not None,
            **about,
        }
    )


def keep_unseen(parts: Mapping[str, Sequence[Example]]) -> Built:
    """The unlabelled rows whose text and group no labelled row has; a note on the others.

    A run that trained on a row, or on one of its group, answers it unlike those it has not seen.

    Raises:
        DataError: too few are left.
    """
    labelled = [e for part in ("train", "test") for e in parts[part]]
    texts, groups = {text_key(e) for e in labelled}, {e.group for e in labelled} - {None}
    rows = parts.get("unlabelled", ())
    seen = [e for e in rows if text_key(e) in texts or e.group in groups]
    uids = {e.uid for e in seen}
    unseen = [e for e in rows if e.uid not in uids]
    what = f"{len(seen)} of {len(rows)} unlabelled rows are labelled too, or of a labelled group"
    if len(unseen) < MIN_UNLABELLED:
        raise DataError(
            f"{len(unseen)} unlabelled rows are too few: {what}.",
            where=rows[0].where if rows else "unlabelled",
            remedy=f"Give {MIN_UNLABELLED} others at least, or remove unlabelled.",
        )
    if not seen:
        return unseen, []
    remedy = "Nothing to do: they are left out."
    return unseen, [Finding("note", "unlabelled-seen", seen[0].where, f"{what}.", remedy)]


def _propose_groups(spec: TaskSpec, rows: Sequence[Row]) -> list[Finding]:
    """A note for each column of the user's that the task does not use and that may be its group."""
    unnamed = spec.text is None and spec.features is None  # a form of instructions names its own
    if not spec.has_own_data or unnamed or spec.group or spec.split_by:
        return []
    used = [spec.text, spec.text_pair, spec.question, spec.label, spec.id]
    used += [*(spec.choices or ()), *(spec.features or ()), *(spec.labels or ())]
    return [
        Finding(
            "note",
            "possible-group",
            rows[0].file,
            f'"{column}" is not used and repeats: {reason}.',
            "If rows of one value hang together (of one author, of one document), "
            f"`group: {column}` in the task keeps them on one side of every split.",
        )
        for column, reason in find_possible_groups(gather_columns(rows), used).items()
    ]
