"""Pinned public downloads, verified by SHA-256 (pooch)."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from paretune.errors import DataError, NetworkError
from paretune.files import data_home as default_home

ProgressCallback = Callable[[str, int, int], None]
"""Called with a file's name, bytes received and bytes in total."""

CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 30.0
MIN_BYTES_PER_SECOND = 1 << 12
"""A slower server is given up, after the timeout on top."""


@dataclass(frozen=True)
class PinnedFile:
    """One public file: its name, size in bytes, and SHA-256."""

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
    retries: int = 3,
) -> Path:
    """Download a collection into ``data_home/name``; complete files stay.

    A file gets its name only after its SHA-256 was verified.

    Args:
        name: a key of :data:`COLLECTIONS`.
        data_home: where collections lie; :func:`paretune.files.data_home` by
            default.
        base_url: a mirror that holds the same files.
        progress: told of every chunk.
        retries: further attempts after a failed one.

    Returns:
        The folder of the collection.

    Raises:
        DataError: no collection of that name, or the folder cannot be written.
        NetworkError: no connection, refused, or the download is not the pinned file.
    """
    import pooch
    import requests

    collection = COLLECTIONS.get(name)
    if collection is None:
        raise DataError(
            f'there is no data set "{name}".', remedy=f"There is {', '.join(COLLECTIONS)}."
        )
    url = _check_url((base_url or collection.base_url).rstrip("/"))
    folder = (data_home or default_home()) / name
    fetcher = pooch.create(
        folder,
        f"{url}/",
        registry={file.name: f"sha256:{file.sha256}" for file in collection.files},
        retry_if_failed=retries,
    )
    pooch.get_logger().setLevel("ERROR")
    try:
        for file in collection.files:
            fetcher.fetch(file.name, downloader=partial(_write_file, file, progress))
    except requests.RequestException as error:
        raise NetworkError(
            f"the download failed ({error.__cause__ or error}).",
            where=url,
            remedy="Check the connection and the address, and run the same command again.",
        ) from None
    except ValueError:  # pooch's error for a wrong hash
        raise NetworkError(
            "the download is not the pinned file (its SHA-256 differs); it was removed.",
            where=url,
            remedy="Try again. If it fails again, a proxy or the mirror changes files.",
        ) from None
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
        is_web = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web or "@" in parts.netloc or not url.isprintable() or " " in url:
        raise DataError(
            "--base-url is not an address of the web.",
            remedy="It must start with https:// and hold no user name and no password.",
        )
    return url


def _write_file(
    file: PinnedFile, progress: ProgressCallback | None, url: str, target: str, fetcher: object
) -> None:
    """Write what the server sends, at most the file's size: pooch's ``downloader``."""
    import requests

    deadline = time.monotonic() + TIMEOUT_SECONDS + file.size / MIN_BYTES_PER_SECOND
    received = 0
    headers = {"User-Agent": "paretune", "Accept-Encoding": "identity"}
    with (
        requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers) as answer,
        Path(target).open("wb") as out,
    ):
        answer.raise_for_status()
        for chunk in answer.iter_content(CHUNK_BYTES):
            received += len(chunk)
            if received > file.size:  # a login page, or a server that would fill the disk
                raise requests.RequestException(f"more than the {file.size:,} bytes of the file")
            if time.monotonic() > deadline:
                raise requests.RequestException("the server is too slow")
            out.write(chunk)
            if progress is not None:
                progress(file.name, received, file.size)
