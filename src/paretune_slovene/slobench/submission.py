"""The files of a SloBench submission: read from a zip (or a folder), written as a zip.

Every file in it is listed, also what macOS adds: a file too many of any kind makes SloBench refuse
a translation, and words with tags.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from paretune.data.finding import Finding, raise_for_findings
from paretune.errors import DataError
from paretune.files import expand_home, replace_file

MAX_UNPACKED_BYTES = 1 << 28
"""Bytes that a zip may unpack to in total: a submission has a few MiB."""


@dataclass(frozen=True)
class File:
    """One file of a submission."""

    name: str
    where: str
    data: bytes


@dataclass(frozen=True)
class Submission:
    """The files of a submission, a release or a reference.

    Attributes:
        files: all files, ordered by name, without litter.
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
        DataError: it does not exist, is damaged or encrypted, or unpacks to more than
            :data:`MAX_UNPACKED_BYTES`.
    """
    path = expand_home(path)
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.is_file())
        names = [p.relative_to(path).as_posix() for p in paths]
        contents = {name: p.read_bytes() for name, p in zip(names, paths, strict=True)}
        files = [File(n, f"{path.name}/{n}", contents[n]) for n in names if not _is_litter(n)]
        return Submission(path, False, tuple(files), tuple(filter(_is_litter, names)))
    if not path.is_file():
        raise DataError("no such file or folder.", where=str(path), remedy="Check the path.")
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        return Submission(path, False, (File(path.name, path.name, path.read_bytes()),), ())
    try:
        return _read_zip(path)
    # RuntimeError is zipfile's where it is encrypted, or packed by an unknown method.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DataError(
            f"is not a readable zip ({error}).",
            where=str(path),
            remedy="Make it again without a password, with ordinary compression.",
        ) from None


def read_lines(file: File) -> tuple[list[str], list[Finding]]:
    r"""The lines as SloBench reads them, and what is wrong with them.

    A newline at the end begins no further line. There are no lines if the bytes are not UTF-8.
    """
    data = file.data
    findings = []
    if data.startswith(b"\xef\xbb\xbf"):
        findings.append(
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
        return [], [*findings, _error("not-utf-8", f"{file.where} line {line}", what, remedy)]
    rows = text.replace("\r\n", "\n").split("\n")
    if rows[-1] == "":
        rows.pop()
    for number, row in enumerate(rows, 1):
        where = f"{file.where} line {number}"
        if "\r" in row or "\0" in row:
            what = "holds a carriage return" if "\r" in row else "holds a NUL byte"
            remedy = "Remove it: SloBench would see another line there, or no text."
            findings.append(_error("control-character", where, f"{what} inside the line.", remedy))
        elif not row.strip():
            remedy = "Fill it, or remove the line."
            findings.append(_error("empty-line", where, "is empty.", remedy))
    return rows, findings


def check_packaging(submission: Submission) -> list[Finding]:
    """The faults of the zip itself."""
    if submission.zipped:
        return []
    remedy = "Zip its files, not the folder: cd FOLDER && zip -X ../submission.zip *"
    return [_error("not-a-zip", str(submission.path), "is not a zip; SloBench takes one.", remedy)]


def check_files(submission: Submission, count: int = 1) -> list[Finding]:
    """An error unless it holds so many files, at its root, and nothing else."""
    names = [*(file.name for file in submission.files), *submission.litter]
    if len(names) == count and not any("/" in name for name in names):
        return []
    some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    expected = "one" if count == 1 else f"the release's {count} files"
    what = f"holds {some or 'no file'}; SloBench takes exactly {expected}, at the root."
    remedy = "Zip the files of the answers and nothing else (zip -X on macOS)."
    return [_error("one-file", submission.path.name, what, remedy)]


def raise_for_errors(findings: Sequence[Finding]) -> None:
    """Raise DataError if SloBench would refuse the submission; warnings pass."""
    raise_for_findings([finding for finding in findings if finding.severity == "error"])


def write_zip(path: Path, texts: Mapping[str, str]) -> Path:
    """Write a zip of UTF-8 texts: sorted, undated, uncompressed. Equal texts give equal bytes.

    Args:
        path: path of the zip; an existing one is replaced, as a whole.

    Raises:
        OSError: it cannot be written.
    """
    path = expand_home(path)
    with replace_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(texts):
            info = zipfile.ZipInfo(name)  # of 1980 on every day
            info.create_system = 3  # Unix; Windows would write another number
            info.external_attr = 0o100644 << 16
            archive.writestr(info, texts[name].encode("utf-8"))
    return path


def _error(code: str, where: str, what: str, remedy: str) -> Finding:
    return Finding("error", code, where, what, remedy)


def _is_litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith(".") or parts[-1] == "Thumbs.db"


def _read_zip(path: Path) -> Submission:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        members.sort(key=lambda info: info.filename)
        files: list[File] = []
        bytes_left = MAX_UNPACKED_BYTES
        for info in members:
            if not _is_litter(info.filename):
                files.append(_read_member(archive, info, path, bytes_left))
                bytes_left -= len(files[-1].data)
    litter = tuple(info.filename for info in members if _is_litter(info.filename))
    return Submission(path, True, tuple(files), litter)


def _read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, max_bytes: int
) -> File:
    where = f"{path.name}::{info.filename}"
    with archive.open(info) as stream:
        # The size in a zip's directory may be wrong, so what is unpacked is counted.
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DataError(
            f"unpacks, with the files before it, to more than {MAX_UNPACKED_BYTES >> 20} MiB.",
            where=where,
            remedy="No submission is that large.",
        )
    return File(info.filename, where, data)
