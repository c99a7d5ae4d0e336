"""The store of studies: one SQLite file is the truth, blobs and checkpoints lie beside it.

A run goes ``todo -> running (owner, attempt, lease) -> done | failed(kind)``. Result and state
change in one transaction, on the condition that the writer still holds the claim; done rows never
change (triggers in the schema see to it). Several processes may work on one store.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from paretune.atomic_write import remove_stale_parts
from paretune.errors import StaleClaimError
from paretune.store.blobs import blob_path, read_blob, write_blob
from paretune.store.canonical_json import to_canonical_json
from paretune.store.journal import EndedRun, append_ended_runs, read_ended_runs
from paretune.store.prediction_codec import decode_predictions
from paretune.store.record import Predictions, Record
from paretune.store.sqlite import claims, dropped_weights, queries, writes
from paretune.store.sqlite.checksums import write_checksums
from paretune.store.sqlite.database import transaction
from paretune.store.sqlite.open_database import OpenDatabase, open_database
from paretune.store.sqlite.set_aside import set_aside_damaged_rows
from paretune.store.sqlite.verify import find_problems
from paretune.store.status import Claim, RunStatus, StudyEntry
from paretune.store.storage import Matches, MayStart
from paretune.study import Run

_HELD = "WHERE run_id = ? AND state = 'running' AND owner = ? AND attempt = ?"


class Store:
    """One folder with the studies that ran in it: SQLite's :class:`~paretune.store.Storage`.

    Use :meth:`open`; a store belongs to one thread. What the methods of ``Storage`` promise is said
    there; docstrings here say what is the store's own.
    """

    def __init__(self, folder: Path, database: OpenDatabase) -> None:
        self.folder = folder
        self._database = database
        self._db = database.connection
        self._db.row_factory = sqlite3.Row
        self._parsed_runs: dict[tuple[str, str], tuple[str, Run]] = {}
        self._checked_rows: set[str] = set()

    @classmethod
    def open(cls, folder: Path, create: bool = False) -> Self:
        """Open the store in ``folder``; with ``create``, make what is missing.

        Where the folder cannot be written, the store is opened for reading.

        Raises:
            StoreError: there is none, it is damaged, busy, another program's, or not of a version
                that this paretune reads.
        """
        database = open_database(folder, create=create)
        try:
            store = cls(folder, database)
            if create:
                store._recover()
        except BaseException:  # nothing stays open
            database.close()
            raise
        return store

    @contextmanager
    def reopen(self) -> Iterator[Self]:
        """Another connection to the same folder, for another thread."""
        with type(self).open(self.folder) as store:
            yield store

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

    # Studies and their runs

    def save_study(
        self, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
    ) -> None:
        """Keep a study file: its text, and the canonical form that its hash belongs to."""
        with self._write() as db:
            writes.put_study(db, study_hash, name, text, canonical)

    def list_studies(self) -> list[StudyEntry]:
        """All versions of all study files that ran here, oldest first."""
        with self._read() as db:
            return queries.load_studies(db, self._file)

    def add_runs(self, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
        """Add runs to a study; return how many are new.

        A run that the study has already is kept with the paths that it is given now.
        """
        with self._write() as db:
            return writes.put_runs(db, study_hash, runs)

    def leave_out(self, study_hash: str, possible_run_ids: Collection[str]) -> int:
        """Leave out the runs of a study that it would no longer ask for; return their number.

        They were made with data, a model or code that have changed since. They are never claimed
        and not among the study's records, and come back when they are possible again.
        """
        with self._write() as db:
            return writes.leave_out(db, study_hash, possible_run_ids)

    # Claims

    def claim(
        self,
        owner: str,
        study_hash: str,
        stages: tuple[str, ...] | None = None,
        lease_seconds: float = 60.0,
        may_start: MayStart | None = None,
    ) -> Claim | None:
        """Claim the first claimable run of the study, in its order; None where there is none."""
        claimant = claims.Claimant(owner, study_hash, lease_seconds)
        with self._write() as db:
            return claims.claim_first(db, claimant, self._parse_run, stages, may_start)

    def claim_matching(
        self,
        owner: str,
        study_hash: str,
        matches: Matches,
        *,
        limit: int,
        workers: int = 1,
        lease_seconds: float = 60.0,
    ) -> list[Claim]:
        """Claim up to ``limit`` claimable runs that match, in the order of the study."""
        claimant = claims.Claimant(owner, study_hash, lease_seconds)
        with self._write() as db:
            return claims.claim_matching(db, claimant, self._parse_run, matches, limit, workers)

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Prolong the lease and, where given, keep the progress."""
        text = None if progress is None else to_canonical_json(dict(progress), "progress")
        self._change(
            claim,
            "lease_until = ?, progress = coalesce(?, progress)",
            (time.time() + claim.lease_seconds, text),
        )

    def finish(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, bytes],
    ) -> None:
        """End the run as done: blobs first, then result and state in one transaction."""
        if shared := sorted(set(result) & set(blobs)):
            raise ValueError(f"result and blobs both name {', '.join(shared)}")
        to_canonical_json(dict(result), "result")
        measured_json = to_canonical_json(dict(measured), "measured")
        hashes = {name: write_blob(self._blobs, content) for name, content in blobs.items()}
        self._change(
            claim,
            "state = 'done', owner = NULL, lease_until = NULL, ended = ?, result = ?, measured = ?",
            (time.time(), to_canonical_json({**result, **hashes}, "result"), measured_json),
            then=lambda db: self._restore_dropped(db, claim.run_id, blobs, hashes),
        )
        self._end(claim)

    def fail(self, claim: Claim, kind: str, message: str, measured: Mapping[str, Any]) -> None:
        """End the run as failed; ``kind`` is ``error`` or ``out_of_memory``."""
        self._change(
            claim,
            "state = 'failed', owner = NULL, lease_until = NULL, ended = ?, fail_kind = ?, "
            "message = ?, measured = ?",
            (time.time(), kind, message, to_canonical_json(dict(measured), "measured")),
        )
        self._end(claim)

    def release(self, claim: Claim) -> bool:
        """Give the run back as todo, its checkpoint kept; False where the claim is stale."""
        try:
            self._change(claim, "state = 'todo', owner = NULL, lease_until = NULL", ())
        except StaleClaimError:
            return False
        return True

    def retry(self, study_hash: str) -> int:
        """Make todo again, from the beginning, what failed with an error; return how many."""
        with self._write() as db:
            return writes.retry_failed_runs(db, study_hash)

    # Statuses and records

    def load_statuses(self, study_hash: str) -> list[RunStatus]:
        """The status of every run of the study, in order.

        Raises:
            StoreError: a run changed since it was written.
        """
        with self._read() as db:
            queries.check_new_rows(db, study_hash, self._checked_rows, self._file)
            return queries.load_run_statuses(db, study_hash, self._parse_run)

    def load_records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """The records of ended runs, in the order in which the study asked for them.

        Raises:
            StoreError: a record changed since it was written, or a blob of predictions is missing
                or damaged.
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

    # Settings, blobs, checkpoints

    def get_setting(self, key: str) -> str | None:
        """A value kept with the store, or None.

        Raises:
            StoreError: it changed since it was written.
        """
        with self._read() as db:
            return queries.load_settings(db, self._file, key).get(key)

    def get_settings(self, prefix: str) -> dict[str, str]:
        """The values of all keys that begin with ``prefix``, by the rest of the key."""
        with self._read() as db:
            settings = queries.load_settings(db, self._file)
        return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}

    def set_setting(self, key: str, value: str) -> None:
        """Keep a value with the store."""
        self.set_settings({key: value})

    def set_settings(self, values: Mapping[str, str]) -> None:
        """Keep several values with the store, all or none."""
        with self._write() as db:
            for key, value in values.items():
                writes.put_setting(db, key, value)

    def set_default_setting(self, key: str, value: str) -> str:
        """Keep a value unless there is one; return the one that is kept (the first writer's)."""
        with self._write() as db:
            writes.put_setting(db, key, value, if_absent=True)
            return queries.load_settings(db, self._file, key)[key]

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content, its hash verified.

        Raises:
            StoreError: missing or damaged.
        """
        return read_blob(self._blobs, sha256)

    def checkpoint_path(self, run_id: str) -> Path:
        """Where the run's checkpoint lies while it is running."""
        return self.folder / "checkpoints" / f"{run_id}.safetensors"

    # Trained weights within a budget

    def sum_weight_bytes(self, study_hash: str) -> int:
        """Bytes of the trained weights of a study that are kept here."""
        with self._read() as db:
            return dropped_weights.sum_weight_bytes(db, study_hash)

    def list_dropped_runs(self) -> set[str]:
        """Ids of the runs whose trained weights were dropped (:meth:`drop_weights`)."""
        with self._read() as db:
            return dropped_weights.list_dropped_runs(db)

    def drop_weights(self, study_hash: str, run_ids: Sequence[str]) -> list[str]:
        """Drop the trained weights of runs; the ids of those that lost them.

        Weights of runs that a study of another name asks for too stay.
        """
        with self._read() as db:
            droppable = dropped_weights.find_droppable(db, study_hash, run_ids)
        self.set_settings(
            {f"{dropped_weights.DROPPED_PREFIX}{run}": sha256 for run, sha256 in droppable.items()}
        )
        with self._write() as db:
            dropped_weights.remove_dropped_blobs(db, self._blobs)
        return list(droppable)

    # Integrity

    def verify(self) -> list[str]:
        """Everything that is wrong with the store, one sentence each; empty where all is well."""
        journal = read_ended_runs(self._journal)
        with self._read() as db:
            lost = queries.find_lost_runs(db, journal)
            return [*find_problems(db, self._blobs), *map(str, lost)]

    def set_aside(self) -> list[str]:
        """Move every damaged row into the table ``set_aside``, so that its run is executed again.

        Returns:
            One sentence for each row.
        """
        with self._write() as db:
            return set_aside_damaged_rows(db)

    def find_lost_runs(self, study_hash: str | None = None) -> list[EndedRun]:
        """Runs that had ended for a study (None: for any) and have not in the database.

        A damaged write-ahead log, or an older copy of the database, has taken them back.
        """
        journal = read_ended_runs(self._journal)  # first: a run may end meanwhile
        with self._read() as db:
            return queries.find_lost_runs(db, journal, study_hash)

    # Internals

    @property
    def _blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def _journal(self) -> Path:
        return self.folder / "done.jsonl"

    @property
    def _file(self) -> str:
        return str(self.folder / "study.db")

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self.folder / "study.db", "IMMEDIATE")

    def _read(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self.folder / "study.db", "DEFERRED")

    def _change(
        self,
        claim: Claim,
        assignments: str,
        values: tuple[Any, ...],
        then: Callable[[sqlite3.Connection], object] = lambda db: None,
    ) -> None:
        """Change the row of a claimed run, where the claim still holds."""
        with self._write() as db:
            changed = db.execute(
                f"UPDATE runs SET {assignments} {_HELD}",  # noqa: S608 (constants of this file)
                (*values, claim.run_id, claim.owner, claim.attempt),
            ).rowcount
            if changed:
                write_checksums(db, "runs", "run_id = ? AND ended IS NOT NULL", (claim.run_id,))
                then(db)
        if not changed:
            raise StaleClaimError(
                "the run passed to another worker; this worker's result is not written.",
                where=f"run {claim.run_id}, attempt {claim.attempt}",
            )

    def _end(self, claim: Claim) -> None:
        """After the commit: note that the run has ended, and delete its checkpoint."""
        with self._read() as db:
            runs = queries.load_ended_runs(db, claim.run_id)
        append_ended_runs(self._journal, runs)
        self.checkpoint_path(claim.run_id).unlink(missing_ok=True)

    def _restore_dropped(
        self,
        db: sqlite3.Connection,
        run_id: str,
        blobs: Mapping[str, bytes],
        hashes: Mapping[str, str],
    ) -> None:
        """Write blobs of a run again that were there before its commit and were dropped since."""
        dropped_weights.clear_dropped_mark(db, run_id)
        for name, content in blobs.items():
            if not blob_path(self._blobs, hashes[name]).exists():
                write_blob(self._blobs, content)

    def _recover(self) -> None:
        """Tidy what killed processes left: parts, checkpoints of ended runs, a journal too
        short.
        """
        for folder in (self.folder, self._blobs / "part", self.folder / "checkpoints"):
            remove_stale_parts(folder)
        checkpoints = {p.stem: p for p in (self.folder / "checkpoints").glob("*.safetensors")}
        journal = {(r.study_hash, r.run_id, r.failed) for r in read_ended_runs(self._journal)}
        with self._read() as db:
            ended = queries.load_ended_runs(db)
            dropped = dropped_weights.list_dropped_runs(db)
        if dropped:
            with self._write() as db:
                dropped_weights.remove_dropped_blobs(db, self._blobs)
        for run in ended:
            if run.run_id in checkpoints:
                checkpoints[run.run_id].unlink(missing_ok=True)
        missing = [r for r in ended if (r.study_hash, r.run_id, r.failed) not in journal]
        append_ended_runs(self._journal, missing)

    def _predictions(self, record: Record) -> dict[str, Predictions]:
        sha256 = record.result.get("predictions")
        if sha256 is None:
            return {}
        return decode_predictions(self.read_blob(sha256), f"run {record.run_id}")

    def _parse_run(self, study_hash: str, run_id: str, text: str) -> Run:
        known = self._parsed_runs.get((study_hash, run_id))  # progress asks twice a second
        if known is None or known[0] != text:
            known = self._parsed_runs[(study_hash, run_id)] = (text, Run.model_validate_json(text))
        return known[1]
