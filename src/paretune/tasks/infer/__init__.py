"""Guess a task from a data file, with a reason for each guess: material for `paretune new`.

The columns are looked at once (:class:`paretune.data.columns.DataColumn`). The first schema that
fits them is taken: two languages (:mod:`.translation`), tags for words, a kind that is refused
(:mod:`paretune.tasks.shapes`), a text for each text (:mod:`.texts`), and at last a label in each
row (:mod:`.labelled`). A guess without a name to go by is to be checked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from paretune.data.columns import gather_columns
from paretune.data.split import divide_rows, find_part_column
from paretune.data.tags import read_table
from paretune.errors import DataError, spell_option
from paretune.study import TaskSpec
from paretune.tasks.infer.draft import InferredTask, NamedColumns
from paretune.tasks.infer.labelled import draft_labelled
from paretune.tasks.infer.parts import add_test_file, propose_splits
from paretune.tasks.infer.texts import draft_instructions, draft_tags
from paretune.tasks.infer.translation import (
    draft_parallel_files,
    draft_translation,
    set_source_language,
)
from paretune.tasks.readers import describe_unused_columns, find_unused_columns
from paretune.tasks.shapes import LABEL, Columns, find_identifier, refuse_unsupported_shape

__all__ = ["InferredTask", "NamedColumns", "infer_task", "set_source_language"]


def infer_task(
    path: Path | str,
    named: NamedColumns = NamedColumns(),  # noqa: B008 (frozen)
    *,
    test: str | None = None,
    drop_unlabelled: bool = False,
) -> InferredTask:
    """Guess kind, columns, labels and the test file.

    Args:
        test: the test file, or ``none``; guessed by default.
        drop_unlabelled: rows without a label are left out.

    Raises:
        DataError: unreadable, no column of that name, or no column can be the label or the text;
            the columns are named.
    """
    file = Path(str(path))
    is_free = named == NamedColumns()
    columns: Columns = {}
    split_by, division = None, ""
    draft = draft_parallel_files(file) if is_free else None
    if draft is None:
        rows, _ = read_table(str(path))
        columns = gather_columns(rows)
        free = [name for name in columns if name not in named.columns and not LABEL.fullmatch(name)]
        split_by = find_part_column({name: columns[name].distinct for name in free})
        if split_by is not None:
            *_, note = divide_rows(rows, split_by)
            division = f"{note.what} {note.remedy}".rstrip()
            rest = [{n: v for n, v in row.values.items() if n != split_by} for row in rows]
            rows = [replace(row, values=values) for row, values in zip(rows, rest, strict=True)]
            columns = gather_columns(rows)
        for name in named.columns:
            if name not in columns:
                remedy = f"Its columns are {', '.join(columns)}."
                raise DataError(f'has no column "{name}".', where=str(path), remedy=remedy)
        draft = draft_translation(file, columns, named) or draft_tags(file, columns, named.label)
        if draft is None and named.label is None:
            refuse_unsupported_shape(columns, str(path))
        if draft is None and is_free:
            draft = draft_instructions(file, columns)
        draft = draft or draft_labelled(file, rows, named, drop_unlabelled)
    unused = find_unused_columns(TaskSpec.model_validate(draft.task), columns)
    if identifier := find_identifier({name: columns[name] for name in unused}):
        draft.add("id", identifier, "a different value in every row")
        unused.remove(identifier)
    if unused:
        draft.remarks += (f"{file.name}: {describe_unused_columns(unused)}",)
    if split_by is None:
        add_test_file(draft, test)
    elif test is not None:
        raise DataError(
            f"its column {split_by} says which rows are the test.",
            where=str(path),
            remedy=f"Leave out {spell_option('test')}, or remove the column.",
        )
    else:
        del draft.task["test"], draft.reasons["test"]
        draft.add("split_by", split_by, "it says which rows are train and which are the test")
        draft.remarks = (f"{file.name}: {division}", *draft.remarks)
    propose_splits(draft, columns)
    return draft
