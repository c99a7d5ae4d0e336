"""Paths of bases that are folders on this machine, by the hash of their files.

An export names such a base by label and hash: its path would reveal this machine to others and be
of no use to them. The path is noted here, so that the machine that exported finds the base again.
"""

from __future__ import annotations

from pathlib import Path

from paretune.data.cache_dir import data_home
from paretune.errors import ModelError
from paretune.files import expand_home, write_atomically
from paretune.models.sources.resolve import ModelSource


def is_local_folder(source: ModelSource) -> bool:
    """Whether a model is neither of the hub nor of a package, so that it has no public name."""
    return source.revision is None and not source.name.startswith("package:")


def remember_path(source: ModelSource) -> None:
    """Note the path of a base.

    Raises:
        OSError: the folder of fetched data cannot be written.
    """
    folder = expand_home(source.name).resolve()
    write_atomically(_note_path(source.weights_hash), f"{folder}\n")


def recall_path(weights_hash: str, label: str, where: Path) -> str:
    """The noted path of a base.

    Args:
        label: its label in the study, for the error.
        where: the export that needs it, for the error.

    Raises:
        ModelError: this machine does not know it, or it is no longer there.
    """
    note = _note_path(weights_hash)
    folder = note.read_text(encoding="utf-8").strip() if note.is_file() else ""
    if not folder or not Path(folder).is_dir():
        raise ModelError(
            f'its base "{label}" is a folder that '
            + (f"was {folder} and is gone." if folder else "this machine does not know."),
            where=str(where),
            remedy=f"Give its path: base=PLACE (SHA-256 of its files: {weights_hash}).",
        )
    return folder


def _note_path(weights_hash: str) -> Path:
    return data_home() / "bases" / weights_hash
