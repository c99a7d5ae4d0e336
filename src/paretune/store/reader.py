"""Reading a store: whatever is shown was first compared with what was written."""

from __future__ import annotations

import os
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Self

from paretune.errors import StoreError
from paretune.store.blobs import read_blob
from paretune.store.prediction_codec import decode_predictions
from paretune.store.record import Predictions, Record
from paretune.store.sqlite import dropped_weights, queries
from paretune.store.sqlite.database import transaction
from paretune.store.sqlite.open_database import OpenDatabase
from paretune.store.sqlite.verify import find_problems
from paretune.store.status import RunStatus, StudyEntry
from paretune.study import Run


class StoreReader:
    """The part of :class:`~paretune.store.store.Store` that reads."""

    def __init__(self, folder: Path, database: OpenDatabase) -> None:
        self.folder = folder
        self._database = database
        self._db = database.connection
        self._db.row_factory = sqlite3.Row
        self._parsed_runs: dict[tuple[str, str], tuple[str, Run]] = {}
        self._ended: dict[tuple[str, str, str], RunStatus] = {}

    def close(self) -> None:
        """Close the connection; the store stays as it is."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_writable(self) -> bool:
        """Whether something can be kept here; a store on read-only storage can only be read."""
        return os.access(self.folder, os.W_OK) and os.access(self._file, os.W_OK)

    def list_studies(self) -> list[StudyEntry]:
        """All versions of all study files that ran here, oldest first."""
        with self._read() as db:
            return queries.load_studies(db, self._file)

    # Statuses and records

    def load_statuses(self, study_hash: str, owner: str | None = None) -> list[RunStatus]:
        """The status of every run of the study, in order; claimable: by ``owner``.

        Raises:
            StoreError: a run changed since it was written.
        """
        with self._read() as db:
            return queries.load_statuses(
                db, study_hash, owner, self._parse_run, self._file, self._ended
            )

    def load_records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """The records of ended runs, in the order in which the study asked for them.

        A trial of a learning rate whose predictions are missing or damaged comes without them
        (:attr:`Record.lacks_predictions`).

        Raises:
            StoreError: a record changed since it was written, or the predictions of a final run are
                missing or damaged.
        """
        with self._read() as db:
            records = queries.load_records(db, study_hash, self._parse_run, self._file)
        if not predictions:
            return records
        return [replace(record, predictions=self._predictions(record)) for record in records]

    def count_ended(self) -> int:
        """How many runs have ended, of all studies."""
        with self._read() as db:
            ended = db.execute("SELECT count(*) FROM runs WHERE ended IS NOT NULL").fetchone()
        return int(ended[0])

    def get_setting(self, key: str) -> str | None:
        """A value kept with the store, or None.

        Raises:
            StoreError: it changed since it was written.
        """
        with self._read() as db:
            return queries.load_setting(db, self._file, key)

    def get_settings(self, prefix: str) -> dict[str, str]:
        """The values of all keys that begin with ``prefix``, by the rest of the key."""
        with self._read() as db:
            settings = queries.load_settings(db, self._file, prefix)
        return {key.removeprefix(prefix): value for key, value in settings.items()}

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content, its hash verified.

        Raises:
            StoreError: missing or damaged.
        """
        return read_blob(self._blobs, sha256)

    def checkpoint_path(self, run_id: str) -> Path:
        """Where the run's checkpoint lies while it is running."""
        return self._checkpoints / f"{run_id}.safetensors"

    def sum_weight_bytes(self, study_hash: str) -> int:
        """Bytes of the trained weights of a study that are kept here."""
        with self._read() as db:
            return dropped_weights.sum_weight_bytes(db, study_hash)

    def list_dropped_runs(self) -> set[str]:
        """Ids of the runs whose trained weights were dropped (:meth:`drop_weights`)."""
        with self._read() as db:
            return dropped_weights.list_dropped_runs(db)

    def verify(self) -> list[str]:
        """Everything that is wrong with the store, one sentence each; empty where all is well."""
        with self._read() as db:
            return find_problems(db, self._blobs)

    @property
    def _blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def _file(self) -> str:
        return str(self.folder / "study.db")

    def _read(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self.folder / "study.db", "DEFERRED")

    def _predictions(self, record: Record) -> dict[str, Predictions]:
        sha256 = record.result.get("predictions")
        if sha256 is None:
            return {}
        try:
            return decode_predictions(self.read_blob(sha256), f"run {record.run_id}")
        except StoreError:
            if record.run.stage == "tune":
                return {}  # the rate is chosen by the scores, which are in the record
            raise

    def _parse_run(self, study_hash: str, run_id: str, text: str) -> Run:
        known = self._parsed_runs.get((study_hash, run_id))
        if known is None or known[0] != text:
            known = self._parsed_runs[(study_hash, run_id)] = (text, Run.model_validate_json(text))
        return known[1]
