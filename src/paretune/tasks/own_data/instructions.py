"""Instructions: prompts or conversations with the completion that a model shall give.

The form of the rows is told by their columns (:mod:`paretune.data.instructions`); ``text``
and ``label`` name the columns of prompt and completion where they are called otherwise. Without a
test file some rows of train become the test part: a fifth, at most :data:`MAX_HELD_OUT`; a model
answers each of them, word by word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from paretune.data.build import BuildResult, ColumnMapping, build_examples, make_missing_label
from paretune.data.example import Dataset, Example, Message
from paretune.data.finding import Finding
from paretune.data.instructions import (
    COMPLETION,
    MESSAGES,
    PROMPT,
    Form,
    Instruction,
    Values,
    describe_forms,
    find_form,
    parse_instructions,
    read_prompt_completion,
)
from paretune.data.labels import cell_text
from paretune.data.prompt import Prompt
from paretune.data.rows import Row, gather_columns, read_rows
from paretune.data.shapes import find_verdicts, refuse_unsupported_shape
from paretune.errors import DataError, StudyError
from paretune.study import TaskSpec
from paretune.tasks.own_data.target_texts import HoldOut, TargetRows, build_dataset, read_hub_rows

MAX_HELD_OUT = 500
"""Rows that are held out at most."""


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
        read_hub_rows(spec) if spec.dataset is not None else _read_files(spec),
        lambda rows, part: _build(spec, rows, part),
        HoldOut(MAX_HELD_OUT, "rows of train, equal prompts"),
        language=spec.language,
        # As both are written, unless the study writes what stands around the prompt.
        prompt=Prompt(
            delimiter="" if spec.prompt is None else Prompt.delimiter,
            learns_every_answer=spec.loss_on == "all_answers",
        ),
    )


def _read_files(spec: TaskSpec) -> TargetRows:
    test, shifted = (
        None if path is None else read_rows(path) for path in (spec.test, spec.test_shifted)
    )
    files = filter(None, (spec.train, spec.test, spec.test_shifted))
    source = ", ".join(path.rpartition("/")[2] for path in files)
    return TargetRows(read_rows(str(spec.train)), test, (), source, shifted=shifted or ())


def _build(spec: TaskSpec, rows: Sequence[Row], part: str) -> BuildResult:
    """The examples of a part; rows that cannot be read are among the errors."""
    columns = gather_columns(rows)
    form = _named_form(spec) if spec.text is not None else find_form(columns)
    if form is None:
        refuse_unsupported_shape(columns, rows[0].where.rsplit(" ", 2)[0])
        raise DataError(
            "has no columns of a known form of instructions.",
            where=rows[0].where.rsplit(" ", 2)[0],
            remedy=f"Known are {describe_forms()}. Its own are {', '.join(sorted(columns))}; name "
            "two of them as text (the prompt) and label (the completion).",
        )
    parsed, faults = parse_instructions(rows, form)
    built = build_examples(parsed, _make_mapping(spec), part)
    built.errors[:0] = faults
    built.notes += [
        Finding(
            "warning",
            "rated-completions",
            rows[0].where,
            f'"{column}" rates each completion, and the rejected ones are learnt like the others.',
            "paretune does not train on rated completions (KTO): keep the rows that are good, "
            "without the rating.",
        )
        for column in find_verdicts(columns)
    ]
    if spec.prompt is not None:
        built.errors += _find_long_conversations(built.examples)
        built.examples = [replace(example, messages=()) for example in built.examples]
    several = [e for e in built.examples if sum(role == "assistant" for role, _ in e.messages)]
    if several and spec.loss_on != "all_answers":
        what = (
            f"{len(several)} of {len(built.examples)} {part} rows are conversations with earlier "
            "answers: the last one is the completion, those before it are read and not learnt."
        )
        remedy = "loss_on: all_answers learns all of them."
        built.notes.append(Finding("note", "last-answer", several[0].where, what, remedy))
    return built


def _find_long_conversations(examples: Sequence[Example]) -> list[Finding]:
    """Conversations that one prompt cannot be written around."""
    return [
        Finding(
            "error",
            "long-conversation",
            example.where,
            "is a conversation of several messages, which the task's prompt cannot be written "
            "around.",
            "Remove prompt, so that the model's chat template writes it, or remove the row.",
        )
        for example in examples
        if len(example.messages) > 1
    ]


def _named_form(spec: TaskSpec) -> Form:
    """Prompt and completion under the names that the study gives them."""
    text, label = str(spec.text), str(spec.label)

    def read(values: Values) -> Instruction:
        return read_prompt_completion({PROMPT: values.get(text), COMPLETION: values.get(label)})

    return Form("named", (text, label), read)


def _make_mapping(spec: TaskSpec) -> ColumnMapping:
    group = spec.group

    def messages(values: Values) -> tuple[Message, ...]:
        return cast("tuple[Message, ...]", values[MESSAGES])

    return ColumnMapping(
        columns=(PROMPT, COMPLETION),
        template=lambda texts: ((texts[PROMPT], None),),
        label=COMPLETION,
        parse_label=lambda value, texts: make_missing_label(),
        id=spec.id,
        group=(lambda values: cell_text(values.get(group))) if group else (lambda values: None),
        required_columns=[group] if group else [],
        target=COMPLETION,
        messages=messages,
    )
