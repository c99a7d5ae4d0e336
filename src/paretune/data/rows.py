"""Strict reading of CSV, TSV, JSON Lines and Parquet, also as member of a zip.

Nothing is guessed: bad UTF-8, ragged rows, doubled columns, NUL bytes and broken JSON are
refused with file, line and remedy. Nothing of a zip is written to disk.

CSV is RFC 4180, with ``;``, a tab or ``|`` as separator where the header has no comma (Slovene
Excel writes ``;``). TSV is cut at tabs and a ``"`` is an ordinary character, unless the file is
clearly quoted: every field that begins with a quote is a whole quoted field, and at least one of
them needs its quotes (a doubled quote, tab or line break inside), or every header name is quoted.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import pyarrow
import pyarrow.parquet

from paretune.errors import DataError, suggest
from paretune.files import expand_home
from paretune.terminal.plural import pluralise

_TEXT_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson")
EXTENSIONS = (*_TEXT_EXTENSIONS, ".parquet")
SEPARATORS = (",", ";", "\t", "|")
"""Separators of a CSV file; the first that its header has is its own."""
MAX_MEMBER_BYTES = 1 << 30
"""Bytes that a zip member may unpack to; a zip that promises more is refused."""
_HEAD_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_QUOTED_FIELD = re.compile(r'(?:^|(?<=\t))"((?:[^"]++|"")*+)"(?=\t|\r?\n|\r?$)', re.MULTILINE)
_OPENING_QUOTE = re.compile(r'(?:^|(?<=\t))"', re.MULTILINE)
_TITLE = "If the first line is a title, remove it: the first line must name the columns."


@dataclass(frozen=True)
class Row:
    """Column names and values, and where the row is: ``train.csv line 412``.

    The line is where the row begins in the file; rows of a Parquet file are counted from 1.
    """

    values: dict[str, object]
    where: str

    @property
    def file(self) -> str:
        """The place without the line: ``train.csv``."""
        return self.where.rsplit(" ", 2)[0]


def read_rows(path: Path | str) -> list[Row]:
    """Read a whole data file, or a zip's member named ``folder/data.zip::train.csv``.

    Raises:
        DataError: missing, empty, of an unknown ending, or not strictly what its ending says.
    """
    data, name = read_bytes(path, EXTENSIONS)
    ending = PurePosixPath(name).suffix.lower()
    if ending == ".parquet":
        rows = parse_parquet(data, name)
    else:
        text = _decode(data, name)
        delimited = ending in (".csv", ".tsv")
        records = (
            _parse_delimited(text, name, tabs=ending == ".tsv")
            if delimited
            else parse_json_lines(text, name)
        )
        rows = [Row(values, f"{name} line {number}") for number, values in records]
    if not rows:
        raise DataError("holds no rows.", where=name, remedy="Give a file with at least one row.")
    return rows


def read_text(path: Path | str) -> tuple[str, str]:
    """The text of a file, or of a zip's member, of any ending, and the name errors call it by.

    Raises:
        DataError: missing, not UTF-8, or with a NUL byte.
    """
    data, name = read_bytes(path)
    return _decode(data, name), name


def list_members(path: Path) -> list[str]:
    """All files inside a zip, ``__MACOSX`` litter left out.

    Raises:
        DataError: not a zip.
    """
    with _open_zip(path) as archive:
        return [info.filename for info in _list_data_files(archive, None)]


def _parse_delimited(
    text: str, name: str, *, tabs: bool
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield line number and values of each row; empty lines are skipped.

    Raises:
        DataError: no header, a doubled or empty column name, a ragged row, a broken quote.
    """
    filled = [line for line in re.split(r"\r?\n", text, maxsplit=50)[:50] if line.strip()]
    head = [re.sub(r'"[^"]*"', "", line) for line in filled[:11]] or [""]
    delimiter = "\t" if tabs else next((s for s in SEPARATORS if s in head[0]), ",")
    records: Iterable[tuple[int, list[str]]]
    if tabs and not _uses_quoting(text):
        lines = enumerate((line.removesuffix("\r") for line in text.split("\n")), 1)
        records = ((number, line.split("\t")) for number, line in lines if line.strip())
    else:
        records = _parse_quoted(text, name, delimiter)
    header: list[str] | None = None
    remark = f" {_TITLE}"  # to the first row alone
    for number, fields in records:
        where = f"{name} line {number}"
        if header is None:
            header = _check_header([field.strip() for field in fields], head, delimiter, where)
            continue
        if len(fields) != len(header):
            used = next((s for s in SEPARATORS if s in fields[0]), None)
            if len(fields) == 1 and used:
                remedy = (
                    f'It has "{used}" between its fields, the header "{delimiter}": use one '
                    "throughout."
                )
            elif len(fields) < len(header):
                remedy = "A field is missing: add it (empty if it is unknown)."
            elif delimiter == "\t":
                remedy = f"A text holds a tab: replace it by a space.{remark}"
            else:
                remedy = f'A text holds the separator: put the field in "quotes".{remark}'
            what = f"has {pluralise(len(fields), 'field')}, the header has {len(header)}."
            raise DataError(what, where=where, remedy=remedy)
        remark = ""
        yield number, dict(zip(header, fields, strict=True))
    if header is None:
        raise DataError("is empty.", where=name, remedy="The first line must name the columns.")


def _uses_quoting(text: str) -> bool:
    """Whether a TSV uses quotes as quotes (see the module's text)."""
    quoted = _QUOTED_FIELD.findall(text) if '"' in text else []
    if not quoted or _OPENING_QUOTE.search(_QUOTED_FIELD.sub("", text)):
        return False
    header = text.split("\n", 1)[0].rstrip("\r").split("\t")
    escaped = any('""' in field or "\t" in field or "\n" in field for field in quoted)
    return escaped or all(h.startswith('"') and h.endswith('"') and len(h) > 1 for h in header)


def _parse_quoted(text: str, name: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The line on which each record begins, and its fields."""
    records = []
    # The limit belongs to the whole process, so everything is read before it is put back; a
    # generator would leave it changed for as long as its caller's error holds it.
    before = csv.field_size_limit(max(len(text), 1))
    begins = 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        for fields in reader:
            if len(fields) > 1 or (fields and fields[0].strip()):
                records.append((begins, fields))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"is not well-formed CSV ({error}).",
            where=f"{name} line {begins}",
            remedy="Close every quoted field, and double a quote inside one.",
        ) from None
    finally:
        csv.field_size_limit(before)
    return records


def _check_header(names: list[str], head: list[str], delimiter: str, where: str) -> list[str]:
    """The names of the columns; ``head`` are the first lines without what is quoted.

    Raises:
        DataError: a name is empty or there twice, or the lines below are parted otherwise.
    """
    for position, name in enumerate(names, 1):
        if not name:
            remedy = f"Name it, or remove it.{'' if any(names[1:]) else f' {_TITLE}'}"
            raise DataError(f"column {position} has no name.", where=where, remedy=remedy)
        if names.count(name) > 1:
            what = f'two columns are called "{name}".'
            raise DataError(what, where=where, remedy="Rename one of them.")
    first, *below = head
    for separator in SEPARATORS if below and delimiter not in first else ():
        counts = {line.count(separator) for line in below}
        if separator in first and 0 not in counts:
            remedy = "Name the file .csv, or put tabs between its columns."
            raise DataError(f'has no tab, but "{separator}".', where=where, remedy=remedy)
        # All alike: in a single column of prose, they would not be.
        if len(below) > 1 and delimiter == "," and len(counts) == 1 and 0 not in counts:
            what = f'has one field, and the lines below have "{separator}" between several.'
            raise DataError(what, where=where, remedy=_TITLE)
    return names


def parse_json_lines(text: str, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    r"""Yield line number and object; empty lines are passed over.

    Lines end at ``\n`` only: a text may hold U+2028, which ``splitlines`` would cut.

    Raises:
        DataError: not JSON, not an object, a key twice, NaN, or half a surrogate pair.
    """

    def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value in pairs:
            if key in values:
                raise ValueError(f'names the key "{key}" twice')
            values[key] = value
        return values

    def refuse_constant(name: str) -> NoReturn:
        raise ValueError(f"holds {name}, which JSON does not know")

    decoder = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=refuse_constant)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = decoder.decode(line)
            if not isinstance(value, dict):
                raise ValueError(f"holds a {type(value).__name__}, not an object")
            json.dumps(value, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            reason = f"is not JSON: {error.msg} (character {error.colno})"
        except UnicodeEncodeError:
            reason = "holds half a surrogate pair (\\ud800 to \\udfff), which is not a character"
        except (ValueError, RecursionError) as error:
            reason = str(error)
        else:
            yield number, value
            continue
        remedy = "Fix this line; each line is one JSON object."
        if line.lstrip().startswith("["):
            remedy = "JSON Lines has one object a line, not one array: jq -c '.[]' OLD > NEW.jsonl."
        raise DataError(f"{reason}.", where=f"{name} line {number}", remedy=remedy)


def parse_parquet(data: bytes, name: str) -> list[Row]:
    """All rows, counted from 1.

    Numbers of a column whose names `datasets` declares (``ClassLabel``) become these names, in
    lists too, and ``-1``, which the hub writes for "no label", becomes None; others stay, to be
    refused.

    Raises:
        DataError: not Parquet, damaged, a doubled column, or text that is not UTF-8.
    """
    table = _open_parquet(data, name)
    columns = table.column_names
    if doubled := sorted({c for c in columns if columns.count(c) > 1}):
        raise DataError(
            f'two columns are called "{doubled[0]}".', where=name, remedy="Rename one of them."
        )
    try:
        records: list[dict[str, object]] = table.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        raise DataError(
            f"holds values that cannot be read ({error}).", where=name, remedy="Write it again."
        ) from None
    for column in columns:
        names = _declared_labels(table, column) or ()
        for values in records if names else ():
            number = values[column]
            if isinstance(number, list):
                values[column] = [names[n] if n in range(len(names)) else n for n in number]
            elif isinstance(number, int) and -1 <= number < len(names):
                values[column] = None if number == -1 else names[number]
    return [Row(values, f"{name} row {number}") for number, values in enumerate(records, 1)]


def read_declared_labels(path: Path | str, column: str) -> tuple[str, ...] | None:
    """Label names that a Parquet file written by `datasets` declares for a column, else None."""
    if PurePosixPath(str(path)).suffix.lower() != ".parquet":
        return None
    return _declared_labels(_open_parquet(*read_bytes(path, EXTENSIONS)), column)


def _declared_labels(table: Any, column: str) -> tuple[str, ...] | None:
    """Names of a ``ClassLabel`` column, or of lists, in the ``huggingface`` metadata."""
    metadata = table.schema.metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        names = feature["names"]
    except (ValueError, KeyError, TypeError, IndexError):
        return None  # no metadata, or another writer's: it declares nothing
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _open_parquet(data: bytes, name: str) -> Any:
    try:
        return pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise DataError(
            f"is not readable Parquet ({reason}).", where=name, remedy="Write or copy it again."
        ) from None


def read_bytes(path: Path | str, endings: tuple[str, ...] | None = None) -> tuple[bytes, str]:
    """The bytes of a file, or of a zip's member, and the name errors call it by.

    Args:
        path: path of a file, or ``folder/data.zip::train.csv``.
        endings: endings that it may have; None: any.

    Raises:
        DataError: missing, of another ending, or a damaged zip.
    """
    outer, _, member = str(path).partition("::")
    file = expand_home(outer)
    ending = file.suffix.lower()
    if not file.is_file():
        near = suggest(file.name, [path.name for path in file.parent.glob("*") if path.is_file()])
        raise DataError(
            "is no regular file." if file.exists() else "no such file.",
            where=str(file),
            remedy=f"Paths are relative to the folder of the study file. {near}".rstrip(),
        )
    if ending == ".zip":
        return _read_member(file, member, endings)
    try:
        with file.open("rb") as stream:
            # A file that is no text shows it here, and is not read to its end if it is large.
            head = stream.read(_HEAD_BYTES)
            if ending == ".gz" or head.startswith(_GZIP):
                unpacked = file.stem if ending == ".gz" else f"unpacked-{file.name}"
                names = f"{shlex.quote(file.name)} > {shlex.quote(unpacked)}"
                remedy = f"Unpack it: gunzip < {names}"
                raise DataError("is compressed with gzip.", where=str(file), remedy=remedy)
            if member or (endings is not None and ending not in endings):
                raise DataError(
                    f'the ending "{file.suffix}" is not one that is read.',
                    where=str(file),
                    remedy=f"Use {', '.join(EXTENSIONS)}, or zip::member. For Excel: save as CSV "
                    "UTF-8.",
                )
            if b"\0" in head and ending in _TEXT_EXTENSIONS:
                return head[: head.index(b"\0") + 1], file.name
            return head + stream.read(), file.name
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).", where=str(file)) from None


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"is not a readable zip ({error}).", where=str(path), remedy="Fetch or copy it again."
        ) from None


def _list_data_files(
    archive: zipfile.ZipFile, endings: tuple[str, ...] | None
) -> list[zipfile.ZipInfo]:
    infos = []
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        hidden = "__MACOSX" in path.parts or path.name.startswith(".")
        if not info.is_dir() and not hidden and (endings is None or path.suffix in endings):
            infos.append(info)
    return infos


def _read_member(path: Path, name: str, endings: tuple[str, ...] | None) -> tuple[bytes, str]:
    with _open_zip(path) as archive:
        infos = _list_data_files(archive, endings)
        matching = [info for info in infos if info.filename == name] if name else infos
        if len(matching) != 1:
            names = ", ".join(info.filename for info in infos[:10]) or "no data file"
            names += f" and {len(infos) - 10:,} more" if len(infos) > 10 else ""
            raise DataError(
                f'has no single member "{name}".' if name else "holds several data files.",
                where=str(path),
                remedy=f"It holds {names}: name one as {path.name}::MEMBER.",
            )
        label = f"{path.name}::{matching[0].filename}"
        by_hand = "Unpack it yourself and name the file inside."
        if matching[0].file_size > MAX_MEMBER_BYTES:
            raise DataError(
                f"unpacks to more than {MAX_MEMBER_BYTES >> 20} MiB.", where=label, remedy=by_hand
            )
        try:
            # No more than the directory says: what holds more fails its checksum.
            return archive.read(matching[0]), label
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise DataError(
                f"is damaged ({error}).", where=label, remedy="Fetch or copy the zip again."
            ) from None
        except (RuntimeError, NotImplementedError) as error:
            raise DataError(f"cannot be unpacked ({error}).", where=label, remedy=by_hand) from None


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            "is UTF-16, not UTF-8.", where=name, remedy="Save it as UTF-8 (in Excel: CSV UTF-8)."
        )
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].split(b"\n")
        raise DataError(
            f"byte {len(before[-1]) + 1} of the line (0x{data[error.start]:02x}) is not UTF-8.",
            where=f"{name} line {len(before)}",
            remedy="Save the file as UTF-8; Slovene files of old Windows: "
            "iconv -f CP1250 -t UTF-8 OLD > NEW.",
        ) from None
    lines, nul, _ = text.partition("\0")
    if nul:
        raise DataError(
            "holds a NUL byte, so it is not a text file.",
            where=f"{name} line {lines.count(chr(10)) + 1}",
            remedy="Remove the byte, or write the file again as UTF-8.",
        )
    return text
