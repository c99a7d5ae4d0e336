"""From rows to examples, and to a dataset. All faults are collected and reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from paretune import objectives
from paretune.data.columns import cell_text, feature_texts, read_features
from paretune.data.example import Dataset, Example, Message, Segments
from paretune.data.finding import Finding, InvalidValueError, raise_for_findings
from paretune.data.labels import LabelParser, Texts
from paretune.data.rows import Row
from paretune.data.split import assign_folds, sample_held_out
from paretune.data.task import TaskRows
from paretune.errors import suggest
from paretune.study import TaskSpec, derive_seed


@dataclass(frozen=True, kw_only=True)
class Schema:
    """How a row becomes an example.

    Attributes:
        columns: whose texts the template gets.
        features: columns of a table. Their values may be missing; the template gets those that
            are there.
        label: column of the label, which ``parse_label`` makes an index or a number of.
        target: of ``columns``, the one with the reference or completion; then no text may be
            empty, and there is no label.
        messages: column with the conversation before the completion.
        id: column of the identifier; rows are counted where None.
        group: column whose equal values stay together in a split.
        read_group: from its value to the group's name.
        question: column that names the question that a row is one answer to.
    """

    columns: Sequence[str]
    template: Callable[[Texts], Segments]
    features: Sequence[str] = ()
    label: str | None = None
    parse_label: LabelParser | None = None
    target: str | None = None
    messages: str | None = None
    id: str | None = None
    group: str | None = None
    read_group: Callable[[object], str | None] = cell_text
    question: str | None = None


@dataclass
class BuildResult:
    """Examples of one part, what stands in the way (``errors``), what is said (``notes``)."""

    examples: list[Example] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


def build_examples(rows: Sequence[Row], schema: Schema, part: str) -> BuildResult:
    """Examples of one part (``train``, ``test``, ``unlabelled``), in the order of the rows.

    Uids are ``part:id``, made unique by the row's position (``train:2#4``) where a file repeats
    an id. Labels of ``unlabelled`` are not looked at.
    """
    result = BuildResult()
    parse_label = None if part == "unlabelled" else schema.parse_label
    columns = [*schema.columns, *schema.features]
    columns += [schema.label] if parse_label and schema.label else []
    columns += [name for name in (schema.id, schema.group, schema.question) if name]
    present = dict.fromkeys(name for row in rows for name in row.values)
    if rows and (missing := [c for c in dict.fromkeys(columns) if c not in present]):
        # A column that no row has is one fault, not one for each row.
        where = rows[0].where.rsplit(" ", 2)[0]
        listing = f"Its columns are {', '.join(present)}; name one of them in the study file."
        for column in missing:
            remedy = f"{listing} {suggest(column, present)}".rstrip()
            fault = Finding("error", "no-column", where, f'has no column "{column}".', remedy)
            result.errors.append(fault)
        return result
    uids: set[str] = set()
    for position, row in enumerate(rows):
        values = row.values
        try:
            texts = {name: _read_text(values, name, schema) for name in schema.columns}
            features = read_features(row, schema.features)
            label = None
            if parse_label:
                value = values.get(str(schema.label))
                if isinstance(value, list | dict):
                    what = f'holds a {type(value).__name__} in "{schema.label}"; it has one label.'
                    raise InvalidValueError("not-label", what, "Keep one label in each row.")
                label = parse_label(value, texts)
        except InvalidValueError as error:
            result.errors.append(Finding("error", error.code, row.where, error.what, error.remedy))
            continue
        name = cell_text(values.get(schema.id)) if schema.id else None
        uid = f"{part}:{position if name is None else name}"
        uid = f"{uid}#{position}" if uid in uids else uid
        uids.add(uid)
        result.examples.append(
            Example(
                uid,
                schema.template(texts | feature_texts(row, schema.features)),
                label,
                row.where,
                group=schema.read_group(values.get(schema.group)) if schema.group else None,
                features=features,
                question=str(values.get(schema.question)) if schema.question else None,
                target=texts[schema.target] if schema.target else None,
                messages=cast("tuple[Message, ...]", values[schema.messages])
                if schema.messages
                else (),
            )
        )
    return result


def build_dataset(
    spec: TaskSpec,
    kind: str,
    rows: TaskRows,
    build: Callable[[Sequence[Row], str], BuildResult],
    *,
    together: str,
    max_held_out: int | None = None,
    **about: Any,
) -> Dataset:
    """The dataset from its rows; a fifth of train is held out where there are none to test on.

    Args:
        build: the examples of a part's rows.
        together: what is held out, and what stays together (``pairs of train, equal sources``).
        max_held_out: most rows that are held out; None: one of five parts, stratified by label.
        about: further fields of the dataset (``labels``, ``language``, ``prompt`` ...).

    Raises:
        DataError: rows of which no example can be made; all are named at once.
    """
    results = {part: build(part_rows, part) for part, part_rows in rows.parts().items()}
    raise_for_findings(
        [
            *(finding for finding in rows.findings if finding.severity == "error"),
            *(fault for result in results.values() for fault in result.errors),
        ]
    )
    examples = {part: result.examples for part, result in results.items()}
    findings = [*rows.findings, *(note for r in results.values() for note in r.notes)]
    if "test" not in examples:
        every, seed = examples["train"], derive_seed(0, "hold out")
        if max_held_out is None:
            chosen = {i for i, fold in enumerate(assign_folds(every, seed)) if fold == 0}
        else:
            chosen = sample_held_out(every, min(len(every) // 5, max_held_out), seed)
        examples["train"] = [e for i, e in enumerate(every) if i not in chosen]
        examples["test"] = [every[i] for i in sorted(chosen)]
        what = (
            f"no test file: {len(chosen)} of {len(every)} {together} together, are the test part "
            "(this is the first of them)."
        )
        remedy = "They are always the same; give the task test: FILE to decide it yourself."
        where = (examples["test"] or every)[0].where
        findings.append(Finding("note", "test-held-out", where, what, remedy))
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
            "metric": spec.metric or objectives.get(kind).default_metric,
            "language": spec.language,
            "licence": spec.licence or rows.licence,
            "source": rows.source,
            "findings": tuple(findings),
            "clustered": spec.group is not None,
            **about,
        }
    )


def _read_text(values: Mapping[str, object], column: str, schema: Schema) -> str:
    value = values.get(column)
    if value is None or value != value or (schema.target and not str(value).strip()):
        code, what = "missing-text", "has no text"
    elif isinstance(value, str):
        return value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    else:
        code, what = "not-text", f"holds a {type(value).__name__}, not a text,"
    raise InvalidValueError(code, f'{what} in "{column}".', "Give it a text, or remove the row.")
