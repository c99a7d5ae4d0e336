"""Parallel text: two files of plain text, TMX, and corpora as they are downloaded."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from paretune.data.delimited import detect_delimiter, parse_delimited
from paretune.data.language import (
    CHARACTERISTIC_LETTERS,
    language_code,
    letter_share,
)
from paretune.data.rows import EXTENSIONS, Row, list_members, read_bytes, read_rows, read_text
from paretune.errors import DataError
from paretune.files import expand_home

Pair = tuple[str, str]
"""Of the source and of the target: languages, files or columns."""
_CODES = ("bpt", "ept", "ph", "it", "ut")
"""Elements of TMX that hold formatting, not text."""
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_NAMES = {"sl": "slovene slovenian slovenski slovensko", "en": "english angleški angleško"}
_DOCUMENTATION = re.compile(r"readme|licen[cs]e|metadata", re.IGNORECASE)
_SAMPLE = 2000
"""How many rows are read to tell two unnamed columns apart."""


def resolve_pair_files(train: str, target: str | None, languages: Pair) -> Pair | None:
    """The two files that a study names, or None where it names a table.

    ``target`` names the second file itself. Without it, a ``train`` without a table's ending is a
    stem to which the languages are appended (``corpus`` for ``corpus.sl`` and ``corpus.en``, or
    ``data.zip::corpus``), and a zip without a member may hold one such pair, as OPUS publishes it.

    Raises:
        DataError: a table was given a second file, or a zip holds several pairs, or none.
    """
    outer, _, member = train.partition("::")
    zipped = PurePosixPath(outer).suffix.lower() == ".zip"
    table = PurePosixPath(member if zipped else outer).suffix.lower() in EXTENSIONS
    if target is not None:
        if table:
            raise DataError(
                "is a table, which holds both languages.",
                where=train,
                remedy="Remove the second file, or name two files of plain text.",
            )
        return train, target
    if table:
        return None
    if zipped and not member:
        inside = _list_files(outer)
        if any(_extension(file) in EXTENSIONS for file in inside):
            return None
        pairs = _find_file_pairs(inside, languages)
        if len(pairs) != 1:
            names = ", ".join(file.partition("::")[2] for file in inside) or "nothing"
            raise DataError(
                f"holds {'several pairs' if pairs else 'no pair'} of files in {languages[0]} and "
                f"{languages[1]}.",
                where=outer,
                remedy=f"It holds {names}: name one as {Path(outer).name}::NAME, without the "
                "language.",
            )
        return pairs[0]
    stem = f"{outer}::{member}" if member else outer
    source, target = f"{stem}.{languages[0]}", f"{stem}.{languages[1]}"
    if not zipped and not any(expand_home(file).is_file() for file in (source, target)):
        raise DataError(
            f"is not a table ({', '.join(EXTENSIONS)}), and there are no {Path(source).name} and "
            f"{Path(target).name}.",
            where=stem,
            remedy="Name a table, the two files without their languages' endings, or both files "
            "as train and train_target (test and test_target).",
        )
    return source, target


def read_line_pairs(source: str, target: str, columns: Pair) -> list[Row]:
    """Rows with two columns, one for each line; the place is the line of the first file.

    Raises:
        DataError: a file is missing, empty or not UTF-8, or their lines are not equally many.
    """
    (name, first), (target_name, second) = (_read_lines(path) for path in (source, target))
    if len(first) != len(second):
        raise DataError(
            f"has {len(first)} lines, {target_name} has {len(second)}: they do not belong together "
            "line by line.",
            where=name,
            remedy="Align them again; an empty line in one must be there in the other too.",
        )
    return [
        Row(dict(zip(columns, pair, strict=True)), f"{name} line {number}")
        for number, pair in enumerate(zip(first, second, strict=True), 1)
    ]


def _read_lines(path: str) -> tuple[str, list[str]]:
    text, name = read_text(path)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()  # after the last line break
    if not lines:
        raise DataError("is empty.", where=name, remedy="Give a file with at least one line.")
    return name, lines


def read_units(path: str, languages: Pair, columns: Pair) -> list[Row]:
    """Rows of the units that have both languages, counted from 1 over all units.

    ``sl`` finds ``sl-SI`` and ``SLV`` too. Raises:
        DataError: missing, not well-formed, with entity definitions, or without such units.
    """
    data, name = read_bytes(path)
    present: set[str] = set()
    rows = []
    try:
        # A document type may define entities that grow without bound when they are put in; without
        # them, and since outside files are never read, the standard library's parser is safe.
        if b"<!ENTITY" in data:
            raise ValueError("it defines entities, which are not read")
        elements = ElementTree.iterparse(io.BytesIO(data), events=("end",))  # noqa: S314
        units = (element for _, element in elements if element.tag == "tu")
        for number, unit in enumerate(units, 1):
            texts = {}
            for variant in unit.iter("tuv"):
                language = language_code(variant.get(_LANG) or variant.get("lang") or "")
                if (segment := variant.find("seg")) is not None:
                    texts[language] = " ".join(_element_text(segment).split())
            present |= texts.keys()
            source, target = (texts.get(language_code(language)) for language in languages)
            if source is not None and target is not None:
                rows.append(Row({columns[0]: source, columns[1]: target}, f"{name} unit {number}"))
            unit.clear()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(
            f"is not well-formed TMX ({error}).", where=name, remedy="Export or copy it again."
        ) from None
    if not rows:
        raise DataError(
            f"has no unit in {languages[0]} and {languages[1]}.",
            where=name,
            remedy=f"Its languages are {', '.join(sorted(present)) or 'none'}.",
        )
    return rows


def _element_text(element: ElementTree.Element) -> str:
    text = element.text or ""
    text = "" if element.tag in _CODES else text + "".join(map(_element_text, element))
    return text + ((element.tail or "") if element.tag != "seg" else "")


def read_parallel_corpus(source: str, languages: Pair, columns: Pair) -> list[Row]:
    """Rows with a column for each language, in the order of the files.

    Raises:
        DataError: nothing of that kind is there, or more than one, or it cannot be read.
    """
    files = _list_files(source)
    pairs = _find_file_pairs(files, languages)
    tables = [f for f in files if _extension(f) in EXTENSIONS]
    units = [f for f in files if _extension(f) == ".tmx"]
    tables = tables or [
        file
        for file in files
        if _extension(file) == ".txt" and not _DOCUMENTATION.search(file.rpartition("/")[2])
    ]
    if len(pairs) == 1:
        return read_line_pairs(*pairs[0], columns)
    if not pairs and len(tables) == 1:
        return _read_table(tables[0], languages, columns)
    if not pairs and not tables and units:
        return [row for file in units for row in read_units(file, languages, columns)]
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
        return [f"{path}::{member}" for member in sorted(list_members(path))]
    return [str(path)]


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _extension(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


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
            twin = f"{folder}{slash}{name[: place.start()]}{code}{name[place.end() :]}"
            if twin in files:
                pairs.append((file, twin))
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
        records = parse_delimited(text, name, tabs=tabs, header=header)
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
    names = _NAMES.get(language, "").split()
    return any(language_code(word) == language or word in names for word in words)


def _tell_columns_apart(rows: Sequence[Row], names: list[str], languages: Pair, file: str) -> Pair:
    """Which of two columns is which, by the characteristic letters of one of the languages."""
    marked = next((lang for lang in languages if language_code(lang) in CHARACTERISTIC_LETTERS), "")
    if len(names) == 2 and marked:
        letters = CHARACTERISTIC_LETTERS[language_code(marked)]
        first, second = (
            letter_share((str(row.values.get(c) or "") for row in rows[:_SAMPLE]), letters)
            for c in names
        )
        if first != second:
            most, least = names if first > second else names[::-1]
            return (most, least) if marked == languages[0] else (least, most)
    raise DataError(
        f"its columns do not say which is {languages[0]} and which {languages[1]}.",
        where=file,
        remedy=f"It has {len(names)} columns ({', '.join(names)}): give it a header that names two "
        "of them by language.",
    )
