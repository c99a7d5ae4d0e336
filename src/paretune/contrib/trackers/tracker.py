"""Where entries are mirrored to: the Protocol of a tracker, and how one is opened by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from paretune.errors import StudyError, TrackerError

if TYPE_CHECKING:
    from paretune.contrib.trackers.entry import Entry

TRACKERS: Mapping[str, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}
"""Names, which are also those of the extras, and the package that each needs."""


class Tracker(Protocol):
    """Where entries are mirrored to."""

    def has(self, identity: str) -> bool:
        """Whether the entry of this identity is stored completely."""

    def write(self, entry: Entry) -> None:
        """Write an entry, in place of an incomplete one.

        Raises:
            TrackerError: the tracker refused it.
        """

    def flush(self) -> None:
        """Return when all written entries are stored; more may be written after that."""


def open_tracker(name: str, into: str, study: str) -> Tracker:
    """A tracker that writes to ``into``, for the study of this name.

    Raises:
        StudyError: there is no such tracker, or it cannot write there.
        TrackerError: its library is not installed, or the folder cannot be made.
        TrackerError: the library cannot use the place.
    """
    if name not in TRACKERS:
        raise StudyError(
            f'there is no tracker "{name}".',
            where="--to",
            remedy=f"There is {', '.join(TRACKERS)}.",
        )
    spec = find_spec(TRACKERS[name])
    if spec is None or spec.origin is None:  # a folder of that name is no package
        raise TrackerError(
            f"the package {TRACKERS[name]} is not installed.",
            where=f"--to {name}",
            remedy=f"pip install {TRACKERS[name]}",
        )
    if "://" not in into:
        _make(Path(into))
    elif name != "mlflow":
        raise StudyError(
            f"{name} is mirrored into a folder.", where=f"--output {into}", remedy="Name a folder."
        )
    tracker: Tracker = import_module(f"paretune.contrib.trackers.{name}").open_in(into, study)
    return tracker


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackerError(
            f"the folder cannot be made ({error.strerror or error}).",
            where=str(folder),
            remedy="Choose another with --output.",
        ) from error
    if not os.access(folder, os.W_OK):
        raise TrackerError(
            "the folder cannot be written.",
            where=str(folder),
            remedy="Choose another with --output.",
        )
