"""An open folder: connection, settings, blobs, and whether all is as it was written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from paretune.store.blobs import blob_path, read_blob, remove_stale_parts, write_blob
from paretune.store.journal import EndedRun, append_ended_runs, read_ended_runs
from paretune.store.sqlite import dropped_weights
from paretune.store.sqlite.database import transaction
from paretune.store.sqlite.open_database import OpenDatabase, open_database
from paretune.store.sqlite.queries import find_lost_runs, load_ended_runs, load_settings
from paretune.store.sqlite.set_aside import set_aside_damaged_rows
from paretune.store.sqlite.verify import find_problems
from paretune.store.sqlite.writes import put_setting


class OpenFolder:
    """What a store is beside its studies and runs: see :class:`paretune.store.Store`."""

    def __init__(self, folder: Path, opened: OpenDatabase) -> None:
        self.folder = folder
        self._opened = opened
        self._db = opened.connection
        self._db.row_factory = sqlite3.Row

    @classmethod
    def open(cls, folder: Path, create: bool = False) -> Self:
        """Open the store in ``folder``; with ``create``, make what is missing.

        Where the folder cannot be written, the store is there to be read.

        Raises:
            StoreError: there is none, it is damaged, busy, another program's, or newer than
                this version of paretune.
        """
        opened = open_database(folder, create=create)
        try:
            store = cls(folder, opened)
            if create:
                store._sweep()
                store._catch_up()
        except BaseException:  # whatever it is goes on up; nothing stays open
            opened.close()
            raise
        return store

    def close(self) -> None:
        """Close the connection; the store stays as it is."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_writable(self) -> bool:
        """Whether something can be kept here; a store on read-only storage is there to be read."""
        return os.access(self.folder, os.W_OK) and os.access(self._file, os.W_OK)

    def lost(self, study_hash: str | None = None) -> list[EndedRun]:
        """Runs that were done for a study (None: for any) and are no longer so in the database.

        A damaged write-ahead log, or an older copy of the database, has taken them back.
        """
        before = read_ended_runs(
            self._done
        )  # first: a run that another process ends meanwhile is not lost
        with self._read() as db:
            return find_lost_runs(db, before, study_hash)

    def settings(self, prefix: str) -> dict[str, str]:
        """All settings whose names begin so, by the rest of their names."""
        with self._read() as db:
            found = load_settings(db, self._file)
        return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}

    def get_setting(self, key: str) -> str | None:
        """A value kept with the store, or None.

        Raises:
            StoreError: it changed since it was written.
        """
        with self._read() as db:
            return load_settings(db, self._file, key).get(key)

    def set_setting(self, key: str, value: str) -> None:
        """Keep a value with the store."""
        with self._write() as db:
            put_setting(db, key, value)

    def set_settings(self, values: Mapping[str, str]) -> None:
        """Keep several values with the store, all at once."""
        with self._write() as db:
            for key, value in values.items():
                put_setting(db, key, value)

    def set_default_setting(self, key: str, value: str) -> str:
        """Keep a value unless there is one; return the one that is kept (the first writer's)."""
        with self._write() as db:
            put_setting(db, key, value, once=True)
            return load_settings(db, self._file, key)[key]

    def sum_weight_bytes(self, study_hash: str) -> int:
        """What the trained weights of a study take that are kept here."""
        with self._read() as db:
            return dropped_weights.sum_weight_bytes(db, study_hash)

    def list_dropped_runs(self) -> set[str]:
        """Ids of the runs whose trained weights were dropped (:meth:`drop_weights`)."""
        with self._read() as db:
            return dropped_weights.list_dropped_runs(db)

    def drop_weights(self, study_hash: str, run_ids: Sequence[str]) -> list[str]:
        """Let go of the trained weights of runs; the ids of those that lost them.

        Weights of runs that a study of another name asks for too stay.
        """
        with self._read() as db:
            found = dropped_weights.find_droppable(db, study_hash, run_ids)
        for run_id, sha256 in found.items():
            self.set_setting(f"{dropped_weights.DROPPED_PREFIX}{run_id}", sha256)
        self._remove_dropped()
        return list(found)

    def read_blob(self, sha256: str) -> bytes:
        """The blob's content, its hash verified.

        Raises:
            StoreError: missing or damaged.
        """
        return read_blob(self._blobs, sha256)

    def blob_path(self, sha256: str) -> Path:
        """The blob's file, for readers that map it; its hash is not verified."""
        return blob_path(self._blobs, sha256)

    def checkpoint(self, run_id: str) -> Path:
        """Where the run's checkpoint lies while it is running."""
        return self.folder / "checkpoints" / f"{run_id}.safetensors"

    def verify(self) -> list[str]:
        """Everything that is wrong with the store, one sentence each; empty: all is well."""
        before = read_ended_runs(self._done)
        with self._read() as db:
            return [*find_problems(db, self._blobs), *map(str, find_lost_runs(db, before))]

    def count_ended(self) -> int:
        """How many runs have ended, of all studies."""
        with self._read() as db:
            ended = db.execute("SELECT count(*) FROM runs WHERE ended IS NOT NULL").fetchone()
        return int(ended[0])

    def set_aside(self) -> list[str]:
        """Put away every damaged row, so that it is made again; what was put away.

        The rows are kept in the table ``set_aside_damaged_rows``.
        """
        with self._write() as db:
            return set_aside_damaged_rows(db)

    # Behind the doors

    @property
    def _blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def _done(self) -> Path:
        return self.folder / "done.jsonl"

    @property
    def _file(self) -> str:
        return str(self.folder / "study.db")

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self.folder / "study.db", "IMMEDIATE")

    def _read(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self.folder / "study.db", "DEFERRED")

    def _hold(
        self,
        db: sqlite3.Connection,
        run_id: str,
        blobs: Mapping[str, bytes],
        hashes: Mapping[str, str],
    ) -> None:
        """See that a run's blobs are there: one that was already may have been dropped since."""
        dropped_weights.clear_dropped_mark(db, run_id)
        for name, content in blobs.items():
            if not blob_path(self._blobs, hashes[name]).exists():
                write_blob(self._blobs, content)

    def _remove_dropped(self) -> None:
        with self._write() as db:
            dropped_weights.remove_dropped_blobs(db, self._blobs)

    def _sweep(self) -> None:
        """Remove what a killed process left between two steps: parts, checkpoints of ended runs."""
        remove_stale_parts(self._blobs)
        if self.list_dropped_runs():
            self._remove_dropped()
        waiting = {path.stem: path for path in (self.folder / "checkpoints").glob("*.safetensors")}
        if waiting:
            with self._read() as db:
                ended = db.execute("SELECT run_id FROM runs WHERE ended IS NOT NULL").fetchall()
            for row in ended:
                if row["run_id"] in waiting:
                    waiting[row["run_id"]].unlink(missing_ok=True)

    def _catch_up(self) -> None:
        """Note the runs that ended and were not noted: by a killed process, or an older version."""
        there = {(run.study_hash, run.run_id, run.failed) for run in read_ended_runs(self._done)}
        with self._read() as db:
            runs = [
                run
                for run in load_ended_runs(db)
                if (run.study_hash, run.run_id, run.failed) not in there
            ]
        append_ended_runs(self._done, runs)
