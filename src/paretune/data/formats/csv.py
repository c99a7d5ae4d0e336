"""CSV and TSV, strictly, with the physical line on which each row begins.

CSV is RFC 4180, with ``;`` or a tab as separator where the header has no comma (Slovene Excel
writes ``;``). TSV is cut at tabs and a ``"`` is an ordinary character, unless the file is clearly
quoted: every field that begins with a quote is a whole quoted field, and at least one of them
needs its quotes (a doubled quote, tab or line break inside), or every header name is quoted.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from paretune.errors import DataError

_QUOTED = re.compile(r'(?:^|(?<=\t))"((?:[^"]++|"")*+)"(?=\t|\r?\n|\r?$)', re.MULTILINE)
_OPENS = re.compile(r'(?:^|(?<=\t))"', re.MULTILINE)


def parse_rows(
    text: str, name: str, *, tabs: bool, header: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield line number and values of each row; empty lines are skipped.

    ``header`` names the columns of a file whose first line is a row already.

    Raises:
        DataError: no header, a doubled or empty column name, a ragged row, a broken quote.
    """
    records: Iterable[tuple[int, list[str]]]
    records = (
        _split_lines(text) if tabs and not uses_quoting(text) else _parse_quoted(text, name, tabs)
    )
    for number, fields in records:
        if header is None:
            header = _check_header(fields, f"{name} line {number}")
            continue
        if len(fields) != len(header):
            raise DataError(
                f"has {len(fields)} fields, the header has {len(header)}.",
                where=f"{name} line {number}",
                remedy=_ragged_remedy(len(fields) > len(header), tabs),
            )
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
    """The separator of a CSV: comma, or semicolon or tab where the header has no comma."""
    outside = re.sub(r'"[^"]*"', "", header)
    return next((s for s in (",", ";", "\t") if s in outside), ",")


def _split_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line.split("\t")


def _parse_quoted(text: str, name: str, tabs: bool) -> list[tuple[int, list[str]]]:
    first = next((line for line in re.split(r"\r?\n", text, maxsplit=50) if line.strip()), "")
    delimiter = "\t" if tabs else detect_delimiter(first)
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
            raise DataError(
                f"column {position} has no name.", where=where, remedy="Name it, or remove it."
            )
        if names.count(field) > 1:
            raise DataError(
                f'two columns are called "{field}".', where=where, remedy="Rename one of them."
            )
    return names


def _ragged_remedy(more: bool, tabs: bool) -> str:
    if not more:
        return "A field is missing: add it (empty if it is unknown)."
    if tabs:
        return "A text holds a tab: replace it by a space."
    return 'A text holds the separator: put the field in "quotes".'
