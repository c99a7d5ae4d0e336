"""CSV and TSV, strictly, with the physical line on which each row begins.

CSV is RFC 4180, with ``;``, a tab or ``|`` as separator where the header has no comma (Slovene
Excel writes ``;``). TSV is cut at tabs and a ``"`` is an ordinary character, unless the file is
clearly quoted: every field that begins with a quote is a whole quoted field, and at least one of
them needs its quotes (a doubled quote, tab or line break inside), or every header name is quoted.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from paretune.errors import DataError
from paretune.terminal.plural import pluralise

_QUOTED = re.compile(r'(?:^|(?<=\t))"((?:[^"]++|"")*+)"(?=\t|\r?\n|\r?$)', re.MULTILINE)
SEPARATORS = (",", ";", "\t", "|")
"""Of a CSV; the first that its header has is the one."""
_TITLE = "If the first line is a title, remove it: the first line must name the columns."
_OPENS = re.compile(r'(?:^|(?<=\t))"', re.MULTILINE)


def parse_delimited(
    text: str, name: str, *, tabs: bool, header: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield line number and values of each row; empty lines are skipped.

    ``header`` names the columns of a file whose first line is a row already.

    Raises:
        DataError: no header, a doubled or empty column name, a ragged row, a broken quote.
    """
    delimiter = "\t" if tabs else detect_delimiter(_first_lines(text)[0])
    records: Iterable[tuple[int, list[str]]]
    records = (
        _split_lines(text)
        if tabs and not uses_quoting(text)
        else _parse_quoted(text, name, delimiter)
    )
    begun = False
    for number, fields in records:
        if header is None:
            header = _check_header(fields, f"{name} line {number}")
            _check_separator(_first_lines(text), delimiter, f"{name} line {number}")
            continue
        if len(fields) != len(header):
            raise DataError(
                f"has {pluralise(len(fields), 'field')}, the header has {len(header)}.",
                where=f"{name} line {number}",
                remedy=_ragged_remedy(fields, header, delimiter, is_first=not begun),
            )
        begun = True
        yield number, dict(zip(header, fields, strict=True))
    if header is None:
        raise DataError("is empty.", where=name, remedy="The first line must name the columns.")


def uses_quoting(text: str) -> bool:
    """Whether a TSV uses quotes as quotes (see the module's text)."""
    if '"' not in text:
        return False
    whole = _QUOTED.findall(text)
    outside = _QUOTED.sub("", text)
    if not whole or _OPENS.search(outside):
        return False
    header = text.split("\n", 1)[0].rstrip("\r").split("\t")
    needs = any('""' in field or "\t" in field or "\n" in field for field in whole)
    return needs or all(h.startswith('"') and h.endswith('"') and len(h) > 1 for h in header)


def detect_delimiter(header: str) -> str:
    """The separator of a CSV: the first of :data:`SEPARATORS` that its header has."""
    outside = _remove_quoted(header)
    return next((s for s in SEPARATORS if s in outside), ",")


def _remove_quoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _first_lines(text: str) -> list[str]:
    """Lines that are not empty: at most eleven, and one at least."""
    lines = re.split(r"\r?\n", text, maxsplit=50)[:50]
    return [line for line in lines if line.strip()][:11] or [""]


def _check_separator(lines: Sequence[str], delimiter: str, where: str) -> None:
    """Refuse a first line that is not parted as the lines below are."""
    first, *rest = map(_remove_quoted, lines)
    if delimiter in first or not rest:
        return
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in rest}
        if separator in first and 0 not in counts:
            raise DataError(
                f'has no tab, but "{separator}".',
                where=where,
                remedy="Name the file .csv, or put tabs between its columns.",
            )
        # All alike: in a single column of prose, they would not be.
        if len(rest) > 1 and delimiter == "," and len(counts) == 1 and 0 not in counts:
            raise DataError(
                f'has one field, and the lines below have "{separator}" between several.',
                where=where,
                remedy=_TITLE,
            )


def _split_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line.split("\t")


def _parse_quoted(text: str, name: str, delimiter: str) -> list[tuple[int, list[str]]]:
    # The limit belongs to the whole process, so everything is read before it is put back; a
    # generator would leave it changed for as long as its caller's error holds it.
    before = csv.field_size_limit(max(len(text), 1))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        return list(_number_records(reader, name))
    finally:
        csv.field_size_limit(before)


def _number_records(reader: Iterable[list[str]], name: str) -> Iterator[tuple[int, list[str]]]:
    iterator, begins = iter(reader), 1
    while True:
        try:
            fields = next(iterator)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"is not well-formed CSV ({error}).",
                where=f"{name} line {begins}",
                remedy="Close every quoted field, and double a quote inside one.",
            ) from None
        if len(fields) > 1 or (fields and fields[0].strip()):
            yield begins, fields
        begins = iterator.line_num + 1  # type: ignore[attr-defined]  # csv.reader has it


def _check_header(fields: list[str], where: str) -> list[str]:
    names = [field.strip() for field in fields]
    for position, field in enumerate(names, 1):
        if not field:
            title = "" if any(names[1:]) else f" {_TITLE}"
            raise DataError(
                f"column {position} has no name.",
                where=where,
                remedy=f"Name it, or remove it.{title}",
            )
        if names.count(field) > 1:
            raise DataError(
                f'two columns are called "{field}".', where=where, remedy="Rename one of them."
            )
    return names


def _ragged_remedy(
    fields: Sequence[str], header: Sequence[str], delimiter: str, *, is_first: bool
) -> str:
    if len(fields) == 1 and (used := detect_delimiter(fields[0])) in fields[0]:
        return f'It has "{used}" between its fields, the header "{delimiter}": use one throughout.'
    if len(fields) < len(header):
        return "A field is missing: add it (empty if it is unknown)."
    title = f" {_TITLE}" if is_first else ""
    if delimiter == "\t":
        return f"A text holds a tab: replace it by a space.{title}"
    return f'A text holds the separator: put the field in "quotes".{title}'
