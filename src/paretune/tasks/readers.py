"""Readers: how the rows of a task become examples, one for each :attr:`Objective.reader`.

**Labels, choices and numbers** stand in each row of texts or of a table. Labels are those that the
study lists, or those that the file declares, or those that are found, sorted.

**Translations** are tables, TMX, hub datasets or two files of plain text. Columns are called as the
languages are, unless the study names others.

**Tags** stand one for each word, in a list beside the list of words, or in lines (CoNLL). Entities
are trained, answered and scored in IOB2, whatever scheme the files have.

**Instructions** are prompts or conversations with their completion. The form of the rows is told by
their columns (:mod:`paretune.data.instructions`), unless ``text`` and ``label`` name the columns of
prompt and completion. **Preferences** have two answers, or one that is rated.

If there is no test file, some rows of train, groups and equal texts together, become the test part:
a stratified fifth, but where texts are written at most so many as are soon written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from paretune import metrics, objectives
from paretune.answers import Answer
from paretune.data import hub
from paretune.data.build import Built, Schema, build_dataset, build_examples
from paretune.data.columns import (
    NULL_VALUES,
    Values,
    cell_text,
    convert_decimal_commas,
    gather_columns,
    make_table_reader,
    read_options,
    read_text,
)
from paretune.data.example import Dataset, normalise_text
from paretune.data.finding import (
    MAX_SHOWN,
    Finding,
    InvalidValueError,
    raise_for_findings,
    summarise,
)
from paretune.data.instructions import FORMS, PREFERENCE_FORMS, Form, find_form, named_form
from paretune.data.labels import (
    collapse_label_faults,
    describe_unlabelled,
    determine_labels,
    fill_empty_sets,
    find_broken_lists,
    find_null_labels,
    lacks_label,
    list_labels,
    parse_list,
    read_choice,
    read_class,
    read_label_set,
    read_number,
)
from paretune.data.parallel import read_pairs
from paretune.data.rows import Row, read_declared_labels
from paretune.data.split import PART_NAMES, divide_rows, find_part_column
from paretune.data.tags import find_scheme, list_tags, read_table, read_tags, to_iob2
from paretune.data.task import Task, TaskRows
from paretune.errors import DataError, StudyError
from paretune.objectives.prompt import Prompt
from paretune.study import TaskSpec
from paretune.tasks.shapes import (
    find_tags,
    find_verdict,
    holds_label_sets,
    refuse_unsupported_shape,
)

QUESTIONS = {
    "en": {"cause": "What was the cause of this?", "effect": "What happened as a result?"},
    "sl": {"cause": "Kaj je bil vzrok za to?", "effect": "Kaj se je zato zgodilo?"},
}
"""Phrases for COPA's two words, by language."""
MAX_HELD_OUT_PAIRS = 2000
"""Enough for an interval of one BLEU point, and soon translated."""
MAX_HELD_OUT_PROMPTS = 500
"""A model answers each of them, word by word."""
NESTED_COLUMN = "translation"
"""The column in which Hugging Face datasets keep a pair: ``{"sl": ..., "en": ...}``."""
UNUSED_COLUMNS = "unused-columns"
"""Code of the note on columns that a task does not read."""
_STRATIFIED = "rows, stratified by label, groups"


def load_built_in(spec: TaskSpec, task: Task, data_home: Path | None) -> Dataset:
    """The dataset of a built-in task with labels, in the language that the study names.

    Raises:
        StudyError: no such language.
        DataError: the data is missing or cannot be read.
    """
    language = _choose_language(spec, task)
    template = task.templates[spec.template]

    def build(rows: Sequence[Row], part: str) -> Built:
        label = None if part == "unlabelled" else task.label

        def read(values: Values) -> dict[str, Any]:
            texts = {column: read_text(values, column) for column in task.columns}
            return {
                "segments": template(texts, language),
                "label": label and read_class(values, label, task.labels, task.aliases),
                "question": str(values.get(task.question)) if task.question else None,
            }

        schema = Schema(
            columns=[*filter(None, (*task.columns, label, task.question))],
            read=read,
            id=task.id,
            group=task.group,
            read_group=lambda value: normalise_text(str(value)),
        )
        return build_examples(rows, schema, part)

    return build_dataset(
        spec,
        task.kind,
        _read_task(task, spec, language, data_home),
        build,
        together=_STRATIFIED,
        labels=task.labels,
        metric=spec.metric or task.metric,
        language=language,
        clustered=task.clustered,
    )


def load_by_kind(spec: TaskSpec, task: Task, data_home: Path | None) -> Dataset:
    """The dataset of a built-in task, read as the user's data of its kind; see load_built_in."""
    language = _choose_language(spec, task)
    rows = replace(_read_task(task, spec, language, data_home), declared=task.labels or None)
    columns = {"text": task.columns[0], "label": task.label, "group": task.group}
    about = {"kind": task.kind, "language": language, "metric": spec.metric or task.metric}
    load = READERS[objectives.get(task.kind).reader]
    dataset = load(spec.model_copy(update=columns | about), rows)
    return replace(dataset, clustered=task.clustered)


def load_labels(spec: TaskSpec, *, numeric: bool = False) -> Dataset:
    """Read the user's texts or tables with one of several labels in each row, or a number.

    Raises:
        StudyError: the template of a table does not name its features.
        DataError: unreadable files, a hub dataset that was never fetched, missing columns, rows
            that cannot become examples; all such rows are named at once.
    """
    label, features = str(spec.label), spec.features or ()
    if numeric:
        rows = convert_decimal_commas(_read_labelled_rows(spec), [label, *features])
        read_number_of = partial(read_number, column=label)
        return _build_labelled(spec, rows, _make_text_reader(spec), read_number_of, (label,))
    rows = convert_decimal_commas(_read_labelled_rows(spec), features)
    every = [*rows.train, *rows.test]
    labels, findings = determine_labels(every, label, spec.labels, rows.declared)
    if rows.declared is None:
        findings += find_null_labels(every, label, labels, listed=spec.labels is not None)
    columns = gather_columns(rows.train)
    if label in columns and holds_label_sets(columns[label]):
        what = f'"{label}" holds several labels in a row; each combination is a class.'
        remedy = "Write kind: multilabel, so that each label is learnt by itself."
        findings.append(Finding("warning", "label-sets", rows.train[0].where, what, remedy))
    rows = replace(rows, findings=[*rows.findings, *findings])
    read_target = partial(read_class, column=label, labels=labels)
    return _build_labelled(spec, rows, _make_text_reader(spec), read_target, labels)


def load_label_sets(spec: TaskSpec, rows: TaskRows | None = None) -> Dataset:
    """Read the user's texts or tables with any of several labels in each row.

    They stand in the column ``label``, as lists or as texts with a separator; without it
    ``labels`` names a column of 0 and 1 for each. See :func:`load_labels`.

    Args:
        rows: of a built-in task; the user's are read where None.
    """
    columns = _label_columns(spec)
    if not columns:
        raise StudyError(
            "a multilabel task names no labels.",
            where=f"task {spec.name}",
            remedy="Give it label: COLUMN of lists or of texts with a separator, or labels: "
            "[COLUMN, COLUMN, ...] of 0 and 1.",
        )
    rows = convert_decimal_commas(rows or _read_labelled_rows(spec), spec.features or ())
    if spec.label is not None:
        of_parts = [row for part in rows.parts().values() for row in part]
        raise_for_findings(summarise(find_broken_lists(of_parts, spec.label)))
        rows = fill_empty_sets(rows, spec.label)
    every, labels = [*rows.train, *rows.test], columns
    listed, separator = list_labels(every, columns[0])
    if spec.label is not None:
        if all(parse_list(row.values.get(spec.label)) == [] for row in every):
            raise DataError(
                f'every list in "{spec.label}" is empty.',
                where=rows.train[0].file,
                remedy="There is nothing to learn: name another column, or add labels.",
            )
        labels, findings = determine_labels(listed or every, spec.label, spec.labels, rows.declared)
        findings += find_null_labels(every, spec.label, labels, listed=spec.labels is not None)
        rows = replace(rows, findings=[*rows.findings, *findings])
    read_target = partial(read_label_set, column=spec.label, labels=labels, separator=separator)
    return _build_labelled(spec, rows, _make_text_reader(spec), read_target, labels)


def load_choices(spec: TaskSpec) -> Dataset:
    """Read the user's texts with choices, one of which is right; see :func:`load_labels`."""
    text, label, question = str(spec.text), str(spec.label), spec.question
    rows = _read_labelled_rows(spec)
    names, labelled, read_choices = _make_choices_reader(rows, spec.choices or ())
    listed = spec.labels or rows.declared
    if listed is not None and len(listed) != len(names):
        raise DataError(
            f"labels names {len(listed)} choices, and there are {len(names)}.",
            remedy="List a label for each choice, in their order, or leave labels out.",
        )
    phrases = QUESTIONS.get(spec.language or "", {})

    def read_inputs(values: Values) -> dict[str, Any]:
        first = read_text(values, text)
        if question is not None:
            phrase = read_text(values, question)
            first = f"{first} {phrases.get(phrase, phrase)}"
        return {"segments": tuple((first, choice) for choice in read_choices(values).values())}

    def read_target(values: Values) -> int:
        if listed is not None:
            return read_class(values, label, listed)
        return read_choice(values, label, read_choices(values), labelled=labelled)

    return _build_labelled(spec, rows, read_inputs, read_target, tuple(map(str, range(len(names)))))


def _read_labelled_rows(spec: TaskSpec) -> TaskRows:
    """The rows with the labels that the files declare; those without a label dropped if asked."""
    columns, rows = _label_columns(spec), _read_rows(spec)
    if spec.train is not None:
        rows = replace(rows, declared=read_declared_labels(spec.train, columns[0]))
    if not spec.drop_unlabelled:
        return rows
    # A choice may well read None.
    labels = spec.labels or rows.declared or (NULL_VALUES if spec.choices else ())
    notes = []

    def drop(part: Sequence[Row]) -> list[Row]:
        unlabelled = [row for row in part if lacks_label(row, columns, labels)]
        if not unlabelled or len(unlabelled) == len(part):  # of all, the column's name is wrong
            return list(part)
        what = f"{describe_unlabelled(unlabelled, len(part))} They are left out."
        remedy = "Nothing to do: the task says drop_unlabelled: true."
        notes.append(Finding("note", "unlabelled-dropped", unlabelled[0].file, what, remedy))
        return [row for row in part if not lacks_label(row, columns, labels)]

    return replace(rows.map(drop), findings=[*rows.findings, *notes])


def _label_columns(spec: TaskSpec) -> tuple[str, ...]:
    """The column of labels, or the columns of 0 and 1, one for each."""
    return (spec.label,) if spec.label is not None else spec.labels or ()


def _make_text_reader(spec: TaskSpec) -> Callable[[Values], dict[str, Any]]:
    """Make a function from a row's values to its text, two texts, or a table's sentence."""
    if spec.features:
        template = None if spec.template == "pair" else spec.template
        return make_table_reader(spec.features, template)
    text, pair = str(spec.text), spec.text_pair
    return lambda values: {
        "segments": ((read_text(values, text), read_text(values, pair) if pair else None),)
    }


def _make_choices_reader(
    rows: TaskRows, choices: Sequence[str]
) -> tuple[Sequence[str], bool, Callable[[Values], dict[str, str]]]:
    """The names of the choices, and a function from a row's values to their texts by name.

    The value between them says whether the rows name them, in a single column (``choices:
    [options]``) whose cells are no plain lists. In that case the names are those of the first row.

    Raises:
        DataError: fewer than two choices.
    """
    if len(choices) > 1:
        return choices, False, lambda values: {name: read_text(values, name) for name in choices}
    (column,) = choices
    every = [row for part in rows.parts().values() for row in part]
    filled = (names for row in every if (names := read_options(row.values.get(column))[0]))
    first = next(filled, [])
    if len(first) < 2:
        raise DataError(
            f'"{column}" is one column and holds no lists; there must be two choices at least.',
            where=every[0].where,
            remedy="Name a column for each choice, or one that holds lists.",
        )

    def read(values: Values) -> dict[str, str]:
        names, options = read_options(values.get(column))
        if len(options) != len(first):
            what = (
                f'"{column}" holds {len(options) or "no"} choices, the first row holds '
                f"{len(first)}."
            )
            remedy = "Every row must have as many choices; leave out the others."
            raise InvalidValueError("ragged-choices", what, remedy)
        places = [f"{column}[{name}]" for name in names]
        texts = dict(zip(places, options, strict=True))
        return {n: read_text(texts, place) for n, place in zip(names, places, strict=True)}

    return first, first != [*map(str, range(len(first)))], read


def _build_labelled(
    spec: TaskSpec,
    rows: TaskRows,
    read_inputs: Callable[[Values], dict[str, Any]],
    read_target: Callable[[Values], Answer | None],
    labels: tuple[str, ...],
    together: str = _STRATIFIED,
    **about: Any,
) -> Dataset:
    """The dataset of rows with answers; where many faults have one cause, it is named."""
    of_labels, features = _label_columns(spec), spec.features or ()
    columns = (*features, *(spec.choices or ()), spec.text_pair, spec.question, *of_labels)
    schema = Schema(
        columns=[*filter(None, (None if features else spec.text, *columns))],
        read=lambda values: {**read_inputs(values), "label": read_target(values)},
        id=spec.id,
        group=spec.group,
    )
    inputs = [column for column in schema.columns if column not in of_labels]
    without_label = replace(schema, columns=inputs, read=read_inputs)

    def build(part_rows: Sequence[Row], part: str) -> Built:
        if part == "unlabelled":
            return build_examples(part_rows, without_label, part)
        examples, findings = build_examples(part_rows, schema, part)
        if any(finding.code in ("not-text", "not-label") for finding in findings):
            columns_read = gather_columns(rows.train)
            if tags := find_tags(columns_read):
                words, first, *_ = tags
                remedy = f"Give the task kind: token_classification, text: {words}, label: {first}."
                what = f"its columns {words} and {first} hold words and their tags."
                raise DataError(what, where=rows.source, remedy=remedy)
            refuse_unsupported_shape(columns_read, rows.source)
        return examples, collapse_label_faults(findings, part_rows, of_labels[0])

    return build_dataset(
        spec,
        str(spec.kind),
        rows,
        build,
        together=together,
        labels=labels,
        features=features,
        **about,
    )


def load_pairs(spec: TaskSpec, task: Task | None = None, data_home: Path | None = None) -> Dataset:
    """Read pairs of texts, of a built-in translation or the user's, and build their examples.

    Raises:
        StudyError: languages that the task does not have.
        DataError: unreadable files, a hub dataset that was never fetched, files that do not belong
            together, missing columns, rows without a text; all such rows are named at once.
    """
    languages = (str(spec.source_lang), str(spec.target_lang))
    if task is None:
        source, target = spec.text or languages[0], spec.label or languages[1]
        rows = _read_rows(spec, partial(read_pairs, languages=languages, columns=(source, target)))
    elif set(languages) != set(task.languages):
        raise StudyError(
            f"task {task.name} does not translate from {languages[0]} to {languages[1]}.",
            remedy=f"Its languages are {' and '.join(task.languages)}, in either direction.",
        )
    else:
        rows = _read_task(task, spec, languages[1], data_home)
        by_language = dict(zip(task.languages, task.columns, strict=True))
        source, target = (by_language[language] for language in languages)

    def flatten(part: Sequence[Row]) -> list[Row]:
        nested = ((row, row.values.get(NESTED_COLUMN)) for row in part)
        return [
            replace(row, values={**row.values, **pair}) if isinstance(pair, dict) else row
            for row, pair in nested
        ]

    def read(values: Values) -> dict[str, Any]:
        texts = [read_text(values, column, allow_empty=False) for column in (source, target)]
        return {"segments": ((texts[0], None),), "target": texts[1]}

    schema = Schema(columns=(source, target), read=read, id=spec.id, group=spec.group)
    return build_dataset(
        spec,
        task.kind if task else str(spec.kind),
        rows.map(flatten),
        lambda part_rows, part: build_examples(part_rows, schema, part),
        together="pairs, equal sources",
        max_held_out=MAX_HELD_OUT_PAIRS,
        language=spec.target_lang,
        languages=languages,
    )


def load_tags(spec: TaskSpec, rows: TaskRows | None = None) -> Dataset:
    """Read words and their tags, and build their examples.

    Args:
        rows: of a built-in task; the user's are read where None.

    Raises:
        StudyError: the metric counts entities, and no tag marks any.
        DataError: unreadable files, a hub dataset that was never fetched, missing columns, rows
            whose tags are not one for each word or contradict the scheme; all are named at once.
    """
    rows = rows or _read_labelled_rows(spec)
    label, listed = str(spec.label), spec.labels or rows.declared
    read = partial(read_tags, text=str(spec.text), label=label, listed=listed)
    readable = []
    for row in (row for part in rows.parts().values() for row in part):
        with suppress(InvalidValueError):  # building the examples names them
            readable.append(read(row.values)[1])
    scheme = find_scheme(readable)
    metric = metrics.get(spec.metric or objectives.get(str(spec.kind)).default_metric)
    if readable and scheme is None and metric.by_class is not None:
        raise StudyError(
            f'metric {metric.name} counts entities, and no tag in "{label}" marks one (B-, I-).',
            where=f"task {spec.key}",
            remedy="Give the task metric: token_accuracy, or name the tags by labels: [O, B-X, "
            "I-X ...] where they are numbers.",
        )
    if scheme not in (None, "IOB2"):
        what = f'"{label}" marks entities by {scheme}; they are trained and answered as IOB2.'
        remedy = "Nothing to do: the entities are the same."
        note = Finding("note", "tag-scheme", rows.train[0].file, what, remedy)
        rows = replace(rows, findings=[*rows.findings, note])

    def read_example(values: Values) -> dict[str, Any]:
        words, tags = read(values)
        target = " ".join(to_iob2(tags, words, scheme))
        return {"segments": ((" ".join(words), None),), "target": target}

    return _build_labelled(
        spec,
        rows,
        read_example,
        lambda values: None,
        list_tags(readable, listed, scheme),
        together="sentences, groups and equal texts",
    )


def load_instructions(
    spec: TaskSpec,
    rows: TaskRows | None = None,
    preferences: Form | None = None,
    labels: Sequence[str] = (),
) -> Dataset:
    """Read the user's instructions, or preferences, and build their examples.

    Args:
        rows: of a built-in task; the user's are read where None.
        preferences: their form. Answers to one prompt stay together, also in intervals.
        labels: of rated answers.

    Raises:
        StudyError: the study names one of text and label without the other.
        DataError: unreadable files, a hub dataset that was never fetched, columns of no known form,
            rows without a completion; all such rows are named at once.
    """
    if (spec.text is None) != (spec.label is None):
        raise StudyError(
            f"task {spec.key} names one of text and label.",
            remedy="Name both: text is the column of the prompt, label that of the completion.",
        )
    return build_dataset(
        spec,
        str(spec.kind),
        rows or _read_rows(spec),
        partial(_build_instructions, spec, preferences),
        together="rows, equal prompts",
        max_held_out=None if preferences else MAX_HELD_OUT_PROMPTS,
        labels=labels,
        clustered=preferences is not None or spec.group is not None,
        # Nothing stands between them, unless the study writes the text around the prompt.
        prompt=Prompt(
            delimiter="" if spec.prompt is None else Prompt.delimiter,
            learns_every_answer=spec.loss_on == "all_answers",
        ),
    )


def _build_instructions(
    spec: TaskSpec, preferences: Form | None, rows: Sequence[Row], part: str
) -> Built:
    columns = gather_columns(rows)
    named = named_form(spec.text, spec.label) if spec.text and spec.label else None
    form = preferences or named or find_form(columns)
    if form is None:
        refuse_unsupported_shape(columns, rows[0].file)
        forms = "; ".join(f"{' and '.join(form.columns)} ({form.title})" for form in FORMS)
        raise DataError(
            "has no columns of a known form of instructions.",
            where=rows[0].file,
            remedy=f"Known are {forms}. Its own are {', '.join(sorted(columns))}; name "
            "two of them as text (the prompt) and label (the completion).",
        )

    def read(values: Values) -> dict[str, Any]:
        fields = form.read(values)
        if spec.prompt is not None and len(fields["messages"]) > 1:
            raise InvalidValueError(
                "long-conversation",
                "is a conversation of several messages, which the task's prompt cannot be written "
                "around.",
                "Remove prompt, so that the model's chat template writes it, or remove the row.",
            )
        return fields if spec.prompt is None else {**fields, "messages": ()}

    schema = Schema(columns=form.columns, read=read, id=spec.id, group=spec.group)
    examples, findings = build_examples(rows, schema, part)
    if preferences:
        prompts = [normalise_text(example.segments[0][0]) for example in examples]
        pairs = zip(examples, prompts, strict=True)
        return [replace(e, group=e.group or prompt) for e, prompt in pairs], findings
    if rating := find_verdict(columns):
        what = f'"{rating}" rates each completion, and the rejected are learnt like the others.'
        remedy = (
            "kind: unpaired_preference learns from both; or keep the good rows, without the rating."
        )
        findings.append(Finding("warning", "rated-completions", rows[0].where, what, remedy))
    several = [e for e in examples if any(role == "assistant" for role, _ in e.messages)]
    if several and spec.loss_on != "all_answers":
        what = (
            f"{len(several)} of {len(examples)} {part} rows are conversations with earlier "
            "answers: the last one is the completion, those before it are read and not learnt."
        )
        remedy = "loss_on: all_answers learns all of them."
        findings.append(Finding("note", "last-answer", several[0].where, what, remedy))
    return examples, findings


def find_unused_columns(spec: TaskSpec, columns: Collection[str]) -> list[str]:
    """The columns of the user's data that a task reads nothing from."""
    named = (spec.text, spec.text_pair, spec.question, spec.label, spec.id, spec.group)
    read = {*named, spec.split_by, *(spec.features or ()), *(spec.choices or ())}
    if spec.label is None:
        read |= {*(spec.labels or ())}
    if spec.languages is not None:
        read |= {*spec.languages, NESTED_COLUMN}
    objective = objectives.get(str(spec.kind))
    form = PREFERENCE_FORMS.get(objective.reader)
    if objective.reader == "instructions" and spec.text is None:
        form = find_form(columns)
    if form is not None:
        read |= {*form.columns, *form.optional}
    return [column for column in columns if column not in read]


def describe_unused_columns(columns: Sequence[str]) -> str:
    """``Its columns author and date are not used.``"""
    listed = [*columns[:MAX_SHOWN]]
    if len(columns) > MAX_SHOWN:
        listed.append(f"{len(columns) - MAX_SHOWN} more")
    *before, last = listed
    if not before:
        return f"its column {last} is not used."
    return f"its columns {', '.join(before)} and {last} are not used."


def _read_rows(
    spec: TaskSpec, read: Callable[[str, str | None], tuple[list[Row], str]] = read_table
) -> TaskRows:
    """The rows of the user's data, from the hub or from files, with a note on unused columns.

    Args:
        read: from a path (and that of the second file of a translation) to the rows and the name
            of what was read.

    Raises:
        DataError: they cannot be read, or not be divided by the column ``split_by``.
    """
    if spec.dataset is not None:
        rows = hub.load_splits(spec)
    else:
        parts, names = {}, []
        for part in ("train", "test", "test_shifted"):
            if (path := getattr(spec, part)) is not None:
                parts[part], name = read(path, getattr(spec, f"{part}_target"))
                names.append(name)
        test, shifted = parts.get("test", ()), parts.get("test_shifted", ())
        rows = TaskRows(parts["train"], test, shifted=shifted, source=", ".join(names))
    if spec.unlabelled is not None:
        unlabelled, name = read(spec.unlabelled, None)
        rows = replace(rows, unlabelled=unlabelled, source=f"{rows.source}, {name}")
    findings, where, columns = [*rows.findings], rows.train[0].file, gather_columns(rows.train)
    unused = find_unused_columns(spec, columns)
    if unused:
        what = describe_unused_columns(unused)
        remedy = "Nothing to do if they say nothing of the task."
        findings.append(Finding("note", UNUSED_COLUMNS, where, what, remedy))
    if spec.split_by is not None:
        values = {cell_text(row.values.get(spec.split_by)) or "" for row in rows.train}
        # One that holds no parts should hold dates.
        if any(value.casefold() in PART_NAMES for value in values):
            train, test, note = divide_rows(rows.train, spec.split_by)
            return replace(rows, train=train, test=test, findings=[*findings, note])
    if column := find_part_column({name: columns[name].distinct for name in unused}):
        what = f'"{column}" says which rows are train and which are not, and nothing obeys it.'
        remedy = f"Give the task split_by: {column} in the place of test, or remove the column."
        findings.append(Finding("warning", "parts-mixed", where, what, remedy))
    return replace(rows, findings=findings)


def _choose_language(spec: TaskSpec, task: Task) -> str:
    """The language of a built-in task; StudyError where it does not exist in it."""
    language = spec.language or task.languages[0]
    if language not in task.languages:
        raise StudyError(
            f'task {task.name} does not exist in the language "{language}".',
            remedy=f"It exists in {', '.join(task.languages)}.",
        )
    return language


def _read_task(task: Task, spec: TaskSpec, language: str, data_home: Path | None) -> TaskRows:
    """The rows of a built-in task, with their source and licence."""
    rows = task.read_rows(spec, language, data_home)
    return replace(rows, source=task.source[language], licence=task.licence[language])


def load_ids(spec: TaskSpec, *, numeric: bool = False) -> Dataset:
    """Read names of rows, and a label or a number for each; see :func:`load_labels`."""
    return load_labels(spec.model_copy(update={"text": spec.id}), numeric=numeric)


READERS: dict[str, Callable[..., Dataset]] = {
    "ids": load_ids,
    "numbered_ids": partial(load_ids, numeric=True),
    "tags": load_tags,
    "labels": load_labels,
    "choices": load_choices,
    "label_sets": load_label_sets,
    "numbers": partial(load_labels, numeric=True),
    "parallel": load_pairs,
    "instructions": load_instructions,
    "preference": partial(load_instructions, preferences=PREFERENCE_FORMS["preference"]),
    "unpaired_preference": partial(
        load_instructions,
        preferences=PREFERENCE_FORMS["unpaired_preference"],
        labels=("undesirable", "desirable"),
    ),
}
"""Readers of the user's data, by :attr:`Objective.reader`."""
TASK_READERS: dict[str, Callable[[TaskSpec, Task, Path | None], Dataset]] = {
    "parallel": load_pairs,
    **dict.fromkeys(("tags", "label_sets", "preference"), load_by_kind),
}
"""Readers of built-in tasks; all others are read by :func:`load_built_in`."""
