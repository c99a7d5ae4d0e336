"""Strict reading of CSV, TSV, JSON Lines and Parquet, also as member of a zip.

Nothing is guessed: bad UTF-8, ragged rows, doubled columns, NUL bytes and broken JSON are
refused with file, line and remedy. Nothing of a zip is written to disk.
"""

from __future__ import annotations

import difflib
import io
import json
import shlex
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from paretune.data.delimited import parse_delimited
from paretune.errors import DataError
from paretune.files import expand_home

_TEXT_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson")
EXTENSIONS = (*_TEXT_EXTENSIONS, ".parquet")
_HEAD_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
MAX_MEMBER_BYTES = 1 << 30
"""Bytes that a zip member may unpack to; a zip that promises more is refused."""


@dataclass(frozen=True)
class Row:
    """Column names and values, and where the row is: ``train.csv line 412``.

    The line is where the row begins in the file; rows of a Parquet file are counted from 1.
    """

    values: dict[str, object]
    where: str


def read_rows(path: Path | str) -> list[Row]:
    """Read a whole data file, or a zip's member named ``folder/data.zip::train.csv``.

    Raises:
        DataError: missing, empty, of an unknown ending, or not strictly what its ending says.
    """
    data, name = _read_file(str(path), EXTENSIONS)
    ending = PurePosixPath(name).suffix.lower()
    if ending == ".parquet":
        rows = parse_parquet(data, name)
    else:
        text = _decode(data, name)
        records = (
            parse_delimited(text, name, tabs=ending == ".tsv")
            if ending in (".csv", ".tsv")
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


def read_bytes(path: Path | str) -> tuple[bytes, str]:
    """The bytes of a file, or of a zip's member, of any ending, and the name errors call it by.

    Raises:
        DataError: missing, or a damaged zip.
    """
    return _read_file(str(path), None)


def list_members(path: Path) -> list[str]:
    """All files inside a zip, ``__MACOSX`` litter left out.

    Raises:
        DataError: not a zip.
    """
    with _open_zip(path) as archive:
        return [info.filename for info in _list_data_files(archive, None)]


def parse_json_lines(text: str, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    r"""Yield line number and object; empty lines are passed over.

    Lines end at ``\n`` only: a text may hold U+2028, which ``splitlines`` would cut.

    Raises:
        DataError: not JSON, not an object, a key twice, NaN, or half a surrogate pair.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        remedy = "Fix this line; each line is one JSON object."
        if line.lstrip().startswith("["):
            remedy = "JSON Lines has one object a line, not one array: jq -c '.[]' OLD > NEW.jsonl."
        try:
            value = json.loads(
                line, object_pairs_hook=_unique_keys, parse_constant=_reject_constant
            )
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
        raise DataError(f"{reason}.", where=f"{name} line {number}", remedy=remedy)


def parse_parquet(data: bytes, name: str) -> list[Row]:
    """All rows, counted from 1.

    Numbers of a column whose names `datasets` declares (``ClassLabel``) become these names, and
    ``-1``, which the hub writes for "no label", becomes None; others stay, to be refused.

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
            if isinstance(number, int) and -1 <= number < len(names):
                values[column] = None if number == -1 else names[number]
    return [Row(values, f"{name} row {number}") for number, values in enumerate(records, 1)]


def read_declared_labels(path: Path | str, column: str) -> tuple[str, ...] | None:
    """Label names that a Parquet file written by `datasets` declares for a column, else None."""
    if PurePosixPath(str(path)).suffix.lower() != ".parquet":
        return None
    return _declared_labels(_open_parquet(*_read_file(str(path), EXTENSIONS)), column)


def _declared_labels(table: Any, column: str) -> tuple[str, ...] | None:
    """Names of a ``ClassLabel`` column in the schema's ``huggingface`` metadata."""
    metadata = table.schema.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None  # no metadata, or another writer's: it declares nothing
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _open_parquet(data: bytes, name: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise DataError(
            f"is not readable Parquet ({reason}).", where=name, remedy="Write or copy it again."
        ) from None


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f'names the key "{key}" twice')
        values[key] = value
    return values


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which JSON does not know")


def _read_file(path: str, endings: tuple[str, ...] | None) -> tuple[bytes, str]:
    """The bytes of a file of these endings (None: any), and its name in error messages."""
    outer, _, member = path.partition("::")
    file = expand_home(outer)
    ending = file.suffix.lower()
    if not file.is_file():
        raise _missing_file(file)
    if ending == ".zip":
        return _read_member(file, member, endings)
    try:
        with file.open("rb") as stream:
            # What is no text shows it here; a file of gigabytes is then not read to its end.
            head = stream.read(_HEAD_BYTES)
            if ending == ".gz" or head.startswith(_GZIP):
                unpacked = file.stem if ending == ".gz" else f"unpacked-{file.name}"
                names = f"{shlex.quote(file.name)} > {shlex.quote(unpacked)}"
                raise DataError(
                    "is compressed with gzip.",
                    where=str(file),
                    remedy=f"Unpack it: gunzip < {names}",
                )
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


def _missing_file(file: Path) -> DataError:
    what, remedy = "no such file.", "Paths are relative to the folder of the study file."
    if file.is_dir():
        what, remedy = "is a folder, not a file.", "Name a file in it."
    elif file.exists():
        what, remedy = "is not a regular file.", "Copy its content into a file."
    else:
        names = [path.name for path in file.parent.glob("*") if path.is_file()]
        if close := difflib.get_close_matches(file.name, names, n=1):
            remedy += f" Did you mean {close[0]}?"
    return DataError(what, where=str(file), remedy=remedy)


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
