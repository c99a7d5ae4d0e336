"""Strict reading of CSV, TSV, JSONL and Parquet, also as member of a zip.

Nothing is guessed: bad UTF-8, ragged rows, doubled columns, NUL bytes and broken JSON are
refused with file, line and remedy. Nothing of a zip is written to disk.
"""

from __future__ import annotations

import difflib
import shlex
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from paretune.data.formats import csv, jsonl, parquet
from paretune.data.formats.row import Row
from paretune.errors import DataError
from paretune.files import expand_home

EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_TEXT_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson")
_HEAD_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
MAX_MEMBER_BYTES = 1 << 30
"""Bytes that a zip member may unpack to; a zip that promises more is refused."""


def read_rows(path: Path | str) -> list[Row]:
    """Read a whole data file, or a zip's member named ``folder/data.zip::train.csv``.

    Raises:
        DataError: missing, empty, of an unknown ending, or not strictly what its ending says.
    """
    data, name = _read_file(str(path))
    ending = PurePosixPath(name).suffix.lower()
    if ending == ".parquet":
        rows = parquet.parse_rows(data, name)
    elif ending in (".jsonl", ".ndjson"):
        rows = [Row(v, f"{name} line {n}") for n, v in jsonl.parse_rows(_decode(data, name), name)]
    else:
        records = csv.parse_rows(_decode(data, name), name, tabs=ending == ".tsv")
        rows = [Row(v, f"{name} line {n}") for n, v in records]
    if not rows:
        raise DataError("holds no rows.", where=name, remedy="Give a file with at least one row.")
    return rows


def read_declared_labels(path: Path | str, column: str) -> tuple[str, ...] | None:
    """Label names that a Parquet file written by `datasets` declares for a column, else None."""
    if PurePosixPath(str(path)).suffix.lower() != ".parquet":
        return None
    return parquet.parse_declared_labels(*_read_file(str(path)), column)


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
    return _read_file(str(path), endings=None)


def list_members(path: Path, extensions: tuple[str, ...] | None = EXTENSIONS) -> list[str]:
    """Files of these endings (None: of any) inside a zip, ``__MACOSX`` litter left out.

    Raises:
        DataError: not a zip.
    """
    with _open_zip(path) as archive:
        return [i.filename for i in archive.infolist() if _is_data_file(i, extensions)]


def _read_file(path: str, endings: tuple[str, ...] | None = EXTENSIONS) -> tuple[bytes, str]:
    """The file's bytes, and its name in error messages."""
    outer, _, member = path.partition("::")
    file = expand_home(outer)
    if not file.is_file():
        what, remedy = "no such file.", "Paths are relative to the folder of the study file."
        if file.is_dir():
            what, remedy = "is a folder, not a file.", "Name a file in it."
        elif file.exists():
            what, remedy = "is not a regular file.", "Copy its content into a file."
        elif names := [one.name for one in file.parent.glob("*") if one.is_file()]:
            close = difflib.get_close_matches(file.name, names, n=1)
            remedy += f" Did you mean {close[0]}?" if close else ""
        raise DataError(what, where=str(file), remedy=remedy)
    if file.suffix.lower() == ".zip":
        return _read_member(file, member, endings)
    name = file.name
    if file.suffix.lower() == ".gz":
        raise _compressed(file)
    if member or (endings is not None and file.suffix.lower() not in endings):
        raise DataError(
            f'the ending "{file.suffix}" is not one that is read.',
            where=str(file),
            remedy=f"Use {', '.join(EXTENSIONS)}, or zip::member. For Excel: save as CSV UTF-8.",
        )
    try:
        with file.open("rb") as stream:
            # What is no text shows it here; a file of gigabytes is then not read to its end.
            head = stream.read(_HEAD_BYTES)
            if head.startswith(_GZIP):
                raise _compressed(file)
            if b"\0" in head and file.suffix.lower() in _TEXT_EXTENSIONS:
                return head[: head.index(b"\0") + 1], name
            stream.seek(0)
            return stream.read(), name
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).", where=str(file)) from None


def _compressed(file: Path) -> DataError:
    unpacked = file.stem if file.suffix.lower() == ".gz" else f"unpacked-{file.name}"
    names = f"{shlex.quote(file.name)} > {shlex.quote(unpacked)}"
    return DataError(
        "is compressed with gzip.",
        where=str(file),
        remedy=f"Unpack it: gunzip < {names}",
    )


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"is not a readable zip ({error}).", where=str(path), remedy="Fetch or copy it again."
        ) from None


def _is_data_file(info: zipfile.ZipInfo, endings: tuple[str, ...] | None) -> bool:
    parts = PurePosixPath(info.filename).parts
    hidden = "__MACOSX" in parts or (parts and parts[-1].startswith("."))
    fits = endings is None or PurePosixPath(info.filename).suffix in endings
    return not info.is_dir() and not hidden and fits


def _read_member(path: Path, name: str, endings: tuple[str, ...] | None) -> tuple[bytes, str]:
    with _open_zip(path) as archive:
        infos = [i for i in archive.infolist() if _is_data_file(i, endings)]
        matching = [i for i in infos if i.filename == name] if name else infos
        if len(matching) != 1:
            names = ", ".join(i.filename for i in infos[:10]) or "no data file"
            names += f" and {len(infos) - 10:,} more" if len(infos) > 10 else ""
            raise DataError(
                f'has no single member "{name}".' if name else "holds several data files.",
                where=str(path),
                remedy=f"It holds {names}: name one as {path.name}::MEMBER.",
            )
        label = f"{path.name}::{matching[0].filename}"
        if matching[0].file_size > MAX_MEMBER_BYTES:
            raise DataError(
                f"unpacks to more than {MAX_MEMBER_BYTES >> 20} MiB.",
                where=label,
                remedy="If that is right, unpack it yourself and name the file inside.",
            )
        try:
            with archive.open(matching[0]) as stream:
                # No more than the directory says: what holds more fails its checksum.
                data = stream.read()
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise DataError(
                f"is damaged ({error}).", where=label, remedy="Fetch or copy the zip again."
            ) from None
        except (RuntimeError, NotImplementedError) as error:
            raise DataError(
                f"cannot be unpacked ({error}).",
                where=label,
                remedy="Unpack it yourself and name the file inside.",
            ) from None
    return data, label


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            "is UTF-16, not UTF-8.", where=name, remedy="Save it as UTF-8 (in Excel: CSV UTF-8)."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte-order mark is cut off before positions are counted; add it back.
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        column = start - (data.rfind(b"\n", 0, start) + 1) + 1
        raise DataError(
            f"byte {column} of the line (0x{data[start]:02x}) is not UTF-8.",
            where=f"{name} line {line}",
            remedy="Save the file as UTF-8; Slovene files of old Windows: "
            "iconv -f CP1250 -t UTF-8 OLD > NEW.",
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            "holds a NUL byte, so it is not a text file.",
            where=f"{name} line {line}",
            remedy="Remove the byte, or write the file again as UTF-8.",
        )
    return text
