"""Which runs have ended, in a file beside the database: ``done.jsonl``, one line for each.

A damaged write-ahead log takes the last commits back without a word. Here each is noted after its
commit, on disk before the next step, so what the database lost is known. A kill between commit and
note leaves a note too few, never one too many, and the next start of the study adds it. Each line
has its own check, and one that is torn or damaged says nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from paretune.errors import StoreError
from paretune.store.blobs import sync_folder


@dataclass(frozen=True)
class EndedRun:
    """A run that was done for a study, or ``failed``; ``what`` says which it is."""

    study_hash: str
    run_id: str
    what: str
    failed: bool = False

    def __str__(self) -> str:
        how = "had failed" if self.failed else "was done"
        return f"run {self.run_id} ({self.what}) {how}, and the database has lost it"


def append_ended_runs(path: Path, runs: Iterable[EndedRun]) -> None:
    """Add lines; on disk when this returns.

    Raises:
        StoreError: the disk is full or the file cannot be written.
    """
    # Each line begins with its end: what a power cut tore before it stays a line of its own.
    lines = b"".join(b"\n" + _encode_line(run) for run in runs)
    if not lines:
        return
    try:
        new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot be written ({error.strerror or error}).",
            where=str(path),
            remedy="Check the free space and the permissions; the same command continues.",
        ) from error


def read_ended_runs(path: Path) -> list[EndedRun]:
    """All runs that were noted, in order; damaged lines are left out.

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
    said = json.dumps([run.study_hash, run.run_id, run.what, *([True] if run.failed else [])])
    return f"{_line_checksum(said)} {said}".encode()


def _decode_line(line: bytes) -> EndedRun | None:
    check, _, said = line.decode(errors="replace").partition(" ")
    return EndedRun(*json.loads(said)) if check == _line_checksum(said) else None


def _line_checksum(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:12]
