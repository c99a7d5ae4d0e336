"""Guess a task from a data file, with a reason for each guess: material for `paretune new`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from paretune.data.columns import parse_numbers
from paretune.data.formats.instructions import Form, find_form
from paretune.data.formats.read import read_declared_labels, read_rows
from paretune.data.formats.row import gather_columns
from paretune.data.label_set import describe_unlabelled, find_similar_labels
from paretune.data.labels import cell_text, sort_labels
from paretune.data.schema_inference.infer_label import infer_label_column, is_numeric_target
from paretune.data.schema_inference.infer_parallel import (
    NESTED,
    infer_language_columns,
    infer_language_files,
)
from paretune.data.schema_inference.infer_test_file import (
    LanguageFiles,
    UsedColumns,
    find_test_file,
)
from paretune.data.schema_inference.shapes import (
    find_text_to_text,
    refuse_conll,
    refuse_unsupported_shape,
)
from paretune.errors import DataError, StudyError
from paretune.terminal.plural import pluralise

_ID = re.compile(r"(.*_)?(id|idx|uid|guid|index|uuid)(_id)?", re.IGNORECASE)
_CHOICE = re.compile(
    r"(choice|option|ending|answer|alternative|izbira)_?(\d+|[a-e])", re.IGNORECASE
)
_CHOICES = re.compile(r"(choices|options|endings|answers|alternatives)", re.IGNORECASE)
_QUESTION = re.compile(r"question|asks_?for|asked|vprašanje|vprasanje", re.IGNORECASE)
_TEXT = re.compile(
    r"(text|sentence|content|message|body|document|review|utterance|premise|context|question|"
    r"besedilo|poved|sporočilo)(_?(1|a))?",
    re.IGNORECASE,
)
_KNOWN_PAIRS = (
    ("premise", "hypothesis"),
    ("question", "passage"),
    ("question", "sentence"),
    ("question", "context"),
    ("query", "document"),
    ("query", "passage"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
)
_TEXT_TO_TEXT = "a text is written for each text: check this guess"
_TEXT_TO_TEXT_KEYS = {
    "text": "what the model reads",
    "label": "what it shall write",
    "prompt": "what stands around the text",
}


@dataclass(frozen=True)
class NamedColumns:
    """Columns that the user named: label, text, second text, or both sides of a translation.

    Raises:
        StudyError: one side of a translation without the other, or another column beside them.
    """

    label: str | None = None
    text: str | None = None
    pair: str | None = None
    source: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if (self.source is None) != (self.target is None):
            raise StudyError("--source and --target go together.", remedy="Name both columns.")
        if self.source is not None and {self.label, self.text, self.pair} != {None}:
            raise StudyError(
                "--source and --target name all columns of a translation.",
                remedy="Leave out --label, --text and --pair.",
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """All that were named."""
        return tuple(name for name in vars(self).values() if name is not None)


@dataclass(frozen=True)
class InferredTask:
    """``task``: keys and values of a :class:`TaskSpec`; ``reasons``: why, by the same keys.

    Paths in ``task`` are as passed; ``test`` is absent if no test file was found. ``remarks`` are
    sentences on what the user may not expect: of labels, and of files beside this one.
    """

    task: dict[str, object]
    reasons: dict[str, str]
    remarks: tuple[str, ...] = ()

    @property
    def uncertain(self) -> list[str]:
        """Keys whose guess the user should check."""
        hints = ("check this guess", "though it holds")
        return [k for k, why in self.reasons.items() if any(doubt in why for doubt in hints)]


def infer_task(
    path: Path | str,
    named: NamedColumns = NamedColumns(),
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
    two = infer_language_files(Path(str(path)))
    if two is not None and named == NamedColumns():
        return _parallel_task(
            Path(str(path)).with_suffix(""), two, "", "called by its language", test
        )
    refuse_conll(Path(str(path)))
    rows = read_rows(path)
    columns = gather_columns(rows)
    for name in named.columns:
        if name not in columns:
            raise DataError(
                f'has no column "{name}".',
                where=str(path),
                remedy=f"Its columns are {', '.join(columns)}.",
            )
    if named.source and named.target:
        two = {"source_lang": named.source, "target_lang": named.target}
        return _parallel_task(Path(str(path)), two, named.target, "as you said", test)
    two = infer_language_columns({n: v for n, v in columns.items() if not _is_id(n, v)})
    if named == NamedColumns() and two is not None:
        last = next(reversed(columns))
        return _parallel_task(Path(str(path)), two, last, "named by its column", test)
    refuse_unsupported_shape(columns, str(path), named.label)
    texts = find_text_to_text(columns) if named == NamedColumns() else None
    if texts is not None:
        used = UsedColumns((texts["text"],), texts["label"])
        return _instruction_task(Path(str(path)), _TEXT_TO_TEXT, used, len(rows), test, texts)
    form = find_form(columns) if named == NamedColumns() else None
    if form is not None and _holds_instructions(form, columns):
        why = f"columns {' and '.join(form.columns)}, as {form.title} has them"
        used = UsedColumns(form.columns, form.columns[-1])
        return _instruction_task(Path(str(path)), why, used, len(rows), test)
    task: dict[str, object] = {"name": _task_name(Path(str(path)))}
    reasons = {"name": "from the file's name"}
    label, why = named.label, "as you said"
    if label is None:
        others = {n: v for n, v in columns.items() if n not in (named.text, named.pair)}
        last = next(reversed(others))
        tabular = not named.text and bool(
            _tabular_columns({n: v for n, v in others.items() if n != last})
        )
        label, why = infer_label_column(others, table=tabular, where=str(path))
    rest = {name: values for name, values in columns.items() if name != label}
    free = {name: values for name, values in rest.items() if name not in named.columns}
    identifier = next((c for c in free if _is_id(c, free[c])), None)
    free.pop(identifier or "", None)
    rest.pop(identifier or "", None)
    choices, why_choices = _find_choices(free)
    for name in choices:
        rest.pop(name)
    measured = not choices and is_numeric_target(columns[label])
    table = [] if choices or named.text else _tabular_columns(rest)
    question = next((c for c in rest if choices and _QUESTION.fullmatch(c)), None)
    if question and len([c for c in rest if _is_text(rest[c])]) > 1:
        rest.pop(question)
    else:
        question = None
    text, pair, why_text = (named.text or "", named.pair, "as you said")
    if not table and not named.text:
        text, pair, why_text = _find_texts(rest, str(path), single=bool(choices or named.pair))
        pair = named.pair or pair
    task["kind"] = "multiple_choice" if choices else "pair" if pair else "classification"
    reasons["kind"] = why_choices or ("two texts in a row" if pair else "one text in a row")
    if table:
        reasons["kind"] = "columns of short values: a table"
    if measured:
        task["kind"] = "regression"
        reasons["kind"] = f"{label} holds numbers; classification, if they are names of classes"
    task["train"], reasons["train"] = str(path), pluralise(len(rows), "row")
    labels: tuple[str, ...] = ()
    why_labels = ""
    if not choices and not measured:
        labels, why_labels = _find_labels(path, label, columns[label])
    inputs = [*table, *filter(None, (text, pair, question)), *choices]
    used = UsedColumns((*inputs, label), label, labels, numbers=measured)
    test_file, reasons["test"], remarks = find_test_file(Path(str(path)), used, test)
    if test_file is not None:
        task["test"] = str(test_file)
    if table:
        task["features"], reasons["features"] = table, "each becomes a part of a sentence"
    else:
        task["text"], reasons["text"] = text, why_text
    if pair:
        task["text_pair"], reasons["text_pair"] = pair, "the second text"
    if choices:
        task["choices"], reasons["choices"] = list(choices), why_choices
    if question:
        task["question"], reasons["question"] = question, "asked after the text of each choice"
    task["label"], reasons["label"] = label, why
    if labels:
        task["labels"], reasons["labels"] = list(labels), why_labels
        alike = find_similar_labels(columns[label], labels, Path(str(path)).name)
        remarks += tuple(f"{finding.what} {finding.remedy}" for finding in alike)
    unlabelled = [row.where for row in rows if cell_text(row.values.get(label)) is None]
    if drop_unlabelled:
        task["drop_unlabelled"] = True
        reasons["drop_unlabelled"] = "as you said"
    elif 0 < len(unlabelled) < len(rows):
        remark = describe_unlabelled(unlabelled, len(rows))
        remarks += (f"{remark} Fill them in, or drop them: --drop-unlabelled.",)
    if identifier:
        task["id"], reasons["id"] = identifier, "a different value in every row"
    return InferredTask(task, reasons, remarks)


def _find_labels(path: Path | str, label: str, values: list[object]) -> tuple[tuple[str, ...], str]:
    """The labels of a column, and where they are from."""
    declared = read_declared_labels(path, label)
    if declared:
        return declared, "declared in the file"
    distinct = {s for s in map(cell_text, values) if s is not None}
    return sort_labels(distinct), f"{pluralise(len(distinct), 'value')} of {label}, in order"


def _parallel_task(
    path: Path, pair: dict[str, str], column: str, why: str, test: str | None
) -> InferredTask:
    """A translation, from a table whose test file must have ``column``, or from a stem."""
    task: dict[str, object] = {"name": _task_name(path), "kind": "translation"}
    reasons = {"name": "from the file's name", "kind": "two texts, called by their languages"}
    task |= {**pair, "train": str(path)}
    reasons |= dict.fromkeys(pair, why)
    reasons["source_lang"] = f"{why}; exchange the two for the other direction, or say --from"
    reasons["train"] = "both languages" if column else "without the ending: one file a language"
    columns = [pair.get("text", pair["source_lang"]), column] if column != NESTED else [column]
    used = UsedColumns(columns, column) if column else LanguageFiles(tuple(pair.values()))
    test_file, reasons["test"], remarks = find_test_file(path, used, test)
    if test_file is not None:
        task["test"] = str(test_file)
    return InferredTask(task, reasons, remarks)


def _holds_instructions(form: Form, columns: dict[str, list[object]]) -> bool:
    """Whether these columns hold messages, or texts that are no labels."""
    last = columns[form.columns[-1]]
    if any(isinstance(value, list) for value in last):
        return True
    distinct = {value for value in last if isinstance(value, str)}
    words = sum(len(value.split()) for value in last if isinstance(value, str)) / len(last)
    return len(distinct) > len(last) / 2 or words > 3


def _instruction_task(
    path: Path,
    why: str,
    used: UsedColumns,
    rows: int,
    test: str | None,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> InferredTask:
    """Instructions: in a form whose columns need no names, or a text for each text."""
    task: dict[str, object] = {"name": _task_name(path), "kind": "instruction", "train": str(path)}
    reasons = {"name": "from the file's name", "kind": why, "train": f"{rows} rows"}
    task |= columns
    reasons |= {key: _TEXT_TO_TEXT_KEYS[key] for key in columns}
    test_file, reasons["test"], remarks = find_test_file(path, used, test)
    if test_file is not None:
        task["test"] = str(test_file)
    return InferredTask(task, reasons, remarks)


def _tabular_columns(columns: dict[str, list[object]]) -> list[str]:
    """All columns if none holds sentences and at least one holds numbers; otherwise none."""
    if any(isinstance(v, list | dict) for values in columns.values() for v in values):
        return []
    numeric = [name for name, values in columns.items() if parse_numbers(values) is not None]
    words = max(
        (sum(len(str(v).split()) for v in values) / len(values) for values in columns.values()),
        default=0.0,
    )
    named = any(_TEXT.fullmatch(name) and name not in numeric for name in columns)
    return list(columns) if numeric and words < 4 and not named else []


def _find_choices(columns: dict[str, list[object]]) -> tuple[tuple[str, ...], str]:
    stems: dict[str, list[str]] = {}
    for name in columns:
        if match := _CHOICE.fullmatch(name):
            stems.setdefault(match.group(1).casefold(), []).append(name)
    for stem, names in stems.items():
        if len(names) > 1:
            return tuple(sorted(names, key=_choice_number)), f"several columns called {stem}"
    for name, values in columns.items():
        if _CHOICES.fullmatch(name) and all(isinstance(v, list) for v in values):
            return (name,), f"{name} holds a list in every row"
    return (), ""


def _choice_number(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", name)
    return (int(digits.group()) if digits else 0, name)


def _find_texts(
    columns: dict[str, list[object]], where: str, *, single: bool
) -> tuple[str, str | None, str]:
    size = {
        name: sum(len(v) for v in values if isinstance(v, str)) / len(values)
        for name, values in columns.items()
        if _is_text(values)
    }
    if not size or max(size.values()) < 1:
        raise DataError(
            "no column looks like text.",
            where=where,
            remedy="Name one with --text COLUMN. Apart from label and id there is "
            f"{', '.join(columns) or 'no column'}.",
        )
    lower = {name.casefold(): name for name in size}
    for first, second in _KNOWN_PAIRS:
        if not single and first in lower and second in lower:
            return lower[first], lower[second], "a known pair of names"
    named = [name for name in size if _TEXT.fullmatch(name)]
    text = max(named or size, key=lambda name: size[name])
    others = [name for name in size if name != text]
    why = "its name" if named else "the column with the longest texts: check this guess"
    if others:
        why += f"; not used: {', '.join(others)}"
    return text, None, why


def _is_text(values: list[object]) -> bool:
    return all(isinstance(v, str) for v in values)


def _is_id(name: str, values: list[object]) -> bool:
    return _ID.fullmatch(name) is not None and _has_unique_values(values)


def _has_unique_values(values: list[object]) -> bool:
    spelled = [cell_text(v) for v in values if not isinstance(v, list | dict)]
    return len(set(spelled)) == len(values) and None not in spelled


def _task_name(path: Path) -> str:
    """The file's name, or its folder's where the file is just called train."""
    words = [w for w in re.split(r"[^A-Za-z0-9]+", path.stem) if w and w.lower() != "train"]
    words = words or [w for w in re.split(r"[^A-Za-z0-9]+", path.absolute().parent.name) if w]
    return "-".join(words).lower() or "my-task"
