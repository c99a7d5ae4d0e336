"""``paretune data fetch``: download pinned public data, verified by SHA-256 (pooch)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from paretune.errors import DataError, NetworkError
from paretune.files import data_home
from paretune.verbs.options import Folder, Word
from paretune.verbs.result import Result, Tell, tell_nothing

if TYPE_CHECKING:
    from rich.console import RenderableType

RETRIES = 3
CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 30.0
MAX_FILE_BYTES = 1 << 22
"""No pinned file is as large: a login page, or a server that would fill the disk."""
MAX_FILE_SECONDS = 300.0
COLLECTIONS = {
    "superglue-sl": (
        "https://raw.githubusercontent.com/clarinsi/slobench-eval-docker/"
        "8ffb67d9eecefd2ab3235e0bcba5805b772d48aa/evaluation_scripts/eval_question_answering",
        {
            "qa_train.zip": "a93edaa2600957b2bc0f388ffc9355d77a2233b3058f33a2dd4b071bfa7de73b",
            "qa_validation.zip": "8b19fc369d4054fbc5722423e61b66ada745261c1fde5ae9f125f24fdfd5a8bc",
            "qa_test.zip": "f3f4a08e40a0294ee987b9fc619ea14c6463bc558d643905def4c987faa586e4",
        },
    )
}
"""Collections by name: the address of a folder, and the SHA-256 of its files.

Slovene SuperGLUE, human translation, SloBench release (CC BY 4.0).
"""


@dataclass(frozen=True, repr=False)
class FetchResult(Result):
    """A data set that is complete.

    Attributes:
        name: of the data.
        folder: where it lies.
        output: the folder that was asked for; None: the cache.
    """

    json_fields: ClassVar = ("name", "folder")

    name: str
    folder: Path
    output: Path | str | None

    def describe(self) -> Iterable[RenderableType]:
        """Where it is, and how studies find it."""
        yield f"{self.name}: complete and verified, in {self.folder}"
        if self.output is not None:
            home, source = f"PARETUNE_HOME={self.output}", f"source: {self.folder}"
            yield f"Studies find it with {home}, or {source}."


def fetch(name: Word, *, output: Folder | None = None, tell: Tell = tell_nothing) -> FetchResult:
    """Download a pinned public data set, and verify it.

    Every file is compared with its SHA-256. Complete files stay.

    Args:
        name: superglue-sl
        output: Where to. [default: $PARETUNE_HOME, or the cache folder]

    Raises:
        DataError: no such data set, or the folder cannot be written.
        NetworkError: a download failed, or is not what was expected.
    """
    import pooch
    import requests

    if name not in COLLECTIONS:
        raise DataError(
            f'there is no data set "{name}".', remedy=f"There is {', '.join(COLLECTIONS)}."
        )
    url, files = COLLECTIONS[name]
    folder = (Path(output) if output is not None else data_home()) / name
    registry = {file: f"sha256:{sha256}" for file, sha256 in files.items()}
    fetcher = pooch.create(folder, f"{url}/", registry=registry, retry_if_failed=RETRIES)
    pooch.get_logger().setLevel("ERROR")
    try:
        for file in files:
            fetcher.fetch(file, downloader=_write_file)
            tell(f"{file}: complete and verified")
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
    return FetchResult(name, folder, output)


def _write_file(url: str, target: str, fetcher: object) -> None:
    """Write what the server sends, up to a limit: pooch's ``downloader``."""
    import requests

    deadline, received = time.monotonic() + MAX_FILE_SECONDS, 0
    headers = {"User-Agent": "paretune", "Accept-Encoding": "identity"}
    with (
        requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers) as answer,
        Path(target).open("wb") as out,
    ):
        answer.raise_for_status()
        for chunk in answer.iter_content(CHUNK_BYTES):
            received += len(chunk)
            if received > MAX_FILE_BYTES:
                raise requests.RequestException(f"more than {MAX_FILE_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise requests.RequestException("the server is too slow")
            out.write(chunk)
