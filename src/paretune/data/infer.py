"""Guess a task from a data file, with a reason for each guess: material for `paretune new`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from paretune.data.columns import cell_text, parse_numbers
from paretune.data.instructions import Form, find_form
from paretune.data.labels import (
    describe_unlabelled,
    find_similar_labels,
    match_label,
    sort_labels,
)
from paretune.data.language import CODES, language_code
from paretune.data.rows import Row, gather_columns, read_declared_labels, read_rows
from paretune.data.shapes import (
    LABEL,
    MAX_LABEL_LENGTH,
    NUMERIC_TARGET,
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


Columns = Mapping[str, list[object]]


def infer_label_column(columns: Columns, *, table: bool, where: str) -> tuple[str, str]:
    """The label's column, and why it is taken to be the one.

    Args:
        table: whether all but the last are features.

    Raises:
        DataError: nothing looks like a label; says how to name one.
    """
    few = _few_valued_columns(columns)
    gaps = {name for name, values in columns.items() if _has_gaps(values)}
    for names in ([name for name in columns if name not in gaps], columns):
        for name in names:
            telling = LABEL.fullmatch(name) or NUMERIC_TARGET.fullmatch(name)
            if telling and is_numeric_target(columns[name]):
                return name, "its name, and it holds numbers"
        for name in names:
            if LABEL.fullmatch(name) and name in few:
                return name, f"its name, and its {few[name]} different values"
    named = [name for name in columns if LABEL.fullmatch(name)]
    last = list(columns)[-1]
    if table and (last in few or is_numeric_target(columns[last])):
        return last, "the last column of a table: check this guess, or say --label COLUMN"
    if few and not named:
        best = min(few, key=lambda name: (name in gaps, few[name]))
        which = "columns with few gaps" if gaps and best not in gaps else "columns"
        why = f"of the {which} it has the fewest different values ({few[best]})"
        return best, f"{why}: check this guess, or say --label"
    if named:
        return named[0], f"its name, though it holds {_describe_oddity(columns[named[0]])}"
    measured = [name for name, values in columns.items() if is_numeric_target(values)]
    if len(measured) == 1:
        return measured[0], "the only column of numbers: check this guess, or say --label"
    raise DataError(
        "no column looks like a label (few short values that repeat, or numbers).",
        where=where,
        remedy=f"Its columns are {', '.join(columns)}; say which one: --label COLUMN.",
    )


def is_numeric_target(values: list[object]) -> bool:
    """Many different numbers, as what is measured has, not the few that name classes."""
    if any(isinstance(v, list | dict) for v in values):
        return False
    parsed = parse_numbers(values)
    return parsed is not None and len(set(parsed)) > max(20, len(parsed) / 20)


def _has_gaps(values: list[object]) -> bool:
    """Whether more cells are empty than an oversight leaves: such a column is rarely the label."""
    return sum(cell_text(value) is None for value in values) > len(values) / 10


def _few_valued_columns(columns: Columns) -> dict[str, int]:
    """Columns of few short values that repeat, and how many those are."""
    few = {}
    for name, values in columns.items():
        if any(isinstance(v, list | dict) for v in values):
            continue
        distinct = {s for s in map(cell_text, values) if s is not None}
        most = max(2, min(200, len(values) // 2))
        if 2 <= len(distinct) <= most and max(map(len, distinct)) <= MAX_LABEL_LENGTH:
            few[name] = len(distinct)
    return few


def _describe_oddity(values: list[object]) -> str:
    """What is unusual in values of a column that is called like a label."""
    distinct = {s for s in map(cell_text, values) if s is not None}
    if len(distinct) < 2:
        return "one value only: training needs a second" if distinct else "nothing"
    if len(distinct) > len(values) / 2:
        return f"{len(distinct)} different values in {len(values)} rows"
    if max(map(len, distinct)) > MAX_LABEL_LENGTH:
        return f"{len(distinct)} long values"
    return f"{len(distinct)} different values"


_SIDES = (("source", "target"), ("src", "tgt"), ("src", "trg"))
_MIN_WORDS = 1.5
"""Words of a text on average: columns of codes may be called ``id`` and ``no`` too."""
NESTED = "translation"


def infer_language_columns(columns: Mapping[str, list[object]]) -> dict[str, str] | None:
    """Keys of a task whose two columns are each other's translation, or None where they are not.

    Languages that the columns do not name are called as the columns are.
    """
    nested = columns.get(NESTED, [])
    if len(columns) == 1 and nested and all(isinstance(v, dict) for v in nested):
        keys = list(nested[0]) if isinstance(nested[0], dict) else []
        return (
            dict(zip(("source_lang", "target_lang"), keys, strict=True)) if len(keys) == 2 else None
        )
    if len(columns) != 2 or not all(map(_is_prose, columns.values())):
        return None
    first, second = columns
    if (first.casefold(), second.casefold()) in _SIDES:
        return {"source_lang": first, "target_lang": second}
    one, other = _column_language(first), _column_language(second)
    if one is None or other is None or one == other:
        return None
    task = {"source_lang": one, "target_lang": other}
    if (first, second) != (one, other):
        task |= {"text": first, "label": second}
    return task


def infer_language_files(path: Path) -> dict[str, str] | None:
    """The languages of ``path`` (``corpus.sl``) and of the one other file of that name
    (``corpus.en``).

    None where the extension is not a language. Raises:
        DataError: no such file in the same folder, or several.
    """
    own = path.suffix[1:]
    if own not in CODES or not path.is_file():
        return None
    others = sorted(
        p.suffix[1:] for p in path.parent.glob("*") if p.stem == path.stem and p != path
    )
    others = [other for other in others if other in CODES]
    if len(others) != 1:
        raise DataError(
            f"looks like one side of parallel text, with {len(others)} files in other languages "
            "in the same folder.",
            where=str(path),
            remedy=f"Put one in the same folder, named {path.stem}.LANGUAGE (such as "
            f"{path.stem}.en).",
        )
    return {"source_lang": own, "target_lang": others[0]}


def set_source_language(task: Mapping[str, object], source_lang: str) -> dict[str, object]:
    """The task from ``source_lang`` into its other language.

    Raises:
        DataError: it has no such language.
    """
    languages = (str(task["source_lang"]), str(task["target_lang"]))
    if source_lang == languages[0]:
        return dict(task)
    if source_lang != languages[1]:
        raise DataError(
            f'does not hold the language "{source_lang}".',
            where=str(task["train"]),
            remedy=f"It holds {languages[0]} and {languages[1]}.",
        )
    exchanged = {"source_lang": "target_lang", "target_lang": "source_lang"}
    if "text" in task:
        exchanged |= {"text": "label", "label": "text"}
    return {key: task[exchanged.get(key, key)] for key in task}


def _column_language(column: str) -> str | None:
    words = [language_code(word) for word in re.split(r"[\W_]+", column) if word]
    known = [word for word in words if word in CODES]
    return known[0] if len(known) == 1 else None


def _is_prose(values: list[object]) -> bool:
    texts = [v for v in values if isinstance(v, str)]
    words = sum(len(text.split()) for text in texts)
    return len(texts) == len(values) and words >= _MIN_WORDS * len(values)


_VALIDATION_NAMES = ("validation", "valid", "val", "dev")
NO_TEST = "none"
"""In the place of a test file: some of train is held out, whatever lies in the folder."""
_SELECTION = "a fifth of train chooses learning rates and checkpoints"
HELD_OUT = "a fifth of train is held out for the test"


@dataclass(frozen=True)
class UsedColumns:
    """What a test file must have: the columns that the task reads, and no other labels.

    Attributes:
        label: of the columns, the one with the answers; they may be ``numbers``.
        labels: empty where any answer will do.
    """

    columns: Sequence[str]
    label: str
    labels: Sequence[str] = ()
    numbers: bool = False

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""
        return path.is_file()

    def find_misfit(self, path: Path) -> str:
        """Why a file is no test file of the task, as the end of a sentence; empty if it is one."""
        try:
            rows = read_rows(path)
        except DataError as error:
            return str(error).rstrip(".")
        present = {name for row in rows for name in row.values}
        if absent := [name for name in self.columns if name not in present]:
            return f'it has no column "{absent[0]}"'
        answers = [row.values.get(self.label) for row in rows]
        if all(cell_text(answer) is None for answer in answers):
            return "it has no labels"
        if self.numbers and parse_numbers(answers) is None:
            return f'"{self.label}" holds no numbers'
        if self.labels and (strangers := self._count_strange_labels(rows)):
            label, count = strangers.most_common(1)[0]
            several = f", the first of {len(strangers)} such labels" if len(strangers) > 1 else ""
            return f'train has no label "{label}" ({count} of its {len(rows)} rows{several})'
        return ""

    def _count_strange_labels(self, rows: Sequence[Row]) -> Counter[str]:
        answers = Counter(cell_text(row.values.get(self.label)) for row in rows)
        return Counter(
            {
                text: count
                for text, count in answers.items()
                if text is not None and match_label(text, self.labels) is None
            }
        )


@dataclass(frozen=True)
class LanguageFiles:
    """The same of plain text, which has one file for each language."""

    languages: Sequence[str]

    def exists(self, stem: Path) -> bool:
        """Whether there is a file of any language."""
        return len(self._list_missing(stem)) < len(self.languages)

    def find_misfit(self, stem: Path) -> str:
        """Why the files of a stem are no test; empty if they are one."""
        return "".join(f"there is no {name}" for name in self._list_missing(stem)[:1])

    def _list_missing(self, stem: Path) -> list[str]:
        names = [f"{stem.name}.{language}" for language in self.languages]
        return [name for name in names if not stem.with_name(name).is_file()]


def find_test_file(
    train: Path, used: UsedColumns | LanguageFiles, test: str | None = None
) -> tuple[Path | None, str, tuple[str, ...]]:
    """The test file in the folder of train, named as train with test, validation or dev.

    Args:
        train: a file, or the stem of two.
        used: what the task reads.
        test: what the user says: a file, or :data:`NO_TEST`; None: what is there.

    Returns:
        The file, or None; why; and a sentence on each file that the user should know of.

    Raises:
        DataError: the file that the user names does not fit.
    """
    if test == NO_TEST:
        return None, f"--test {NO_TEST}: {HELD_OUT}", ()
    if test is not None:
        if misfit := used.find_misfit(Path(test)):
            raise DataError(
                f"cannot be the test file: {misfit}.",
                where=test,
                remedy=f"Name another file, or --test {NO_TEST}: {HELD_OUT}.",
            )
        return Path(test), "as you said", ()
    chosen: Path | None = None
    remarks = []
    for word in ("test", *_VALIDATION_NAMES):
        name = train.name.replace("train", word) if "train" in train.name else word + train.suffix
        candidate = train.with_name(name)
        if candidate == train or not used.exists(candidate):
            continue
        if chosen is not None:
            remarks.append(f"{name} is not used: {chosen.name} is the test, and {_SELECTION}.")
        elif misfit := used.find_misfit(candidate):
            remarks.append(f"{name} is not used: {misfit}.")
        else:
            chosen = candidate
            part = f"the test (and {_SELECTION})" if word != "test" else "the test"
            remarks.append(
                f"{name} in the same folder is taken as {part}; --test {NO_TEST} leaves it out."
            )
    if chosen is None:
        return None, f"no test file that fits: {HELD_OUT}", tuple(remarks)
    return chosen, "found in the same folder", tuple(remarks)
