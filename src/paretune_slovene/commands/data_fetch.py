"""``paretune data fetch``: download pinned public data into the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from paretune.verbs.options import Folder, Word
from paretune.verbs.result import Result, Tell, tell_nothing

if TYPE_CHECKING:
    from rich.console import RenderableType


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


def fetch(
    name: Word,
    *,
    output: Folder | None = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL")] = None,
    tell: Tell = tell_nothing,
) -> FetchResult:
    """Download a pinned public data set, and verify it.

    Every file is compared with its SHA-256. Complete files stay.

    Args:
        name: superglue-sl
        output: Where to. [default: $PARETUNE_HOME, or the cache folder]
        base_url: A mirror that holds the same files.

    Raises:
        StudyError: no such data set.
        NetworkError: a download failed, or is not what was expected.
    """
    from paretune_slovene.download import download_collection

    percents: dict[str, int] = {}

    def progress(file: str, received: int, total: int) -> None:
        percent = 100 * received // max(1, total)
        if percent >= percents.get(file, -25) + 25 or received == total:
            percents[file] = percent
            tell(f"{file}: {percent}% of {total:,} bytes")

    target = None if output is None else Path(output)
    folder = download_collection(name, target, base_url=base_url, progress=progress)
    return FetchResult(name, folder, output)
