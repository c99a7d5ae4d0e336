"""Tasks with a label in each row: built-in ones, and the user's texts or tables.

Labels are those that the study lists, or those that the file declares, or those that are found,
sorted. Without a test file a stratified fifth of train, groups together, becomes the test part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from paretune.data import hub
from paretune.data.build import BuildResult, Schema, build_dataset, build_examples
from paretune.data.columns import (
    cell_text,
    convert_decimal_commas,
    gather_columns,
    make_row_template,
)
from paretune.data.example import Dataset, Segments, normalise_text
from paretune.data.finding import Finding, raise_for_findings
from paretune.data.labels import (
    Texts,
    choice_parser,
    class_label_parser,
    collapse_label_faults,
    describe_unlabelled,
    determine_labels,
    parse_number_label,
)
from paretune.data.rows import Row, read_declared_labels
from paretune.data.shapes import holds_label_sets, refuse_unsupported_shape
from paretune.data.task import Task, TaskRows, read_parts, read_table
from paretune.errors import DataError, StudyError
from paretune.study import TaskSpec

QUESTIONS = {
    "en": {"cause": "What was the cause of this?", "effect": "What happened as a result?"},
    "sl": {"cause": "Kaj je bil vzrok za to?", "effect": "Kaj se je zato zgodilo?"},
}
"""By language: how COPA's two words are phrases."""
_TOGETHER = "rows of train, stratified, groups"


def load_built_in(spec: TaskSpec, task: Task, data_home: Path | None) -> Dataset:
    """The dataset of a built-in task in the language that the study names.

    Raises:
        StudyError: no such language or template.
        DataError: the data is missing or cannot be read.
    """
    language = spec.language or task.languages[0]
    if language not in task.languages:
        raise StudyError(
            f'task {task.name} does not exist in the language "{language}".',
            remedy=f"It exists in {', '.join(task.languages)}.",
        )
    template = task.templates.get(spec.template)
    if template is None:
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy=f"It has {', '.join(task.templates)}.",
        )
    schema = Schema(
        columns=task.columns,
        template=lambda texts: template(texts, language),
        label=task.label,
        parse_label=class_label_parser(task.labels, task.aliases),
        id=task.id,
        group=task.group,
        read_group=lambda value: normalise_text(str(value)),
        question=task.question,
    )
    return build_dataset(
        spec,
        task.kind,
        replace(
            task.read_rows(spec, language, data_home),
            source=task.source[language],
            licence=task.licence[language],
        ),
        lambda rows, part: build_examples(rows, schema, part),
        together=_TOGETHER,
        labels=task.labels,
        metric=spec.metric or task.metric,
        language=language,
        clustered=task.clustered,
    )


def load_labelled(spec: TaskSpec, *, targets: str) -> Dataset:
    """Read the user's texts or tables with a label in each row.

    Args:
        targets: what the label is: one of several ``labels``, which of the ``choices`` is right,
            or ``numbers``.

    Raises:
        StudyError: the study asks for a template that the user's data cannot have.
        DataError: unreadable files, a hub dataset that was never fetched, missing columns, rows
            that cannot become examples; all such rows are named at once.
    """
    if spec.template != "pair" and not spec.features:
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy="Texts of your own are encoded as they are: remove template.",
        )
    label = str(spec.label)
    rows = hub.load_splits(spec) if spec.dataset is not None else read_parts(spec, read_table)
    if spec.train is not None:
        rows = replace(rows, declared=read_declared_labels(spec.train, label))
    raw = rows
    if spec.drop_unlabelled:
        rows = _drop_unlabelled(rows, label)
    options: tuple[str, ...] = ()
    if targets == "choices":
        rows, options = _expand_choices(rows, spec.choices or ())
    schema = _make_schema(spec, options)
    labels: tuple[str, ...] = (label,)
    if options:
        labels = tuple(str(i) for i in range(len(options)))
        parser = choice_parser(options, spec.labels or rows.declared)
        schema = replace(schema, parse_label=parser)
    elif targets == "numbers":
        rows = convert_decimal_commas(rows, [label, *(spec.features or ())])
        schema = replace(schema, parse_label=parse_number_label)
    else:
        rows = convert_decimal_commas(rows, spec.features or ())
        labels, findings = determine_labels(
            [*rows.train, *rows.test], label, spec.labels, rows.declared
        )
        schema = replace(schema, parse_label=class_label_parser(labels))
        if label in (columns := gather_columns(rows.train)) and holds_label_sets(columns[label]):
            what = f'"{label}" holds several labels in a row; each combination is a class.'
            remedy = "paretune gives each row one label: keep one, or write a column for each."
            findings.append(Finding("warning", "label-sets", rows.train[0].where, what, remedy))
        rows = replace(rows, findings=[*rows.findings, *findings])

    def build(part_rows: Sequence[Row], part: str) -> BuildResult:
        result = build_examples(part_rows, schema, part)
        if any(fault.code in ("not-text", "not-label") for fault in result.errors):
            refuse_unsupported_shape(gather_columns(raw.train), raw.source)
        result.errors = collapse_label_faults(result.errors, part_rows, label)
        return result

    return build_dataset(
        spec,
        str(spec.kind),
        rows,
        build,
        together=_TOGETHER,
        labels=labels,
        features=spec.features or (),
    )


def _drop_unlabelled(rows: TaskRows, column: str) -> TaskRows:
    """The rows that have a label, with a note on the others."""
    notes = []

    def drop(part: Sequence[Row]) -> list[Row]:
        places = [row.where for row in part if cell_text(row.values.get(column)) is None]
        if not places or len(places) == len(part):  # without any, the column's name is wrong
            return list(part)
        what = f"{describe_unlabelled(places, len(part))} They are left out."
        where = places[0].rsplit(" ", 2)[0]
        remedy = "Nothing to do: the task says drop_unlabelled: true."
        notes.append(Finding("note", "unlabelled-dropped", where, what, remedy))
        return [row for row in part if cell_text(row.values.get(column)) is not None]

    return replace(rows.map(drop), findings=[*rows.findings, *notes])


def _expand_choices(rows: TaskRows, choices: Sequence[str]) -> tuple[TaskRows, tuple[str, ...]]:
    """Rows with one column for each choice, and those columns' names.

    A single column of lists, ``choices: [options]``, becomes ``options[0]``, ``options[1]``, ...

    Raises:
        DataError: fewer than two choices, or lists of different lengths (every such row is named).
    """
    if len(choices) > 1:
        return rows, tuple(choices)
    name = choices[0]
    every = [row for part in rows.parts().values() for row in part]
    first = next((v for row in every if isinstance(v := row.values.get(name), list)), [])
    if len(first) < 2:
        raise DataError(
            f'"{name}" is one column and holds no lists; there must be two choices at least.',
            where=every[0].where,
            remedy="Name a column for each choice, or one that holds lists.",
        )
    names = tuple(f"{name}[{i}]" for i in range(len(first)))
    cells = ((row, row.values.get(name)) for row in every)
    lengths = [(row, len(cell) if isinstance(cell, list) else 0) for row, cell in cells]
    raise_for_findings(
        [
            Finding(
                "error",
                "ragged-choices",
                row.where,
                f'"{name}" holds {length or "no"} choices, the first row holds {len(names)}.',
                "Every row must have as many choices; leave out the others.",
            )
            for row, length in lengths
            if length != len(names)
        ]
    )

    def expand(part: Sequence[Row]) -> list[Row]:
        return [
            replace(row, values={**row.values, **dict(zip(names, options, strict=True))})
            for row in part
            if isinstance(options := row.values[name], list)
        ]

    return rows.map(expand), names


def _make_schema(spec: TaskSpec, options: Sequence[str]) -> Schema:
    """The schema of the user's columns; ``options`` are those of the choices."""
    text, pair, question = str(spec.text), spec.text_pair, spec.question
    if spec.features:
        template = make_row_template(
            spec.features, None if spec.template == "pair" else spec.template
        )
        columns: list[str] = []
    elif options:
        columns = [text, *filter(None, [question]), *options]
        phrases = QUESTIONS.get(spec.language or "", {})

        def template(texts: Texts) -> Segments:
            first = texts[text]
            if question is not None:
                first = f"{first} {phrases.get(texts[question], texts[question])}"
            return tuple((first, texts[option]) for option in options)
    else:
        columns = [text, *filter(None, [pair, question])]

        def template(texts: Texts) -> Segments:
            return ((texts[text], texts[pair] if pair else None),)

    return Schema(
        columns=columns,
        features=spec.features or (),
        template=template,
        label=str(spec.label),
        id=spec.id,
        group=spec.group,
    )
