"""The store of studies: ``study.db`` is the truth, ``blobs`` and ``checkpoints`` lie beside it.

A run goes ``todo -> running (owner, attempt, lease) -> done | failed(kind)``. Result and state
change in one transaction, on the condition that the writer still holds the claim; done rows never
change (triggers in the schema see to it). Several processes may work on one store.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paretune.errors import StaleClaimError
from paretune.store.blobs import write_blob
from paretune.store.canonical_json import to_canonical_json
from paretune.store.identity import known_as
from paretune.store.journal import append_ended_runs
from paretune.store.open_folder import OpenFolder
from paretune.store.prediction_codec import decode_predictions
from paretune.store.record import Predictions, Record
from paretune.store.sqlite.checksums import write_checksums
from paretune.store.sqlite.claims import AdmissionCheck, claim_first, claim_matching
from paretune.store.sqlite.open_database import OpenDatabase
from paretune.store.sqlite.queries import (
    check_new_rows,
    load_ended_runs,
    load_records,
    load_run_statuses,
    load_studies,
)
from paretune.store.sqlite.writes import adopt, leave_out, put_runs, put_study
from paretune.store.status import Claim, RunStatus, StudyEntry
from paretune.study import Run, Study

_HELD = "WHERE run_id = ? AND state = 'running' AND owner = ? AND attempt = ?"


class Store(OpenFolder):
    """One folder with the studies that ran in it. Use :meth:`open`; one thread, one Store."""

    def __init__(self, folder: Path, opened: OpenDatabase) -> None:
        super().__init__(folder, opened)
        self._runs: dict[tuple[str, str], tuple[str, Run]] = {}
        self._checked: set[str] = set()

    # What is asked for

    def save_study(
        self, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
    ) -> None:
        """Keep a study file: its text, and the canonical form that its hash belongs to."""
        with self._write() as db:
            put_study(db, study_hash, name, text, canonical)

    def list_studies(self) -> list[StudyEntry]:
        """All versions of all study files that ran here, oldest first."""
        with self._read() as db:
            return load_studies(db, self._file)

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
            adopt(db, study, self._file)

    def add_runs(self, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
        """Add runs to a study in the given order, behind those it has; return how many are new.

        A run that another study already has is shared, done or not: it is one run. One that the
        study has already is kept with the paths that it is given now.
        """
        with self._write() as db:
            return put_runs(db, study_hash, runs)

    def leave_out(self, study_hash: str, askable: Collection[str]) -> int:
        """Leave out the runs of a study that it would no longer ask for; how many there are.

        They were made with data, a model or code that have changed since. They are never claimed
        and not among the study's records, and they are back when they are askable again.
        """
        with self._write() as db:
            return leave_out(db, study_hash, askable)

    # Claims

    def claim(
        self,
        owner: str,
        study_hash: str,
        stages: tuple[str, ...] | None = None,
        lease_seconds: float = 60.0,
        admits: AdmissionCheck | None = None,
    ) -> Claim | None:
        """Take the first free run of the study, or None where there is none.

        Free is a run that is todo, or that was abandoned: its lease ran out, or its owner was a
        process of this machine that is provably dead. A run of stage ``cost`` is measured
        alone: it is free only while nothing else runs in this store, and keeps all others
        waiting.

        Args:
            owner: see :func:`paretune.store.owner.current_owner`.
            study_hash: whose runs.
            stages: only runs of these stages; None for all.
            lease_seconds: how long the claim holds without :meth:`renew`.
            admits: asked of a run and of those that each worker executes now, in any study of the
                store: whether it may start beside them.
        """
        with self._write() as db:
            return claim_first(db, owner, study_hash, stages, lease_seconds, self._run, admits)

    def claim_matching(
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
            owner: see :func:`paretune.store.owner.current_owner`.
            study_hash: whose runs.
            alike: of a run and its id: whether it is one of them.
            most: at most so many.
            workers: who may want their part of them; no more are taken than leave each a part.
            lease_seconds: how long the claims hold without :meth:`renew`.
        """
        with self._write() as db:
            return claim_matching(
                db, owner, study_hash, alike, most, workers, lease_seconds, self._run
            )

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Prolong the lease and, where given, write the progress.

        Raises:
            StaleClaimError: the run has passed to another worker.
        """
        said = None if progress is None else to_canonical_json(dict(progress), "progress")
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
        to_canonical_json(dict(result), "result")
        facts = to_canonical_json(dict(measured), "measured")
        hashes = {name: write_blob(self._blobs, content) for name, content in blobs.items()}
        self._change(
            claim,
            "state = 'done', owner = NULL, lease_until = NULL, ended = ?, result = ?, measured = ?",
            (time.time(), to_canonical_json({**result, **hashes}, "result"), facts),
            then=lambda db: self._hold(db, claim.run_id, blobs, hashes),
        )
        self._note_ended(claim)
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
            (time.time(), kind, message, to_canonical_json(dict(measured), "measured")),
        )
        self._note_ended(claim)
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
                "UPDATE runs SET state = 'todo', checksum = NULL, fail_kind = NULL, "
                "message = NULL, measured = NULL, ended = NULL, progress = NULL "
                "WHERE fail_kind = 'error' AND "
                "run_id IN (SELECT run_id FROM study_runs WHERE study_hash = ?)",
                (study_hash,),
            ).rowcount

    # What is there

    def load_records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """The ended runs of a study, in the order in which they were asked for.

        Raises:
            StoreError: a record changed since it was written, or a blob of predictions is missing
                or damaged.
        """
        with self._read() as db:
            bare = load_records(db, study_hash, self._run, self._file)
        if not predictions:
            return bare
        return [replace(record, predictions=self._predictions(record)) for record in bare]

    def load_statuses(self, study_hash: str) -> list[RunStatus]:
        """How each run of the study stands, in order.

        Raises:
            StoreError: a run changed since it was written.
        """
        with self._read() as db:
            check_new_rows(db, study_hash, self._checked, self._file)
            return load_run_statuses(db, study_hash, self._run)

    # Behind the doors

    def _change(
        self,
        claim: Claim,
        assignments: str,
        values: tuple[Any, ...],
        then: Callable[[sqlite3.Connection], object] = lambda db: None,
    ) -> None:
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

    def _note_ended(self, claim: Claim) -> None:
        with self._read() as db:
            runs = load_ended_runs(db, claim.run_id)
        append_ended_runs(self._done, runs)

    def _predictions(self, record: Record) -> dict[str, Predictions]:
        sha256 = record.result.get("predictions")
        if sha256 is None:
            return {}
        return decode_predictions(self.read_blob(sha256), f"run {record.run_id}")

    def _run(self, study_hash: str, run_id: str, text: str) -> Run:
        known = self._runs.get((study_hash, run_id))  # progress asks twice a second
        if known is None or known[0] != text:
            known = self._runs[(study_hash, run_id)] = (text, Run.model_validate_json(text))
        return known[1]
