"""The store of studies: ``study.db`` is the truth, ``blobs`` and ``checkpoints`` lie beside it.

A run goes ``todo -> running (owner, attempt, lease) -> done | failed(kind)``. Result and state
change in one transaction, on the condition that the writer still holds the claim; done rows never
change (triggers in the schema see to it). Several processes may work on one store.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from paretune.errors import StaleClaimError, StoreError
from paretune.store.blobs import blob_path, read_blob, sweep_parts, write_blob
from paretune.store.database import connect, explained, transaction
from paretune.store.identity import known_as
from paretune.store.plain import canonical_json
from paretune.store.predictions import decode_predictions
from paretune.store.queue import take_alike, take_first
from paretune.store.reading import ended_records, run_states, study_rows
from paretune.store.record import Predictions, Record
from paretune.store.rows import Claim, RunState, StudyRow
from paretune.store.schema import APPLICATION_ID, MIGRATIONS, bring_up_to_date
from paretune.store.verify import problems
from paretune.study import Run, Study

_HELD = "WHERE run_id = ? AND state = 'running' AND owner = ? AND attempt = ?"


class Store:
    """One folder with the studies that ran in it. Use :meth:`open`; one thread, one Store."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = connection
        self._db.row_factory = sqlite3.Row
        self._runs: dict[tuple[str, str], tuple[str, Run]] = {}

    @classmethod
    def open(cls, folder: Path, create: bool = False) -> Store:
        """Open the store in ``folder``; with ``create``, make what is missing.

        Raises:
            StoreError: there is none, it is damaged, busy, another program's, or newer than
                this version of paretune.
        """
        path = folder / "study.db"
        try:
            if create:
                for part in (folder, folder / "blobs", folder / "checkpoints"):
                    part.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                raise StoreError(
                    "no store of studies is here.",
                    where=str(folder),
                    remedy="paretune run STUDY.yaml creates one.",
                )
        except OSError as error:
            raise StoreError(
                f"the folder cannot be used ({error.strerror or error}).",
                where=str(folder),
                remedy="Choose another folder, or check its permissions.",
            ) from error
        connection = connect(path)
        try:
            with explained(path):
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                mark = connection.execute("PRAGMA application_id").fetchone()[0]
            if (version, mark) != (len(MIGRATIONS), APPLICATION_ID):
                with transaction(connection, path, "IMMEDIATE"):
                    bring_up_to_date(connection, str(path), create=create)
            store = cls(folder, connection)
            if create:
                store._sweep()
        except BaseException:
            connection.close()
            raise
        return store

    def close(self) -> None:
        """Close the connection; the store stays as it is."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What is asked for

    def save_study(
        self, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
    ) -> None:
        """Keep a study file: its text, and the canonical form that its hash belongs to."""
        with self._write() as db:
            db.execute(
                "INSERT INTO studies VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (study_hash) DO UPDATE SET text = excluded.text",
                (study_hash, name, text, canonical_json(dict(canonical), "study"), time.time()),
            )

    def studies(self) -> list[StudyRow]:
        """All versions of all study files that ran here, oldest first."""
        with self._read() as db:
            return study_rows(db)

    def known_as(self, study: Study) -> str:
        """The hash under which this store has the study's runs.

        That is the study's own, or that of the same study kept with absolute paths, as older
        versions did.
        """
        with self._read() as db:
            return known_as(db, study)

    def adopt(self, study: Study) -> None:
        """Give the study the runs that it has here under an older hash; those stay there too."""
        with self._write() as db:
            old = known_as(db, study)
            if old == study.study_hash:
                return
            db.execute(
                "INSERT INTO studies SELECT ?, name, text, ?, created FROM studies "
                "WHERE study_hash = ?",
                (study.study_hash, canonical_json(study.canonical(), "study"), old),
            )
            db.execute(
                "INSERT INTO study_runs SELECT ?, run_id, position, run FROM study_runs "
                "WHERE study_hash = ?",
                (study.study_hash, old),
            )

    def add_runs(self, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
        """Add runs to a study in the given order, behind those it has; return how many are new.

        A run that another study already has is shared, done or not: it is one run. One that the
        study has already is kept with the paths that it is given now.
        """
        new = 0
        with self._write() as db:
            position = db.execute(
                "SELECT coalesce(max(position) + 1, 0) FROM study_runs WHERE study_hash = ?",
                (study_hash,),
            ).fetchone()[0]
            for run_id, run in runs:
                db.execute(
                    "INSERT OR IGNORE INTO runs (run_id, stage, created) VALUES (?, ?, ?)",
                    (run_id, run.stage, time.time()),
                )
                text = canonical_json(run.model_dump(), "run")
                new += db.execute(
                    "INSERT INTO study_runs VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (study_hash, run_id) DO NOTHING",
                    (study_hash, run_id, position + new, text),
                ).rowcount
                db.execute(
                    "UPDATE study_runs SET run = ? WHERE study_hash = ? AND run_id = ? "
                    "AND run <> ?",
                    (text, study_hash, run_id, text),
                )
        return new

    # Claims

    def claim(
        self,
        owner: str,
        study_hash: str,
        stages: tuple[str, ...] | None = None,
        lease_seconds: float = 60.0,
    ) -> Claim | None:
        """Take the first free run of the study, or None where there is none.

        Free is a run that is todo, or that was abandoned: its lease ran out, or its owner was a
        process of this machine that is provably dead. A run of stage ``cost`` is measured
        alone: it is free only while nothing else runs in this store, and keeps all others
        waiting.

        Args:
            owner: see :func:`paretune.store.owner.this_owner`.
            study_hash: whose runs.
            stages: only runs of these stages; None for all.
            lease_seconds: how long the claim holds without :meth:`renew`.
        """
        with self._write() as db:
            return take_first(db, owner, study_hash, stages, lease_seconds, self._run)

    def claim_alike(
        self,
        owner: str,
        study_hash: str,
        alike: Callable[[str, Run], bool],
        *,
        most: int,
        workers: int = 1,
        lease_seconds: float = 60.0,
    ) -> list[Claim]:
        """Take free runs that go together, in the order of the study.

        Args:
            owner: see :func:`paretune.store.owner.this_owner`.
            study_hash: whose runs.
            alike: of a run and its id: whether it is one of them.
            most: at most so many.
            workers: who may want their part of them; no more are taken than leave each a part.
            lease_seconds: how long the claims hold without :meth:`renew`.
        """
        with self._write() as db:
            return take_alike(db, owner, study_hash, alike, most, workers, lease_seconds, self._run)

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Prolong the lease and, where given, write the progress.

        Raises:
            StaleClaimError: the run has passed to another worker.
        """
        said = None if progress is None else canonical_json(dict(progress), "progress")
        self._change(
            claim,
            "lease_until = ?, progress = coalesce(?, progress)",
            (time.time() + claim.lease_seconds, said),
        )

    def finish(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, bytes],
    ) -> None:
        """Write the result: blobs first, then result and state in one transaction.

        ``result[name]`` becomes the sha256 of ``blobs[name]``. The checkpoint is deleted.

        Raises:
            StaleClaimError: the run has passed to another worker; nothing was changed.
            ValueError: a NaN or a value that is not plain.
        """
        if taken := sorted(set(result) & set(blobs)):
            raise ValueError(f"result and blobs both name {', '.join(taken)}")
        canonical_json(dict(result), "result")
        facts = canonical_json(dict(measured), "measured")
        hashes = {name: write_blob(self._blobs, content) for name, content in blobs.items()}
        self._change(
            claim,
            "state = 'done', owner = NULL, lease_until = NULL, ended = ?, result = ?, measured = ?",
            (time.time(), canonical_json({**result, **hashes}, "result"), facts),
        )
        self.checkpoint(claim.run_id).unlink(missing_ok=True)

    def fail(self, claim: Claim, kind: str, message: str, measured: Mapping[str, Any]) -> None:
        """End the run as failed; ``kind`` is ``error`` or ``out_of_memory``.

        Raises:
            StaleClaimError: the run has passed to another worker; nothing was changed.
        """
        self._change(
            claim,
            "state = 'failed', owner = NULL, lease_until = NULL, ended = ?, fail_kind = ?, "
            "message = ?, measured = ?",
            (time.time(), kind, message, canonical_json(dict(measured), "measured")),
        )
        self.checkpoint(claim.run_id).unlink(missing_ok=True)

    def release(self, claim: Claim) -> bool:
        """Give the run back as todo (its checkpoint stays); False where it was lost already."""
        try:
            self._change(claim, "state = 'todo', owner = NULL, lease_until = NULL", ())
        except StaleClaimError:
            return False
        return True

    def retry(self, study_hash: str) -> int:
        """Make todo again, from the beginning, what failed with an error; return how many."""
        with self._write() as db:
            return db.execute(
                "UPDATE runs SET state = 'todo', fail_kind = NULL, message = NULL, "
                "measured = NULL, ended = NULL, progress = NULL WHERE fail_kind = 'error' AND "
                "run_id IN (SELECT run_id FROM study_runs WHERE study_hash = ?)",
                (study_hash,),
            ).rowcount

    # What is there

    def records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """The ended runs of a study, in the order in which they were asked for.

        Raises:
            StoreError: a blob of predictions is missing or damaged.
        """
        with self._read() as db:
            bare = ended_records(db, study_hash, self._run)
        if not predictions:
            return bare
        return [replace(record, predictions=self._predictions(record)) for record in bare]

    def states(self, study_hash: str) -> list[RunState]:
        """How each run of the study stands, in order."""
        with self._read() as db:
            return run_states(db, study_hash, self._run)

    def settings(self, prefix: str) -> dict[str, str]:
        """All settings whose names begin so, by the rest of their names."""
        with self._read() as db:
            rows = db.execute("SELECT key, value FROM settings").fetchall()
        found = {str(row["key"]): str(row["value"]) for row in rows}
        return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}

    def setting(self, key: str) -> str | None:
        """A value kept with the store, or None."""
        with self._read() as db:
            row = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row["value"])

    def set_setting(self, key: str, value: str) -> None:
        """Keep a value with the store."""
        with self._write() as db:
            db.execute(
                "INSERT INTO settings VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )

    def setting_once(self, key: str, value: str) -> str:
        """Keep a value unless there is one; return the one that is kept (the first writer's)."""
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (key, value))
            row = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
            return str(row["value"])

    def blob(self, sha256: str) -> bytes:
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
        with self._read() as db:
            return problems(db, self._blobs)

    # Behind the doors

    @property
    def _blobs(self) -> Path:
        return self.folder / "blobs"

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self.folder / "study.db", "IMMEDIATE")

    def _read(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self.folder / "study.db", "DEFERRED")

    def _change(self, claim: Claim, assignments: str, values: tuple[Any, ...]) -> None:
        with self._write() as db:
            changed = db.execute(
                f"UPDATE runs SET {assignments} {_HELD}",  # noqa: S608 (constants of this file)
                (*values, claim.run_id, claim.owner, claim.attempt),
            ).rowcount
        if not changed:
            raise StaleClaimError(
                "the run passed to another worker; this worker's result is not written.",
                where=f"run {claim.run_id}, attempt {claim.attempt}",
            )

    def _predictions(self, record: Record) -> dict[str, Predictions]:
        sha256 = record.result.get("predictions")
        if sha256 is None:
            return {}
        return decode_predictions(self.blob(sha256), f"run {record.run_id}")

    def _run(self, study_hash: str, run_id: str, text: str) -> Run:
        known = self._runs.get((study_hash, run_id))  # progress asks twice a second
        if known is None or known[0] != text:
            known = self._runs[(study_hash, run_id)] = (text, Run.model_validate_json(text))
        return known[1]

    def _sweep(self) -> None:
        """Remove what a killed process left between two steps: parts, checkpoints of ended runs."""
        sweep_parts(self._blobs)
        waiting = {path.stem: path for path in (self.folder / "checkpoints").glob("*.safetensors")}
        if waiting:
            with self._read() as db:
                ended = db.execute("SELECT run_id FROM runs WHERE ended IS NOT NULL").fetchall()
            for row in ended:
                if row["run_id"] in waiting:
                    waiting[row["run_id"]].unlink(missing_ok=True)
