"""A parallel corpus as it was downloaded: a file, a folder or a zip that holds both languages.

Looked for, in this order: two files of plain text whose names differ in the language alone
(``corpus.sl`` and ``corpus.en``, ``sl.txt`` and ``en.txt``), one table with or without a header
(a ``.txt`` with tabs is one), TMX (all files of it, one after another).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from paretune.data.checks.language import (
    CHARACTERISTIC_LETTERS,
    characteristic_letter_share,
    language_code,
)
from paretune.data.formats import tmx
from paretune.data.formats.csv import detect_delimiter, parse_rows
from paretune.data.formats.plain_text import read_line_pairs
from paretune.data.formats.read import EXTENSIONS, list_members, read_rows, read_text
from paretune.data.formats.row import Row
from paretune.errors import DataError
from paretune.files import expand_home

_NAMES = {"sl": "slovene slovenian slovenski slovensko", "en": "english angleški angleško"}
_SAMPLE = 2000
"""How many rows are read to tell two unnamed columns apart."""

Pair = tuple[str, str]


def read_parallel_corpus(source: str, languages: Pair, columns: Pair) -> list[Row]:
    """Rows with a column for each language, in the order of the files.

    Raises:
        DataError: nothing of that kind is there, or more than one, or it cannot be read.
    """
    files = _list_files(source)
    pairs = _find_file_pairs(files, languages)
    tables = [f for f in files if _extension(f) in EXTENSIONS]
    units = [f for f in files if _extension(f) == ".tmx"]
    tables = tables or [f for f in files if _extension(f) == ".txt" and not _is_documentation(f)]
    if len(pairs) == 1:
        return read_line_pairs(*pairs[0], columns)
    if not pairs and len(tables) == 1:
        return _read_table(tables[0], languages, columns)
    if not pairs and not tables and units:
        return [row for file in units for row in tmx.read_units(file, languages, columns)]
    several = [f"{a} and {b}" for a, b in pairs] or tables
    candidates = ", ".join(several or files) or "nothing"
    raise DataError(
        "holds several corpora." if several else "holds no parallel corpus that is known.",
        where=source,
        remedy=f"It holds {candidates}. Name one table or TMX file, or keep one pair of files in a "
        f"folder, called NAME.{languages[0]} and NAME.{languages[1]}.",
    )


def _list_files(source: str) -> list[str]:
    path = expand_home(source)
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if p.is_file() and p.name[0] != ".")
        return [name for p in inside for name in (_list_files(str(p)) if _is_zip(p) else [str(p)])]
    if not path.is_file():
        raise DataError("no such file or folder.", where=source, remedy="Check the path.")
    if _is_zip(path):
        return [f"{path}::{member}" for member in sorted(list_members(path, extensions=None))]
    return [str(path)]


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _extension(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def _is_documentation(file: str) -> bool:
    return (
        re.search(r"readme|licen[cs]e|metadata", file.rpartition("/")[2], re.IGNORECASE) is not None
    )


def _find_file_pairs(files: Sequence[str], languages: Pair) -> list[Pair]:
    """Pairs of files whose names differ in the language code only."""
    source, target = languages
    pairs = []
    for file in files:
        folder, slash, name = file.rpartition("/")
        if _extension(file) in (*EXTENSIONS, ".tmx"):
            continue
        for place in re.finditer(rf"(?i)(?<![a-z]){source}(?![a-z])", name):
            code = target.upper() if place.group().isupper() else target
            other = f"{folder}{slash}{name[: place.start()]}{code}{name[place.end() :]}"
            if other in files:
                pairs.append((file, other))
    return pairs


def _read_table(file: str, languages: Pair, columns: Pair) -> list[Row]:
    if _extension(file) in (".csv", ".tsv", ".txt"):
        text, name = read_text(file)
        tabs = _extension(file) != ".csv"
        first = text.split("\n", 1)[0].rstrip("\r")
        fields = first.split("\t")
        if not tabs:
            fields = next(csv.reader([first], delimiter=detect_delimiter(first)), [])
        header = None if _is_header(fields, languages) else [str(i) for i in range(len(fields))]
        records = parse_rows(text, name, tabs=tabs, header=header)
        rows = [Row(values, f"{name} line {number}") for number, values in records]
    else:
        rows = read_rows(file)
    if not rows:
        raise DataError("holds no rows.", where=file, remedy="Fetch or copy it again.")
    names = list(rows[0].values)
    named = [next((c for c in names if _names_language(c, lang)), None) for lang in languages]
    source, target = named
    if source is None or target is None or source == target:
        source, target = _tell_columns_apart(rows, names, languages, file)
    return [
        Row({columns[0]: row.values.get(source), columns[1]: row.values.get(target)}, row.where)
        for row in rows
    ]


def _is_header(fields: Sequence[str], languages: Pair) -> bool:
    """Whether each language is named by a different field."""
    named = {lang for lang in languages for field in fields if _names_language(field, lang)}
    return len(named) == 2 and all(len(field) < 30 for field in fields)


def _names_language(column: str, language: str) -> bool:
    words = [w for w in re.split(r"[\W_]+", column.casefold()) if w]
    known = _NAMES.get(language, "").split()
    return any(language_code(word) == language or word in known for word in words)


def _tell_columns_apart(rows: Sequence[Row], names: list[str], languages: Pair, file: str) -> Pair:
    """Which of two columns is which, by the characteristic letters of one of the languages."""
    own = next(
        (language for language in languages if CHARACTERISTIC_LETTERS.get(language_code(language))),
        None,
    )
    if len(names) == 2 and own is not None:
        first, second = (
            characteristic_letter_share(
                [str(row.values.get(c) or "") for row in rows[:_SAMPLE]], own
            )
            for c in names
        )
        if first != second:
            owner, other = names if first > second else names[::-1]
            return (owner, other) if own == languages[0] else (other, owner)
    raise DataError(
        f"its columns do not say which is {languages[0]} and which {languages[1]}.",
        where=file,
        remedy=f"It has {len(names)} columns ({', '.join(names)}): give it a header that names two "
        "of them by language.",
    )
