"""Pinned public downloads: verified by sha256, resumed, complete or absent."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO

from paretune.atomic_write import sync_folder
from paretune.data.sources.cache_dir import data_home as default_home
from paretune.errors import DataError, NetworkError

ProgressCallback = Callable[[str, int, int], None]
"""Called with a file's name, bytes received and bytes in total."""

_CHUNK = 1 << 16
_MIN_BYTES_PER_SECOND = 1 << 12
"""A server that sends less is given up, after what the timeout allows on top."""
_RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class PinnedFile:
    """One public file: its name, size in bytes, and sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """Files under one address."""

    title: str
    base_url: str
    files: tuple[PinnedFile, ...]


COLLECTIONS = {
    "superglue-sl": Collection(
        title="Slovene SuperGLUE, human translation, SloBench release (CC BY 4.0)",
        base_url="https://raw.githubusercontent.com/clarinsi/slobench-eval-docker/"
        "8ffb67d9eecefd2ab3235e0bcba5805b772d48aa/evaluation_scripts/eval_question_answering",
        files=(
            PinnedFile(
                "qa_train.zip",
                163962,
                "a93edaa2600957b2bc0f388ffc9355d77a2233b3058f33a2dd4b071bfa7de73b",
            ),
            PinnedFile(
                "qa_validation.zip",
                36784,
                "8b19fc369d4054fbc5722423e61b66ada745261c1fde5ae9f125f24fdfd5a8bc",
            ),
            PinnedFile(
                "qa_test.zip",
                126969,
                "f3f4a08e40a0294ee987b9fc619ea14c6463bc558d643905def4c987faa586e4",
            ),
        ),
    )
}


def download_collection(
    name: str,
    data_home: Path | None = None,
    *,
    base_url: str | None = None,
    progress: ProgressCallback | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: float = 1.0,
) -> Path:
    """Download a collection into ``data_home/name``; complete files stay.

    An interrupted download is resumed from its ``.part`` at the next attempt or the next call. A
    file gets its name only after its sha256 was verified; a wrong one is removed.

    Args:
        name: a key of :data:`COLLECTIONS`.
        data_home: where collections lie; :func:`paretune.data.sources.cache_dir.data_home` by
            default.
        base_url: a mirror that holds the same files.
        timeout: seconds without an answer or a byte.
        pause: seconds before the second try; doubled for each further one.

    Returns:
        The folder of the collection.

    Raises:
        DataError: no collection of that name, or the folder cannot be written.
        NetworkError: no connection, refused, or the download is not the pinned file.
    """
    collection = COLLECTIONS.get(name)
    if collection is None:
        raise DataError(
            f'there is no data set "{name}".',
            remedy=f"There is {', '.join(COLLECTIONS)}.",
        )
    url = _check_url((base_url or collection.base_url).rstrip("/"))
    folder = (data_home or default_home()) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in collection.files:
            _download_file(file, url, folder, progress, timeout, attempts, pause)
    except OSError as error:
        raise DataError(
            f"cannot be written ({error.strerror or error}).",
            where=str(folder),
            remedy="Free some space, or set PARETUNE_HOME to a folder that can be written.",
        ) from None
    return folder


def _check_url(url: str) -> str:
    """The address, if it is one of the web and holds no password, which messages would show."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urllib.parse.SplitResult("", "", "", "", ""), None
    if "@" in parts.netloc:
        raise DataError(
            "the address holds a user name or a password.", remedy="Name one that needs none."
        )
    if parts.scheme not in ("https", "http") or not host or not url.isprintable() or " " in url:
        raise DataError(f'"{url:.200}" is not a URL.', remedy="It must start with https://.")
    return url


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect out of the web: ``urllib`` would also open ``ftp://``."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        """The request to send instead."""
        try:
            return super().redirect_request(req, fp, code, msg, headers, _check_url(newurl))
        except DataError:
            raise NetworkError(
                "the server leads to what is no public address of the web.",
                where=req.full_url,
                remedy="Check the address; a login page or proxy may answer instead.",
            ) from None


_OPENER = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    _WebRedirects,
    urllib.request.HTTPErrorProcessor,
):
    _OPENER.add_handler(_handler())


def _open_url(request: urllib.request.Request, timeout: float) -> HTTPResponse:
    """The answer with its headers, all within twice ``timeout``: each byte of them may take one.

    Raises:
        OSError, HTTPException: as urllib does.
    """
    opened: Future[HTTPResponse] = Future()

    def open_it() -> None:
        try:
            opened.set_result(_OPENER.open(request, timeout=timeout))
        except BaseException as error:  # noqa: BLE001 (raised again below)
            opened.set_exception(error)

    threading.Thread(target=open_it, daemon=True).start()
    return opened.result(2 * timeout)


def _download_file(
    file: PinnedFile,
    base: str,
    folder: Path,
    progress: ProgressCallback | None,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    target, part = folder / file.name, folder / f"{file.name}.part"
    url = f"{base}/{file.name}"
    with _lock(folder / f"{file.name}.lock"):
        if target.is_file() and _matches(target, file):
            return
        for attempt in range(1, attempts + 1):
            try:
                _download_part(url, part, file, progress, timeout)
                break
            except _RetryableError as error:
                if attempt == attempts:
                    received = part.stat().st_size if part.exists() else 0
                    raise NetworkError(
                        f"the download was interrupted {attempts} times ({error}).",
                        where=url,
                        remedy=f"Run the same command again; {received} of {file.size} bytes "
                        f"are kept.",
                    ) from None
                time.sleep(pause * 2 ** (attempt - 1))
        if not _matches(part, file):
            part.unlink()
            raise NetworkError(
                "the download is not the pinned file (its sha256 differs); it was removed.",
                where=url,
                remedy="Try again; if it fails again, something between here and the server "
                "changes "
                "files, or the mirror is wrong.",
            )
        part.replace(target)
        sync_folder(folder)


class _RetryableError(Exception):
    """A failure after which another attempt may succeed."""


def _download_part(
    url: str, part: Path, file: PinnedFile, progress: ProgressCallback | None, timeout: float
) -> None:
    """Bring ``part`` to its full size, or raise."""
    if part.is_symlink() or (part.exists() and not part.is_file()):
        part.unlink()  # it would be written through, or read without end
    received = part.stat().st_size if part.exists() else 0
    if received > file.size:
        part.unlink()
        received = 0
    if received == file.size:
        return
    headers = {"User-Agent": "paretune", "Accept-Encoding": "identity"}
    if received:
        headers["Range"] = f"bytes={received}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (scheme is checked)
    deadline = time.monotonic() + timeout + (file.size - received) / _MIN_BYTES_PER_SECOND
    try:
        with _open_url(request, timeout) as answer:
            if received and not _is_continued(answer, received):
                received = 0
            with part.open("r+b" if received else "wb") as out:
                out.seek(received)
                _write_chunks(answer, out, received, file, progress, deadline)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and received:
            part.unlink()
            raise _RetryableError("the server does not know the rest of the file") from None
        if error.code in _RETRY_STATUS:
            raise _RetryableError(f"HTTP {error.code}") from None
        raise NetworkError(
            f"the server answered HTTP {error.code} {error.reason}.",
            where=url,
            remedy="Check the address; the file may have moved.",
        ) from None
    except urllib.error.URLError as error:
        raise _RetryableError(error.reason) from None
    except (HTTPException, ConnectionError, TimeoutError) as error:
        raise _RetryableError(str(error) or type(error).__name__) from None


def _write_chunks(
    answer: HTTPResponse,
    out: IO[bytes],
    received: int,
    file: PinnedFile,
    progress: ProgressCallback | None,
    deadline: float,
) -> None:
    while chunk := answer.read1(_CHUNK):  # what is there, and never a wait for more
        received += len(chunk)
        if time.monotonic() > deadline and received < file.size:
            raise _RetryableError(f"slower than {_MIN_BYTES_PER_SECOND:,} bytes a second")
        if received > file.size:
            # It is not the pinned file; do not fill the disk with it.
            out.truncate(0)
            raise NetworkError(
                f"the server sends more than the {file.size} bytes of the pinned file.",
                where=answer.url,
                remedy="Check the address; a login page or proxy may answer instead.",
            )
        out.write(chunk)
        if progress is not None:
            progress(file.name, received, file.size)
    out.truncate()
    out.flush()
    os.fsync(out.fileno())
    if received < file.size:
        raise _RetryableError(f"the connection ended after {received} of {file.size} bytes")


def _is_continued(answer: HTTPResponse, received: int) -> bool:
    """Whether the server sends from byte ``held`` on; one that ignores Range starts anew."""
    content_range = answer.headers.get("Content-Range", "")
    return answer.status == 206 and content_range.startswith(f"bytes {received}-")


def _matches(path: Path, file: PinnedFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256


@contextmanager
def _lock(lock: Path) -> Iterator[None]:
    """Processes that download the same file take turns."""
    if sys.platform == "win32":
        yield  # both would write the same pinned bytes; the hash decides
        return
    import fcntl

    # Never through a link that somebody left there.
    descriptor = os.open(lock, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
