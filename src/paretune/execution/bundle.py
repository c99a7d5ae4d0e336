"""A bundle: claimed runs of a study in one file, with all that a machine needs to execute them.

A zip with ``manifest.json``, the study's data (``inputs/``) and checkpoints of runs that had begun
(``checkpoints/``). It holds no code and no model.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paretune.atomic_write import replace_file
from paretune.errors import StoreError

FORMAT = 1
_MANIFEST = "manifest.json"
_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")


@dataclass(frozen=True)
class Bundle:
    """What a bundle says.

    Attributes:
        bundle_id: who holds the runs in the store that they are from (:mod:`paretune.owner`).
        version: of paretune that packed it; the one that unpacks it must be the same.
        study: its ``study_hash``, ``name``, ``text`` and ``canonical`` form.
        inputs: what the runs read (:mod:`paretune.planning.inputs`).
        options: of the workers: ``keep_bytes``, ``cost_seconds``.
        runs: ids with runs, as plain values, in the order of the study.
        settings: of the store, about these runs.
        checkpoints: sha256 by run id.
    """

    bundle_id: str
    version: str
    study: Mapping[str, Any]
    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    runs: tuple[tuple[str, Mapping[str, Any]], ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT


def write_bundle(
    path: Path, bundle: Bundle, inputs: Mapping[str, Path], checkpoints: Mapping[str, Path]
) -> None:
    """Write the file; ``inputs`` by their names in it, ``checkpoints`` by run id.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        with replace_file(path) as part, zipfile.ZipFile(part, "w") as archive:
            manifest = json.dumps(asdict(bundle), ensure_ascii=False, indent=1)
            archive.writestr(_MANIFEST, manifest, zipfile.ZIP_DEFLATED)
            for name, file in inputs.items():
                archive.write(file, f"inputs/{name}")
            for run_id, file in checkpoints.items():
                archive.write(file, f"checkpoints/{run_id}")
    except OSError as error:
        raise StoreError(
            f"the bundle cannot be written ({error.strerror or error}).",
            where=str(path),
            remedy="Name another place by --output.",
        ) from error


def read_bundle(path: Path) -> Bundle:
    """What the bundle says.

    Raises:
        StoreError: it is missing, damaged or none.
    """
    with _open(path) as archive:
        try:
            value: dict[str, Any] = json.loads(archive.read(_MANIFEST))
            if value.get("format") != FORMAT:
                raise ValueError("of another version of paretune")
            runs = tuple((str(run_id), run) for run_id, run in value["runs"])
            bundle = Bundle(**{**value, "runs": runs})
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(path, str(error)) from error
    for run_id in [*dict(bundle.runs), *bundle.checkpoints]:
        if not _RUN_ID.fullmatch(run_id):
            raise _damaged(path, f"a run called {run_id!r:.100}")
    return bundle


def unpack_inputs(path: Path, names: Mapping[str, str], folder: Path) -> None:
    """Write the study's data into a folder; ``names`` by sha256.

    Raises:
        StoreError: one is missing or damaged, or cannot be written.
    """
    for sha256, name in names.items():
        _extract(path, f"inputs/{name}", folder / name, sha256)


def unpack_checkpoint(path: Path, bundle: Bundle, run_id: str, file: Path) -> None:
    """Write the checkpoint of a run that has one.

    Raises:
        StoreError: it is missing or damaged, or cannot be written.
    """
    _extract(path, f"checkpoints/{run_id}", file, bundle.checkpoints[run_id])


def _extract(path: Path, member: str, file: Path, sha256: str) -> None:
    with _open(path) as archive:
        try:
            with (
                archive.open(member) as packed,
                replace_file(file) as part,
                part.open("wb") as opened,
            ):
                shutil.copyfileobj(packed, opened, 1 << 20)
                opened.flush()
                with part.open("rb") as written:
                    if hashlib.file_digest(written, "sha256").hexdigest() != sha256:
                        raise _damaged(path, f"{member} has changed")
        except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _damaged(path, f"{member}: {error}") from error
        except OSError as error:
            raise StoreError(
                f"cannot be written ({error.strerror or error}).",
                where=str(file),
                remedy="Name another place by --folder.",
            ) from error


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise StoreError(
            "no such bundle.", where=str(path), remedy="`paretune pack` writes one."
        ) from None
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"is no whole bundle ({reason}).",
        where=str(path),
        remedy="Copy it again from where `paretune pack` wrote it.",
    )
