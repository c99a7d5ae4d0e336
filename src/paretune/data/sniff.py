"""Guess a task from a data file, with a reason for each guess: material for `paretune new`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from paretune.data.labels import in_order, spell
from paretune.data.read import declared_labels, read_rows
from paretune.data.sniff_pairs import pair_columns, pair_files
from paretune.data.table import number
from paretune.errors import DataError

_LABEL = re.compile(
    r"(gold_?)?(label|labels|class|category|target|topic|sentiment|intent|y|answer|correct|"
    r"oznaka|razred|kategorija|tema)(_?(name|text|id))?",
    re.IGNORECASE,
)
_MEASURED = re.compile(
    r"price|cost|amount|value|rating|score|charges|cena|znesek|ocena", re.IGNORECASE
)
_ID = re.compile(r"(.*_)?(id|idx|uid|guid|index|uuid)(_id)?", re.IGNORECASE)
_CHOICE = re.compile(
    r"(choice|option|ending|answer|alternative|izbira)_?(\d+|[a-e])", re.IGNORECASE
)
_CHOICES = re.compile(r"(choices|options|endings|answers|alternatives)", re.IGNORECASE)
_TEXT = re.compile(
    r"(text|sentence|content|message|body|document|review|utterance|premise|context|question|"
    r"besedilo|poved|sporočilo)(_?(1|a))?",
    re.IGNORECASE,
)
_PAIRS = (
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
_TESTS = ("test", "validation", "valid", "val", "dev")


@dataclass(frozen=True)
class Sniffed:
    """``task``: keys and values of a :class:`TaskSpec`; ``reasons``: why, by the same keys.

    Paths in ``task`` are as given; ``test`` is absent where no file was found beside.
    """

    task: dict[str, object]
    reasons: dict[str, str]


def sniff(path: Path | str, label: str | None = None) -> Sniffed:
    """Guess kind, columns, labels and the test file.

    Args:
        path: the data file.
        label: the label's column, if it is known.

    Raises:
        DataError: unreadable, no column of that name, or no column can be the label or the text;
            the columns are named.
    """
    two = pair_files(Path(str(path)))
    if two is not None:
        return _parallel(Path(str(path)).with_suffix(""), two, "", "called by its language")
    rows = read_rows(path)
    columns = {name: [row.values.get(name) for row in rows] for row in rows for name in row.values}
    if label is not None and label not in columns:
        raise DataError(
            f'has no column "{label}".',
            where=str(path),
            remedy=f"Its columns are {', '.join(columns)}.",
        )
    two = pair_columns({n: v for n, v in columns.items() if not _is_id(n, v)})
    if label is None and two is not None:
        return _parallel(Path(str(path)), two, next(reversed(columns)), "named by its column")
    task: dict[str, object] = {"name": _name(Path(str(path)))}
    reasons = {"name": "from the file's name"}
    why = "as you said"
    if label is None:
        label, why = _label(columns, str(path))
    rest = {name: values for name, values in columns.items() if name != label}
    identifier = next((c for c in rest if _is_id(c, rest[c])), None)
    rest.pop(identifier or "", None)
    choices, why_choices = _choices(rest)
    for name in choices:
        rest.pop(name)
    numbers = not choices and _numbers(columns[label])
    table = [] if choices else _table(rest)
    text, pair, why_text = ("", None, "")
    if not table:
        text, pair, why_text = _texts(rest, str(path), single=bool(choices))
    task["kind"] = "multiple_choice" if choices else "pair" if pair else "classification"
    reasons["kind"] = why_choices or ("two texts in a row" if pair else "one text in a row")
    if table:
        reasons["kind"] = "columns of short values: a table"
    if numbers:
        task["kind"] = "regression"
        reasons["kind"] = f"{label} holds numbers; classification, if they are names of classes"
    task["train"], reasons["train"] = str(path), f"{len(rows)} rows"
    test, why_test = _test(Path(str(path)), label)
    if test is not None:
        task["test"] = str(test)
    reasons["test"] = why_test
    if table:
        task["features"], reasons["features"] = table, "each becomes a part of a sentence"
    else:
        task["text"], reasons["text"] = text, why_text
    if pair:
        task["text_pair"], reasons["text_pair"] = pair, "the second text"
    if choices:
        task["choices"], reasons["choices"] = list(choices), why_choices
    task["label"], reasons["label"] = label, why
    if not choices and not numbers:
        found = {s for s in map(spell, columns[label]) if s is not None}
        declared = declared_labels(path, label)
        task["labels"] = list(declared or in_order(found))
        reasons["labels"] = (
            "declared in the file" if declared else f"the {len(found)} values of {label}, in order"
        )
    if identifier:
        task["id"], reasons["id"] = identifier, "a different value in every row"
    return Sniffed(task, reasons)


def _parallel(path: Path, pair: dict[str, str], column: str, why: str) -> Sniffed:
    """A translation: a table's ``path``, whose ``column`` a test file must have, or a stem."""
    task: dict[str, object] = {"name": _name(path), "kind": "translation"}
    reasons = {"name": "from the file's name", "kind": "two texts, called by their languages"}
    task |= {**pair, "train": str(path)}
    reasons |= dict.fromkeys(pair, why)
    reasons["source_lang"] = f"{why}; exchange the two for the other direction, or say --from"
    reasons["train"] = "both languages" if column else "without the ending: one file a language"
    test, reasons["test"] = _test(path, column) if column else (_test_files(path, pair), "")
    if test is not None:
        task["test"] = str(test)
        reasons["test"] = "found beside the file"
    return Sniffed(task, reasons)


def _test_files(stem: Path, pair: dict[str, str]) -> Path | None:
    """The stem beside, called like train but test, validation or dev, of two files as well."""
    for word in _TESTS:
        name = stem.name.replace("train", word) if "train" in stem.name else word
        if all(stem.with_name(f"{name}.{language}").is_file() for language in pair.values()):
            return stem.with_name(name)
    return None


def _label(columns: dict[str, list[object]], where: str) -> tuple[str, str]:
    few = {}
    for name, values in columns.items():
        if (_LABEL.fullmatch(name) or _MEASURED.fullmatch(name)) and _numbers(values):
            return name, "its name, and it holds numbers"
    for name, values in columns.items():
        if any(isinstance(v, list | dict) for v in values):
            continue
        found = {s for s in map(spell, values) if s is not None}
        if 2 <= len(found) <= max(2, min(200, len(values) // 2)) and max(map(len, found)) <= 60:
            few[name] = len(found)
    named = [name for name in few if _LABEL.fullmatch(name)]
    if named:
        return named[0], f"its name, and its {few[named[0]]} different values"
    last = next(reversed(columns))
    measured = _numbers(columns[last])
    if (last in few or measured) and _table({n: v for n, v in columns.items() if n != last}):
        return last, "the last column of a table: check this guess, or say --label COLUMN"
    if few:
        best = min(few, key=lambda name: few[name])
        return (
            best,
            f"it has the fewest different values ({few[best]}): check this guess, or say --label",
        )
    # An answer given as the text of a choice differs in every row; then only the name tells.
    by_name = next((name for name in columns if _LABEL.fullmatch(name)), None)
    if by_name and _choices({n: v for n, v in columns.items() if n != by_name})[0]:
        return by_name, "its name, beside columns of choices"
    raise DataError(
        "no column looks like a label (a few short values that repeat).",
        where=where,
        remedy=f"Its columns are {', '.join(columns)}; write the study file by hand.",
    )


def _numbers(values: list[object]) -> bool:
    """Many different numbers, as what is measured has, not the few that name classes."""
    if any(isinstance(v, list | dict) for v in values):
        return False
    found = [number(v) for v in values if spell(v) is not None]
    known = [v for v in found if v is not None]
    return len(known) == len(found) and len(set(known)) > max(20, len(known) / 20)


def _table(columns: dict[str, list[object]]) -> list[str]:
    """All columns, where none holds sentences and at least one holds numbers."""
    if any(isinstance(v, list | dict) for values in columns.values() for v in values):
        return []
    numeric = [
        name
        for name, values in columns.items()
        if all(number(v) is not None for v in values if spell(v) is not None)
    ]
    words = max(
        (sum(len(str(v).split()) for v in values) / len(values) for values in columns.values()),
        default=0.0,
    )
    named = any(_TEXT.fullmatch(name) and name not in numeric for name in columns)
    return list(columns) if numeric and words < 4 and not named else []


def _choices(columns: dict[str, list[object]]) -> tuple[tuple[str, ...], str]:
    stems: dict[str, list[str]] = {}
    for name in columns:
        if found := _CHOICE.fullmatch(name):
            stems.setdefault(found.group(1).casefold(), []).append(name)
    for stem, names in stems.items():
        if len(names) > 1:
            return tuple(sorted(names, key=_numbered)), f"several columns called {stem}"
    for name, values in columns.items():
        if _CHOICES.fullmatch(name) and all(isinstance(v, list) for v in values):
            return (name,), f"{name} holds a list in every row"
    return (), ""


def _numbered(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", name)
    return (int(digits.group()) if digits else 0, name)


def _texts(
    columns: dict[str, list[object]], where: str, *, single: bool
) -> tuple[str, str | None, str]:
    size = {
        name: sum(len(v) for v in values if isinstance(v, str)) / len(values)
        for name, values in columns.items()
        if all(isinstance(v, str) for v in values)
    }
    if not size or max(size.values()) < 1:
        raise DataError(
            "no column looks like a text.",
            where=where,
            remedy=f"Beside label and id there is {', '.join(columns) or 'nothing'}.",
        )
    lower = {name.casefold(): name for name in size}
    for first, second in _PAIRS:
        if not single and first in lower and second in lower:
            return lower[first], lower[second], "a known pair of names"
    named = [name for name in size if _TEXT.fullmatch(name)]
    text = max(named or size, key=lambda name: size[name])
    others = [name for name in size if name != text]
    why = "its name" if named else "the column with the longest texts: check this guess"
    if others:
        why += f"; not used: {', '.join(others)}"
    return text, None, why


def _test(train: Path, label: str) -> tuple[Path | None, str]:
    """A file beside, called like train but test, validation or dev, that has labels."""
    passed = ""
    for word in _TESTS:
        if "train" in train.name:
            beside = train.with_name(train.name.replace("train", word))
        else:
            beside = train.with_name(word + train.suffix)
        if beside == train or not beside.is_file():
            continue
        if all(spell(row.values.get(label)) is None for row in read_rows(beside)):
            passed = f"{beside.name} has no labels, so it was passed over; "
            continue
        return beside, f"{passed}found beside the file"
    return None, f"{passed}no file beside: a fifth of train will be kept for the test"


def _is_id(name: str, values: list[object]) -> bool:
    return _ID.fullmatch(name) is not None and _unique(values)


def _unique(values: list[object]) -> bool:
    spelled = [spell(v) for v in values if not isinstance(v, list | dict)]
    return len(set(spelled)) == len(values) and None not in spelled


def _name(path: Path) -> str:
    """The file's name, or its folder's where the file is just called train."""
    words = [w for w in re.split(r"[^A-Za-z0-9]+", path.stem) if w and w.lower() != "train"]
    words = words or [w for w in re.split(r"[^A-Za-z0-9]+", path.absolute().parent.name) if w]
    return "-".join(words).lower() or "my-task"
