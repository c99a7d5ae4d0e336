"""What is handed in to SloBench, as files: read from a zip (or a folder), written as one.

Everything in it is named, macOS's litter too: in a translation a second file, whatever it is,
makes SloBench refuse the whole.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile

from paretune.data.finding import Finding
from paretune.errors import DataError

EARLIEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip can hold: the same answers make the same bytes on every day."""


MAX_UNPACKED_BYTES = 1 << 28
"""Bytes that a zip may unpack to in all: a submission is a few MiB."""


@dataclass(frozen=True)
class File:
    """One file of a submission: its name in it, its place for messages, its bytes."""

    name: str
    where: str
    data: bytes


@dataclass(frozen=True)
class Submission:
    """The files of a submission, a release or a reference.

    Attributes:
        path: the zip, folder or file.
        zipped: whether it is a zip.
        files: all files in order of name, litter left out.
        litter: names of what macOS or a file manager left: ``__MACOSX``, ``.DS_Store``.
    """

    path: Path
    zipped: bool
    files: tuple[File, ...]
    litter: tuple[str, ...]

    def files_named(self, name: str) -> list[File]:
        """The files of this name at its root; a zip may hold several."""
        return [file for file in self.files if file.name == name]


def open_submission(path: Path) -> Submission:
    """Read a zip, a folder, or a single file.

    Raises:
        DataError: it is not there, damaged, encrypted, or unpacks to more than
        :data:`MAX_UNPACKED_BYTES`.
    """
    path = path.expanduser()
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        names = [p.relative_to(path).as_posix() for p in inside]
        data = {name: p.read_bytes() for name, p in zip(names, inside, strict=True)}
        files = [File(n, f"{path.name}/{n}", data[n]) for n in names if not _is_litter(n)]
        return Submission(path, False, tuple(files), tuple(filter(_is_litter, names)))
    if not path.is_file():
        raise DataError("no such file or folder.", where=str(path), remedy="Check the path.")
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        return Submission(path, False, (File(path.name, path.name, path.read_bytes()),), ())
    try:
        with zipfile.ZipFile(path) as archive:
            infos = sorted((i for i in archive.infolist() if not i.is_dir()), key=_name)
            kept = [info for info in infos if not _is_litter(info.filename)]
            files, left = [], MAX_UNPACKED_BYTES
            for info in kept:
                files.append(_read_member(archive, info, path, left))
                left -= len(files[-1].data)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"is not a readable zip ({error}).", where=str(path), remedy="Make it again."
        ) from None
    except (RuntimeError, NotImplementedError) as error:  # zipfile's: encrypted, unknown method
        raise DataError(
            f"cannot be unpacked ({error}).",
            where=str(path),
            remedy="Make it again without a password, with ordinary compression.",
        ) from None
    litter = tuple(info.filename for info in infos if _is_litter(info.filename))
    return Submission(path, True, tuple(files), litter)


def read_lines(file: File) -> tuple[list[str], list[Finding]]:
    r"""The lines as SloBench reads them, and what is wrong with them.

    The byte that ends the last line begins no further one. Lines are empty if the bytes are not
    text.
    """
    data = file.data
    found = []
    if data.startswith(b"\xef\xbb\xbf"):
        found.append(
            _error("byte-order-mark", f"{file.where} line 1", "begins with a byte-order mark.",
                   "Save it as UTF-8 without one: SloBench takes it for part of the text.")
        )  # fmt: skip
        data = data[3:]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        what = f"byte {column} of the line (0x{data[error.start]:02x}) is not UTF-8."
        remedy = "Save the file as UTF-8."
        return [], [*found, _error("not-utf-8", f"{file.where} line {line}", what, remedy)]
    rows = text.replace("\r\n", "\n").split("\n")
    if rows[-1] == "":
        rows.pop()
    for number, row in enumerate(rows, 1):
        where = f"{file.where} line {number}"
        if "\r" in row or "\0" in row:
            what = "holds a carriage return" if "\r" in row else "holds a NUL byte"
            remedy = "Remove it: SloBench would see another line there, or no text."
            found.append(_error("control-character", where, f"{what} inside the line.", remedy))
        elif not row.strip():
            found.append(_error("empty-line", where, "is empty.", "Fill it, or remove the line."))
    return rows, found


def check_packaging(submission: Submission) -> list[Finding]:
    """What is wrong with the zip itself."""
    if submission.zipped:
        return []
    remedy = "Zip its files, not the folder: cd FOLDER && zip -X ../submission.zip *"
    return [_error("not-a-zip", str(submission.path), "is not a zip; SloBench takes one.", remedy)]


def write_zip(path: Path, files: Mapping[str, str]) -> Path:
    """Write a zip of UTF-8 texts: sorted, undated, not compressed: the same texts, the same bytes.

    It is written beside its place and then renamed, so there is never half a zip.
    """
    path = path.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
        beside = Path(stream.name)
        try:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(files):
                    info = zipfile.ZipInfo(name, EARLIEST_ZIP_DATE)
                    info.create_system = 3  # Unix; Windows would write another number
                    info.external_attr = 0o100644 << 16
                    archive.writestr(info, files[name].encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        except BaseException:
            beside.unlink()
            raise
    beside.chmod(0o644)
    beside.replace(path)
    return path


def _error(code: str, where: str, what: str, remedy: str) -> Finding:
    return Finding("error", code, where, what, remedy)


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename


def _is_litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith(".") or parts[-1] == "Thumbs.db"


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, most: int) -> File:
    where = f"{path.name}::{info.filename}"
    with archive.open(info) as stream:
        # The size in a zip's directory may lie, so what comes out is counted.
        data = stream.read(most + 1)
    if len(data) > most:
        what = f"unpacks, with the files before it, to more than {MAX_UNPACKED_BYTES >> 20} MiB."
        raise DataError(what, where=where, remedy="No submission is that large.")
    return File(info.filename, where, data)
