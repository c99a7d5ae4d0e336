"""The journal of ended runs, in a file beside the database: ``done.jsonl``, a line for each.

A damaged write-ahead log silently takes back the last commits. Each ended run is written here after
its commit, on disk before the next step, so that what the database lost is known. A kill between
commit and journal leaves a line too few, never one too many, and the next start of the study adds
it. Each line has its own check; one that is torn or damaged is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from paretune.atomic_write import sync_folder
from paretune.errors import StoreError


@dataclass(frozen=True)
class EndedRun:
    """A run that was done for a study, or ``failed``; ``description`` says which it is."""

    study_hash: str
    run_id: str
    description: str
    failed: bool = False

    def __str__(self) -> str:
        how = "had failed" if self.failed else "was done"
        return f"run {self.run_id} ({self.description}) {how}, and the database has lost it"


def append_ended_runs(path: Path, runs: Iterable[EndedRun]) -> None:
    """Append lines; on disk when this returns.

    Raises:
        StoreError: the disk is full or the file cannot be written.
    """
    # Each line begins with a line break: what a power cut tore before it stays a line of its own.
    lines = b"".join(b"\n" + _encode_line(run) for run in runs)
    if not lines:
        return
    try:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot be written ({error.strerror or error}).",
            where=str(path),
            remedy="Check the free space and the permissions; the same command continues.",
        ) from error


def read_ended_runs(path: Path) -> list[EndedRun]:
    """All runs in the journal, in order; damaged lines are left out.

    Raises:
        StoreError: the file is there and cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"cannot be read ({error.strerror or error}).",
            where=str(path),
            remedy="Check its permissions.",
        ) from error
    return [run for line in lines if (run := _decode_line(line)) is not None]


def _encode_line(run: EndedRun) -> bytes:
    values = [run.study_hash, run.run_id, run.description, *([True] if run.failed else [])]
    text = json.dumps(values)
    return f"{_line_checksum(text)} {text}".encode()


def _decode_line(line: bytes) -> EndedRun | None:
    checksum, _, text = line.decode(errors="replace").partition(" ")
    return EndedRun(*json.loads(text)) if checksum == _line_checksum(text) else None


def _line_checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
