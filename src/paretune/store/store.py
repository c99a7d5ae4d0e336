"""The store of studies: one SQLite file is the truth, blobs and checkpoints lie beside it.

A run goes ``todo -> running (owner, attempt, lease) -> done | failed(kind)``. Result and state
change in one transaction, on the condition that the writer still holds the claim; done rows never
change (triggers in the schema see to it). Several processes may work on one store.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from paretune.atomic_write import remove_stale_parts
from paretune.errors import StaleClaimError, StoreError
from paretune.store.blobs import blob_path, write_blob
from paretune.store.canonical_json import check_result, to_canonical_json
from paretune.store.reader import StoreReader
from paretune.store.sqlite import claims, dropped_weights, queries, writes
from paretune.store.sqlite.database import transaction, without_sync
from paretune.store.sqlite.merge import (
    MergePlan,
    describe_runs,
    list_blobs,
    load_content,
    plan_merge,
    put_content,
)
from paretune.store.sqlite.open_database import open_database
from paretune.store.sqlite.verify import find_blob_problems
from paretune.store.status import Claim
from paretune.store.storage import Matches, MayStart
from paretune.study import Run

_ENDED = "owner = NULL, lease_until = NULL, ended = ?"


class Store(StoreReader):
    """One folder with the studies that ran in it: SQLite's :class:`~paretune.store.Storage`.

    Use :meth:`open`; a store belongs to one thread. What the methods of ``Storage`` promise is said
    there; docstrings here say what is the store's own.
    """

    @classmethod
    def open(cls, folder: Path, create: bool = False) -> Self:
        """Open the store in ``folder``; with ``create``, make what is missing.

        Where the folder cannot be written, the store is opened for reading.

        Raises:
            StoreError: there is none, it is damaged, busy, another program's, or not of a version
                that this paretune reads.
        """
        store = cls(folder, open_database(folder, create=create))
        try:
            if create:
                store._recover()
        except BaseException:  # nothing stays open
            store.close()
            raise
        return store

    @contextmanager
    def reopen(self) -> Iterator[Self]:
        """Another connection to the same folder, for another thread."""
        with type(self).open(self.folder) as store:
            yield store

    # Studies and their runs

    def save_study(
        self, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
    ) -> None:
        """Keep a study file: its text, and the canonical form that its hash belongs to."""
        with self._write() as db:
            writes.put_study(db, study_hash, name, text, canonical)

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
        claimant = claims.Claimant(owner, study_hash, lease_seconds, self._checkpoints)
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
        claimant = claims.Claimant(owner, study_hash, lease_seconds, self._checkpoints)
        with self._write() as db:
            return claims.claim_matching(db, claimant, self._parse_run, matches, limit, workers)

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Prolong the lease and, where given, keep the progress.

        It waits for no disk: a power cut may take it back, and the lease ends sooner.
        """
        text = None if progress is None else to_canonical_json(dict(progress), "progress")
        values = (time.time() + claim.lease_seconds, text)
        with without_sync(self._db), self._write() as db:
            writes.change_claimed_run(
                db, claim, "lease_until = ?, progress = coalesce(?, progress)", values
            )

    def finish(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, bytes],
    ) -> None:
        """End the run as done: blobs first, then result and state in one transaction."""
        check_result(result, measured, blobs)
        hashes = {name: write_blob(self._blobs, content) for name, content in blobs.items()}
        contents = {hashes[name]: content for name, content in blobs.items()}
        texts = (
            to_canonical_json({**result, **hashes}, "result"),
            to_canonical_json(dict(measured), "measured"),
        )
        with self._write() as db:
            writes.change_claimed_run(
                db,
                claim,
                f"state = 'done', {_ENDED}, result = ?, measured = ?",
                (time.time(), *texts),
            )
            dropped_weights.clear_dropped_mark(db, claim.run_id)
            for sha256 in hashes.values():
                if not blob_path(self._blobs, sha256).exists():  # dropped since it was there
                    write_blob(self._blobs, contents[sha256])
        self.checkpoint_path(claim.run_id).unlink(missing_ok=True)

    def fail(self, claim: Claim, kind: str, message: str, measured: Mapping[str, Any]) -> None:
        """End the run as failed; ``kind`` is ``error`` or ``out_of_memory``."""
        values = time.time(), kind, message, to_canonical_json(dict(measured), "measured")
        with self._write() as db:
            writes.change_claimed_run(
                db,
                claim,
                f"state = 'failed', {_ENDED}, fail_kind = ?, message = ?, measured = ?",
                values,
            )
        self.checkpoint_path(claim.run_id).unlink(missing_ok=True)

    def release(self, claim: Claim) -> bool:
        """Give the run back as todo, its checkpoint kept; False where the claim is stale."""
        try:
            with self._write() as db:
                writes.change_claimed_run(
                    db, claim, "state = 'todo', owner = NULL, lease_until = NULL", ()
                )
        except StaleClaimError:
            return False
        return True

    def retry(self, study_hash: str) -> int:
        """Make todo again, from the beginning, what did not come to a result that can be used.

        That is what failed, what did not fit in memory, and what changed since it was written or
        has a blob that is missing or damaged. Return how many.
        """
        with self._read() as db:
            unusable = {run_id for run_id, _ in find_blob_problems(db, self._blobs, study_hash)}
        with self._write() as db:
            return writes.reset_unusable_runs(db, study_hash, unusable)

    def merge(self, other: StoreReader, *, keep_own: bool = False) -> MergePlan:
        """Take the ended runs of another store, with their studies, blobs and settings.

        Args:
            other: another store; it stays as it is.
            keep_own: where both have done a run with different results, the one here stays.

        Raises:
            StoreError: the other store is damaged; or runs were done in both with different
                results, and ``keep_own`` is not set. Nothing was changed.
        """
        with other._read() as db:
            content = load_content(db, other._file)
            dropped = dropped_weights.list_dropped_runs(db)
        with self._read() as db:
            plan = plan_merge(db, content)
        if plan.contradictory and not keep_own:
            names = describe_runs(content, plan.contradictory[:3])
            more = len(plan.contradictory) - len(names)
            raise StoreError(
                f"{'; '.join(names)}{f' and {more} more' if more else ''}: done in both stores, "
                "with different results.",
                where=str(other.folder),
                remedy="Results of one run may differ by the processor. --keep-own keeps those "
                f"of {self.folder}.",
            )
        for sha256 in sorted(list_blobs(content, plan.added, dropped)):
            write_blob(self._blobs, other.read_blob(sha256))
        with self._write() as db:
            plan = plan_merge(db, content)  # runs may have ended here meanwhile
            put_content(db, content, plan)
        return plan

    # Settings, blobs, checkpoints

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
            return str(queries.load_setting(db, self._file, key))

    # Trained weights within a budget

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

    # Internals

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with transaction(self._db, self.folder / "study.db", "IMMEDIATE") as db:
            yield db

    def _recover(self) -> None:
        """Tidy what killed processes left: parts, checkpoints of ended runs, dropped blobs."""
        for folder in (self.folder, self._blobs / "part", self.folder / "checkpoints"):
            remove_stale_parts(folder)
        with self._read() as db:
            ended = {
                row[0] for row in db.execute("SELECT run_id FROM runs WHERE ended IS NOT NULL")
            }
            dropped = dropped_weights.list_dropped_runs(db)
        if dropped:
            with self._write() as db:
                dropped_weights.remove_dropped_blobs(db, self._blobs)
        for path in (self.folder / "checkpoints").glob("*.safetensors"):
            if path.stem in ended:
                path.unlink(missing_ok=True)
