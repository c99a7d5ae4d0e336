"""Reading a store: whatever is shown was first compared with what was written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Self

from paretune.errors import StoreError
from paretune.store.blobs import read_blob
from paretune.store.journal import EndedRun, read_ended_runs
from paretune.store.prediction_codec import decode_predictions
from paretune.store.record import Predictions, Record
from paretune.store.sqlite import dropped_weights, queries
from paretune.store.sqlite.changes import has_changes, load_settings_revision
from paretune.store.sqlite.claims import load_moment
from paretune.store.sqlite.database import transaction
from paretune.store.sqlite.open_database import OpenDatabase
from paretune.store.sqlite.verify import find_problems
from paretune.store.status import RunStatus, StudyEntry
from paretune.store.status_view import Moment, StatusChanges, StatusView
from paretune.study import Run


class StoreReader:
    """The part of :class:`~paretune.store.store.Store` that reads."""

    poll_seconds = 0.2

    def __init__(self, folder: Path, database: OpenDatabase) -> None:
        self.folder = folder
        self._database = database
        self._db = database.connection
        self._db.row_factory = sqlite3.Row
        self._parsed_runs: dict[tuple[str, str], tuple[str, Run]] = {}
        self._views: dict[str, StatusView] = {}
        self._settings: dict[str, tuple[int, dict[str, str]]] = {}

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

        Only what has changed since the last look is read. A value that is as before is the same
        object.

        Raises:
            StoreError: a run changed since it was written.
        """
        with self._read() as db:
            return self._refresh(db, study_hash).assemble(load_moment(db, owner))

    def load_status_changes(
        self, study_hash: str, owner: str | None, since: int
    ) -> tuple[StatusChanges, Moment]:
        """What has changed after a revision, for another view of the study, and the moment.

        Raises:
            StoreError: a run changed since it was written.
        """
        with self._read() as db:
            return self._refresh(db, study_hash).list_changes(since), load_moment(db, owner)

    def get_run(self, study_hash: str, run_id: str) -> Run | None:
        """A run of the study, as :meth:`load_status_changes` last saw it."""
        view = self._views.get(study_hash)
        stored = None if view is None else view.get(run_id)
        return None if stored is None else stored.status.run

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
        return dict(self.load_settings(prefix)[1])

    def load_settings(self, prefix: str) -> tuple[int, Mapping[str, str]]:
        """The same, and a number that is another one once any of them was written since.

        They are read again only then: a study has one or two for each of its runs. The number is 0
        where that is not known.
        """
        with self._read() as db:
            is_numbered = prefix.count("/") == 1 and prefix.endswith("/") and has_changes(db)
            revision = load_settings_revision(db, prefix) if is_numbered else 0
            if is_numbered and not revision:
                return 0, {}  # never was one
            known = self._settings.get(prefix)
            if known is not None and revision and known[0] == revision:
                return known
            settings = queries.load_settings(db, self._file, prefix)
        values = {key.removeprefix(prefix): value for key, value in settings.items()}
        self._settings[prefix] = (revision, values)
        return self._settings[prefix]

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content, its hash verified.

        Raises:
            StoreError: missing or damaged.
        """
        return read_blob(self._blobs, sha256)

    def checkpoint_path(self, run_id: str) -> Path:
        """Where the run's checkpoint lies while it is running."""
        return self.folder / "checkpoints" / f"{run_id}.safetensors"

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
        journal = read_ended_runs(self._journal)
        with self._read() as db:
            lost = queries.find_lost_runs(db, journal)
            return [*find_problems(db, self._blobs), *map(str, lost)]

    def find_lost_runs(self, study_hash: str | None = None) -> list[EndedRun]:
        """Runs that had ended for a study (None: for any) and have not in the database.

        A damaged write-ahead log, or an older copy of the database, has taken them back.
        """
        journal = read_ended_runs(self._journal)  # first: a run may end meanwhile
        with self._read() as db:
            return queries.find_lost_runs(db, journal, study_hash)

    @property
    def _blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def _journal(self) -> Path:
        return self.folder / "done.jsonl"

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

    def _refresh(self, db: sqlite3.Connection, study_hash: str) -> StatusView:
        """The view of a study, as it is in this transaction."""
        view = self._views.setdefault(study_hash, StatusView())
        view.apply(
            queries.load_status_changes(db, study_hash, view.revision, self._parse_run, self._file)
        )
        return view

    def _parse_run(self, study_hash: str, run_id: str, text: str) -> Run:
        known = self._parsed_runs.get((study_hash, run_id))
        if known is None or known[0] != text:
            known = self._parsed_runs[(study_hash, run_id)] = (text, Run.model_validate_json(text))
        return known[1]
