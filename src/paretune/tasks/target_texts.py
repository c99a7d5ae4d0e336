"""Tasks with a text to write for each row: translations, and instructions.

**Translations** are tables, TMX, hub datasets or two files of plain text, and built-in ones.
Columns are called as the languages are, unless the study names others.

**Instructions** are prompts or conversations with their completion. The form of the rows is told by
their columns (:mod:`paretune.data.instructions`), unless ``text`` and ``label`` name the columns of
prompt and completion.

Without a test file some rows of train, equal sources together, become the test part: a fifth, at
most :data:`MAX_HELD_OUT_PAIRS` pairs or :data:`MAX_HELD_OUT_PROMPTS` prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from paretune.data import hub
from paretune.data.build import BuildResult, Schema, build_dataset, build_examples
from paretune.data.columns import gather_columns
from paretune.data.example import Dataset
from paretune.data.finding import Finding
from paretune.data.instructions import (
    COMPLETION,
    MESSAGES,
    PROMPT,
    describe_forms,
    find_form,
    named_form,
    parse_instructions,
)
from paretune.data.parallel import read_pairs
from paretune.data.prompt import Prompt
from paretune.data.rows import Row
from paretune.data.shapes import find_verdict, refuse_unsupported_shape
from paretune.data.task import Task, read_parts, read_table
from paretune.errors import DataError, StudyError
from paretune.study import TaskSpec

MAX_HELD_OUT_PAIRS = 2000
"""Enough for an interval of one BLEU point, and soon translated."""
MAX_HELD_OUT_PROMPTS = 500
"""A model answers each of them, word by word."""
NESTED_COLUMN = "translation"
"""The column in which Hugging Face datasets keep a pair: ``{"sl": ..., "en": ...}``."""


def load_pairs(spec: TaskSpec, task: Task | None = None, data_home: Path | None = None) -> Dataset:
    """Read pairs of texts, of a built-in translation or the user's, and build their examples.

    Raises:
        StudyError: languages that the task does not have, or a template.
        DataError: unreadable files, a hub dataset that was never fetched, files that do not belong
            together, missing columns, rows without a text; all such rows are named at once.
    """
    languages = (str(spec.source_lang), str(spec.target_lang))
    if task and set(languages) != set(task.languages):
        raise StudyError(
            f"task {task.name} does not translate from {languages[0]} to {languages[1]}.",
            remedy=f"Its languages are {' and '.join(task.languages)}, in either direction.",
        )
    if spec.template != "pair":
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy="Texts are translated as they are: remove template.",
        )
    if task:
        rows = replace(
            task.read_rows(spec, languages[1], data_home),
            source=task.source[languages[1]],
            licence=task.licence[languages[1]],
        )
        by_language = dict(zip(task.languages, task.columns, strict=True))
        source, target = (by_language[language] for language in languages)
    else:
        source, target = spec.text or languages[0], spec.label or languages[1]
        read = partial(read_pairs, languages=languages, columns=(source, target))
        rows = hub.load_splits(spec) if spec.dataset is not None else read_parts(spec, read)
    schema = Schema(
        columns=(source, target),
        template=lambda texts: ((texts[source], None),),
        target=target,
        id=spec.id,
        group=spec.group,
    )
    return build_dataset(
        spec,
        task.kind if task else str(spec.kind),
        rows.map(_flatten_nested),
        lambda part_rows, part: build_examples(part_rows, schema, part),
        together="pairs of train, equal sources",
        max_held_out=MAX_HELD_OUT_PAIRS,
        language=spec.target_lang,
        languages=languages,
    )


def load_instructions(spec: TaskSpec) -> Dataset:
    """Read the user's instructions and build their examples.

    Raises:
        StudyError: the study asks for a template, or names one of text and label without the other.
        DataError: unreadable files, a hub dataset that was never fetched, columns of no known form,
            rows without a completion; all such rows are named at once.
    """
    if spec.template != "pair":
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy="A chat template is the model's own; a sentence around a plain prompt is "
            "prompt: '... {text} ...'.",
        )
    if (spec.text is None) != (spec.label is None):
        raise StudyError(
            f"task {spec.key} names one of text and label.",
            remedy="Name both: text is the column of the prompt, label that of the completion.",
        )
    return build_dataset(
        spec,
        str(spec.kind),
        hub.load_splits(spec) if spec.dataset is not None else read_parts(spec, read_table),
        partial(_build_instructions, spec),
        together="rows of train, equal prompts",
        max_held_out=MAX_HELD_OUT_PROMPTS,
        # As both are written, unless the study writes what stands around the prompt.
        prompt=Prompt(
            delimiter="" if spec.prompt is None else Prompt.delimiter,
            learns_every_answer=spec.loss_on == "all_answers",
        ),
    )


def _flatten_nested(rows: Sequence[Row]) -> list[Row]:
    """Rows in which a nested pair stands beside the other columns."""
    return [
        replace(row, values={**row.values, **nested})
        if isinstance(nested := row.values.get(NESTED_COLUMN), dict)
        else row
        for row in rows
    ]


def _build_instructions(spec: TaskSpec, rows: Sequence[Row], part: str) -> BuildResult:
    """The examples of a part; rows that cannot be read are among the errors."""
    columns = gather_columns(rows)
    form = named_form(spec.text, spec.label) if spec.text and spec.label else find_form(columns)
    if form is None:
        where = rows[0].where.rsplit(" ", 2)[0]
        refuse_unsupported_shape(columns, where)
        raise DataError(
            "has no columns of a known form of instructions.",
            where=where,
            remedy=f"Known are {describe_forms()}. Its own are {', '.join(sorted(columns))}; name "
            "two of them as text (the prompt) and label (the completion).",
        )
    parsed, faults = parse_instructions(rows, form)
    schema = Schema(
        columns=(PROMPT, COMPLETION),
        template=lambda texts: ((texts[PROMPT], None),),
        target=COMPLETION,
        messages=MESSAGES,
        id=spec.id,
        group=spec.group,
    )
    result = build_examples(parsed, schema, part)
    result.errors[:0] = faults
    if rating := find_verdict(columns):
        what = f'"{rating}" rates each completion, and the rejected are learnt like the others.'
        remedy = (
            "paretune does not train on rated completions (KTO): keep the rows that are good, "
            "without the rating."
        )
        result.notes.append(Finding("warning", "rated-completions", rows[0].where, what, remedy))
    if spec.prompt is not None:
        what = (
            "is a conversation of several messages, which the task's prompt cannot be written "
            "around."
        )
        remedy = "Remove prompt, so that the model's chat template writes it, or remove the row."
        result.errors += [
            Finding("error", "long-conversation", example.where, what, remedy)
            for example in result.examples
            if len(example.messages) > 1
        ]
        result.examples = [replace(example, messages=()) for example in result.examples]
    several = [e for e in result.examples if any(role == "assistant" for role, _ in e.messages)]
    if several and spec.loss_on != "all_answers":
        what = (
            f"{len(several)} of {len(result.examples)} {part} rows are conversations with earlier "
            "answers: the last one is the completion, those before it are read and not learnt."
        )
        remedy = "loss_on: all_answers learns all of them."
        result.notes.append(Finding("note", "last-answer", several[0].where, what, remedy))
    return result
