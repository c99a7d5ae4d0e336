"""The store of studies: one SQLite file is the truth, blobs and checkpoints lie beside it.

A run goes ``todo -> running (owner, attempt, lease) -> done | failed(kind)``. Result and state
change in one transaction, on the condition that the writer still holds the claim; done rows never
change (triggers see to it). Whatever is read was first compared with what was written. Several
processes may work on one store.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from paretune.errors import StaleClaimError, StoreError, spell_option
from paretune.files import remove_stale_parts
from paretune.store import blobs as blob_files, rows as table_rows, tables
from paretune.store.blobs import DROPPED_PREFIX, STORED_WEIGHTS
from paretune.store.database import open_database, transaction, without_sync
from paretune.store.encoding import decode_predictions, to_canonical_json
from paretune.store.merge import MergePlan, StoreContent, plan_merge, put_content
from paretune.store.record import Claim, Predictions, Record, RunStatus, StudyEntry
from paretune.study import Run, Study

MayStart = Callable[[str, Sequence[str]], bool]
"""``(run_id, ids of runs) -> bool``: whether a run may start beside those."""
_ENDED = "owner = NULL, lease_until = NULL, ended = ?"
_STUDY_RUN = "study_hash = ? AND run_id = ?"


class Store:
    """One folder with the studies that ran in it. Use :meth:`open`.

    A store belongs to one thread; another one opens the folder again.

    - Every method is one transaction: other processes see all of it or nothing.
    - A run is claimed by one owner at a time. A claim ends when the run is finished, failed or
      released, when its lease runs out without :meth:`renew`, or when its owner is provably dead.
    - Only the holder of the latest claim of a run writes to it: ``attempt`` counts the claims, and
      an older one raises :class:`~paretune.errors.StaleClaimError` and changes nothing.
    - A run of stage ``cost`` is claimed only while nothing runs that would disturb it, and while it
      runs nothing is claimed that would (:func:`paretune.owner.place_of`).
    - Values come back as they were written, floats bit for bit. NaN, infinities and values that
      JSON does not have raise ``ValueError`` and change nothing.
    - Run ids are shared: a run that two studies ask for is one run.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = database
        self._db.row_factory = sqlite3.Row
        self._file, self._blobs = folder / "study.db", folder / "blobs"
        self._parsed_runs: dict[tuple[str, str], tuple[str, Run]] = {}
        self._ended: dict[tuple[str, str, str], RunStatus] = {}

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
            if not create:
                return store
            # Tidy what killed processes left: parts, checkpoints of ended runs, dropped blobs.
            checkpoints = folder / "checkpoints"
            for place in (folder, store._blobs / "part", checkpoints):
                remove_stale_parts(place)
            with store._read() as db:
                rows = db.execute("SELECT run_id FROM runs WHERE ended IS NOT NULL")
                ended = {row["run_id"] for row in rows}
                dropped = blob_files.list_dropped_runs(db)
            if dropped:
                with store._write() as db:
                    blob_files.remove_dropped_blobs(db, store._blobs)
            for path in checkpoints.glob("*.safetensors"):
                if path.stem in ended:
                    path.unlink(missing_ok=True)
        except BaseException:  # nothing stays open
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the connection; the store stays as it is."""
        self._db.close()

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
        """Keep a study file, in place of its earlier text where there is one."""
        with self._write() as db:
            table_rows.put_study(db, study_hash, name, text, canonical)

    def list_studies(self) -> list[StudyEntry]:
        """All versions of all study files that ran here, oldest first."""
        counts: dict[str, dict[str, int]] = {}
        with self._read() as db:
            studies = table_rows.load_study_rows(db, str(self._file))
            for row in db.execute(
                "SELECT study_hash, state, count(*) AS n FROM study_runs NOT INDEXED "
                "JOIN runs USING (run_id) "
                "WHERE NOT left_out GROUP BY study_hash, state ORDER BY state"
            ):
                counts.setdefault(row["study_hash"], {})[row["state"]] = row["n"]
        return [
            StudyEntry(key, row["name"], row["text"], row["created"], counts.get(key, {}))
            for key, row in ((row["study_hash"], row) for row in studies)
        ]

    def add_runs(self, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
        """Add runs to a study; return how many are new.

        A run that the study has already is kept with the paths that it is given now.
        """
        added, of_study = 0, (study_hash,)
        with self._write() as db:
            position = db.execute(
                "SELECT coalesce(max(position) + 1, 0) FROM study_runs WHERE study_hash = ?",
                of_study,
            ).fetchone()[0]
            rows = db.execute("SELECT run_id, run FROM study_runs WHERE study_hash = ?", of_study)
            stored = dict(rows.fetchall())
            for run_id, run in runs:
                text = to_canonical_json(run.model_dump(), "run")
                if stored.get(run_id) == text:
                    continue
                key = (study_hash, run_id)
                if run_id in stored:
                    db.execute(f"UPDATE study_runs SET run = ? WHERE {_STUDY_RUN}", (text, *key))  # noqa: S608
                else:
                    db.execute(
                        "INSERT OR IGNORE INTO runs (run_id, stage, created) VALUES (?, ?, ?)",
                        (run_id, run.stage, time.time()),
                    )
                    db.execute(
                        "INSERT INTO study_runs (study_hash, run_id, position, run) "
                        "VALUES (?, ?, ?, ?)",
                        (*key, position + added, text),
                    )
                    added += 1
                stored[run_id] = text
                tables.write_checksums(db, "study_runs", _STUDY_RUN, key)
        return added

    def leave_out(self, study_hash: str, possible_run_ids: Collection[str]) -> int:
        """Leave out the runs of a study that it would no longer ask for; return their number.

        They were made with data, a model or code that have changed since. They are never claimed
        and not among the study's records, and come back when they are possible again.
        """
        with self._write() as db:
            rows = db.execute(
                "SELECT run_id, left_out FROM study_runs WHERE study_hash = ?", (study_hash,)
            ).fetchall()
            for row in rows:
                left_out = int(row["run_id"] not in possible_run_ids)
                if row["left_out"] != left_out:
                    key = (study_hash, row["run_id"])
                    db.execute(
                        f"UPDATE study_runs SET left_out = ? WHERE {_STUDY_RUN}",  # noqa: S608
                        (left_out, *key),
                    )
                    tables.write_checksums(db, "study_runs", _STUDY_RUN, key)
        return sum(row["run_id"] not in possible_run_ids for row in rows)

    # Claims

    def claim(
        self,
        owner: str,
        study_hash: str,
        stages: tuple[str, ...] | None = None,
        lease_seconds: float = 60.0,
        may_start: MayStart | None = None,
    ) -> Claim | None:
        """Claim the first claimable run of the study, in its order, if there is one.

        Args:
            owner: see :func:`paretune.owner.current_owner`.
            stages: only runs of these stages; None for all.
            lease_seconds: how long the claim holds without :meth:`renew`.
            may_start: says whether a run may start beside those that are executed now on the
                owner's device, in any study of the store.
        """
        with self._write() as db:
            moment = table_rows.load_moment(db, owner, lease_seconds)
            for row in db.execute(table_rows.OPEN_RUNS, (study_hash,)).fetchall():
                run_id = row["run_id"]
                eligible = (stages is None or row["stage"] in stages) and moment.is_claimable(row)
                if not eligible or not (may_start is None or may_start(run_id, moment.running)):
                    continue
                tables.raise_if_damaged([tables.find_run_damage(row)], str(self._file))
                now = time.time()
                db.execute(
                    "UPDATE runs SET state = 'running', owner = ?, attempt = attempt + 1, "
                    "lease_until = ?, started = ?, "
                    # Until it reports a step, this attempt is at the last reported one.
                    "progress = json_set(progress, '$.resumed_at', coalesce(json_extract(progress, "
                    "'$.step'), 0)) "
                    "WHERE run_id = ?",
                    (owner, now + lease_seconds, now, run_id),
                )
                return Claim(
                    self._parse_run(row),
                    self.checkpoint_path(run_id),
                    run_id=run_id,
                    owner=owner,
                    attempt=row["attempt"] + 1,
                    lease_seconds=lease_seconds,
                )
        return None

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Prolong the lease and, where given, keep the progress.

        It waits for no disk: a power cut may take it back, and the lease ends sooner.

        Raises:
            StaleClaimError: the run has passed to another worker, here and in the methods below.
        """
        text = None if progress is None else to_canonical_json(dict(progress), "progress")
        values = (time.time() + claim.lease_seconds, text)
        with without_sync(self._db), self._write() as db:
            _change(db, claim, "lease_until = ?, progress = coalesce(?, progress)", values)

    def finish(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, bytes],
    ) -> None:
        """End the run as done, its checkpoint deleted.

        Blobs are written first, then result and state in one transaction. ``result[name]`` becomes
        the sha256 of ``blobs[name]``.
        """
        if shared := sorted(set(result) & set(blobs)):
            raise ValueError(f"result and blobs both name {', '.join(shared)}")
        to_canonical_json(dict(result), "result")  # refused before anything of it is written
        measured_text = to_canonical_json(dict(measured), "measured")
        hashes = {n: blob_files.write_blob(self._blobs, content) for n, content in blobs.items()}
        text = to_canonical_json({**result, **hashes}, "result")
        assignments = f"state = 'done', {_ENDED}, result = ?, measured = ?"
        with self._write() as db:
            _change(db, claim, assignments, (time.time(), text, measured_text))
            db.execute("DELETE FROM settings WHERE key = ?", (f"{DROPPED_PREFIX}{claim.run_id}",))
            for name, sha256 in hashes.items():
                if not blob_files.blob_path(self._blobs, sha256).exists():  # dropped since
                    blob_files.write_blob(self._blobs, blobs[name])
        self.checkpoint_path(claim.run_id).unlink(missing_ok=True)

    def fail(self, claim: Claim, kind: str, message: str, measured: Mapping[str, Any]) -> None:
        """End the run as failed, its checkpoint deleted; ``kind``: ``error``, ``out_of_memory``."""
        values = time.time(), kind, message, to_canonical_json(dict(measured), "measured")
        assignments = f"state = 'failed', {_ENDED}, fail_kind = ?, message = ?, measured = ?"
        with self._write() as db:
            _change(db, claim, assignments, values)
        self.checkpoint_path(claim.run_id).unlink(missing_ok=True)

    def release(self, claim: Claim) -> bool:
        """Give the run back as todo, its checkpoint kept; False where the claim is stale."""
        try:
            with self._write() as db:
                _change(db, claim, "state = 'todo', owner = NULL, lease_until = NULL", ())
        except StaleClaimError:
            return False
        return True

    def retry(self, study_hash: str) -> int:
        """Make runs without a usable result todo again, from the beginning; return how many.

        These are runs that failed, did not fit in memory, changed since they were written, or have
        a blob that is missing or damaged. Damaged settings and requests are deleted, and the
        damaged text of the study is emptied: ``run`` writes them again.
        """
        with self._read() as db:
            blob_problems = blob_files.find_blob_problems(db, self._blobs, study_hash)
            unusable = {run_id for run_id, _ in blob_problems}
        again: set[str] = set()
        with self._write() as db:
            for row in table_rows.load_run_rows(db, study_hash):
                run_id, is_gone = row["asked_id"], row["state"] is None
                is_request_damaged = tables.has_changed("study_runs", row, row["asked_checksum"])
                if is_gone or is_request_damaged:
                    again.add(run_id)
                    db.execute(f"DELETE FROM study_runs WHERE {_STUDY_RUN}", (study_hash, run_id))  # noqa: S608
                if is_gone:
                    continue
                lacks_memory = '"outcome":"out_of_memory"' in str(row["result"])
                is_unusable = row["state"] == "failed" or lacks_memory or run_id in unusable
                if is_unusable or (not is_request_damaged and tables.find_run_damage(row)):
                    again.add(run_id)
                    table_rows.reset_run(db, run_id)
            for row in db.execute("SELECT * FROM settings").fetchall():
                if tables.has_changed("settings", row, row["checksum"]):
                    db.execute("DELETE FROM settings WHERE key = ?", (row["key"],))
            of_study = "SELECT * FROM studies WHERE study_hash = ?"
            for row in db.execute(of_study, (study_hash,)).fetchall():
                if tables.has_changed("studies", row, row["checksum"]):
                    table_rows.put_study(db, study_hash, str(row["name"]), "", {})
        return len(again)

    # Statuses and records

    def load_statuses(self, study_hash: str, owner: str | None = None) -> list[RunStatus]:
        """The status of every run of the study, in order.

        A record that has ended is compared with its checksum once. StoreError names the damaged.

        Args:
            owner: who would claim a run that is claimable; None: somebody at a place that is not
                known, who claims no cost beside any other run.
        """
        damages, statuses = [], []
        with self._read() as db:
            moment = table_rows.load_moment(db, owner)
            for row in table_rows.load_run_rows(db, study_hash):
                key = (row["run_id"], row["checksum"], row["asked_checksum"])
                if (status := self._ended.get(key)) is None:
                    if damage := tables.find_run_damage(row):
                        damages.append(damage)
                        continue
                    status = _make_status(row, self._parse_run(row), moment)
                    if status.ended:
                        self._ended[key] = status
                if not row["left_out"]:
                    statuses.append(status)
        tables.raise_if_damaged(damages, str(self._file))
        return statuses

    def load_records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """The records of ended runs, in the order in which the study asked for them.

        A trial of a learning rate whose predictions are missing or damaged comes without them
        (:attr:`Record.lacks_predictions`).

        Raises:
            StoreError: a record changed since it was written, or the predictions of a final run are
                missing or damaged.
        """
        with self._read() as db:
            rows = table_rows.load_run_rows(db, study_hash)
        tables.raise_if_damaged(map(tables.find_run_damage, rows), str(self._file))
        records = [
            Record(
                run_id=row["run_id"],
                run=self._parse_run(row),
                state=row["state"],
                fail_kind=row["fail_kind"],
                message=row["message"],
                result=json.loads(row["result"] or "{}"),
                measured=json.loads(row["measured"] or "{}"),
            )
            for row in rows
            if row["ended"] is not None and not row["left_out"]
        ]
        if not predictions:
            return records
        loaded = []
        for record in records:
            parts: dict[str, Predictions] = {}
            try:
                if sha256 := record.result.get("predictions"):
                    parts = decode_predictions(self.read_blob(sha256), f"run {record.run_id}")
            except StoreError:
                if record.run.stage != "tune":  # its rate is chosen by scores in the record
                    raise
            loaded.append(replace(record, predictions=parts))
        return loaded

    def load_study_records(self, study: Study) -> list[Record]:
        """The records of a study with predictions, and data and model where the study has them now.

        A study that was moved was stored with other paths.
        """
        records = self.load_records(study.study_hash, predictions=True)
        return [replace(record, run=study.relocate(record.run)) for record in records]

    def count_ended(self) -> int:
        """How many runs have ended, of all studies."""
        with self._read() as db:
            ended = db.execute("SELECT count(*) FROM runs WHERE ended IS NOT NULL").fetchone()
        return int(ended[0])

    def verify(self) -> list[str]:
        """Everything that is wrong with the store, one sentence each; empty where all is well."""
        with self._read() as db:
            return blob_files.find_problems(db, self._blobs)

    def merge(self, source: Store, *, keep_own: bool = False) -> MergePlan:
        """Take the ended runs of another store, with their studies, blobs and settings.

        Args:
            source: another store; it stays as it is.
            keep_own: where both have done a run with different results, the one here stays.

        Raises:
            StoreError: the other store is damaged; or runs were done in both with different
                results, and ``keep_own`` is not set. Nothing was changed.
        """
        with source._read() as db:
            content = StoreContent.load(db, str(source._file))
        with self._read() as db:
            plan = plan_merge(db, content)
        if plan.contradictory and not keep_own:
            first = plan.contradictory[:3]
            names = [tables.describe_stored_run(content.runs[run]["run"]) or run for run in first]
            rest = len(plan.contradictory) - len(names)
            raise StoreError(
                f"{'; '.join(names)}{f' and {rest} more' if rest else ''}: done in both stores, "
                "with different results.",
                where=str(source.folder),
                remedy="Results of one run may differ by the processor. "
                f"{spell_option('keep_own', True)} keeps those of {self.folder}.",
            )
        for sha256 in sorted(content.list_blobs(plan.added)):
            blob_files.write_blob(self._blobs, source.read_blob(sha256))
        with self._write() as db:
            plan = plan_merge(db, content)  # runs may have ended here meanwhile
            put_content(db, content, plan)
        return plan

    # Settings, blobs, checkpoints

    def get_setting(self, key: str) -> str | None:
        """A value kept with the store, or None; StoreError where it is damaged."""
        with self._read() as db:
            return table_rows.load_settings(db, str(self._file), "key = ?", key).get(key)

    def get_settings(self, prefix: str) -> dict[str, str]:
        """The values of all keys that begin with ``prefix``, by the rest of the key."""
        begins = "substr(key, 1, length(?1)) = ?1"
        with self._read() as db:
            settings = table_rows.load_settings(db, str(self._file), begins, prefix)
        return {key.removeprefix(prefix): value for key, value in settings.items()}

    def set_setting(self, key: str, value: str) -> None:
        """Keep a value with the store."""
        self.set_settings({key: value})

    def set_settings(self, values: Mapping[str, str]) -> None:
        """Keep several values with the store, all or none."""
        with self._write() as db:
            for key, value in values.items():
                table_rows.put_setting(db, key, value)

    def set_default_setting(self, key: str, value: str) -> str:
        """Keep a value unless there is one; return the one that is kept (the first writer's)."""
        with self._write() as db:
            table_rows.put_setting(db, key, value, if_absent=True)
            return table_rows.load_settings(db, str(self._file), "key = ?", key)[key]

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content, its hash verified."""
        return blob_files.read_blob(self._blobs, sha256)

    def checkpoint_path(self, run_id: str) -> Path:
        """Where the run's checkpoint lies while it is running."""
        return self.folder / "checkpoints" / f"{run_id}.safetensors"

    # Trained weights within a budget

    def sum_weight_bytes(self, study_hash: str) -> int:
        """Bytes of the trained weights of a study that are kept here."""
        with self._read() as db:
            row = db.execute(
                "SELECT coalesce(sum(json_extract(result, '$.trained_bytes')), 0) AS bytes "  # noqa: S608
                "FROM study_runs JOIN runs USING (run_id) WHERE study_hash = ? "
                f"AND {STORED_WEIGHTS} IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM settings WHERE key = ? || run_id)",
                (study_hash, DROPPED_PREFIX),
            ).fetchone()
        return int(row["bytes"])

    def list_dropped_runs(self) -> set[str]:
        """Ids of the runs whose trained weights were dropped (:meth:`drop_weights`)."""
        with self._read() as db:
            return blob_files.list_dropped_runs(db)

    def drop_weights(self, study_hash: str, run_ids: Sequence[str]) -> list[str]:
        """Drop the trained weights of runs; the ids of those that lost them.

        Weights of runs that a study of another name asks for too stay.
        """
        droppable: dict[str, str] = {}
        with self._read() as db:
            for run_id in run_ids:
                row = db.execute(
                    f"SELECT {STORED_WEIGHTS} AS weights FROM runs "  # noqa: S608 (constants)
                    "WHERE run_id = ? AND state = 'done' AND NOT EXISTS (SELECT 1 FROM study_runs "
                    "JOIN studies USING (study_hash) WHERE run_id = runs.run_id "
                    "AND name <> (SELECT name FROM studies WHERE study_hash = ?))",
                    (run_id, study_hash),
                ).fetchone()
                if row is not None and row["weights"]:
                    droppable[run_id] = str(row["weights"])
        self.set_settings({f"{DROPPED_PREFIX}{run}": sha for run, sha in droppable.items()})
        with self._write() as db:
            blob_files.remove_dropped_blobs(db, self._blobs)
        return list(droppable)

    # Internals

    def _read(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self._file, "DEFERRED")

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._db, self._file, "IMMEDIATE")

    def _parse_run(self, row: sqlite3.Row) -> Run:
        key, text = (row["study_hash"], row["run_id"]), row["run"]
        if self._parsed_runs.get(key, ("", None))[0] != text:
            self._parsed_runs[key] = text, Run.model_validate_json(text)
        return self._parsed_runs[key][1]


def _change(
    db: sqlite3.Connection, claim: Claim, assignments: str, values: tuple[Any, ...]
) -> None:
    """Change the row of a run, on the condition that the claim still holds.

    Raises:
        StaleClaimError: it does not; nothing was changed.
    """
    changed = db.execute(
        f"UPDATE runs SET {assignments} "  # noqa: S608 (constants of the store)
        "WHERE run_id = ? AND state = 'running' AND owner = ? AND attempt = ?",
        (*values, claim.run_id, claim.owner, claim.attempt),
    ).rowcount
    if not changed:
        raise StaleClaimError(
            "the run passed to another worker; this worker's result is not written.",
            where=f"run {claim.run_id}, attempt {claim.attempt}",
        )
    tables.write_checksums(db, "runs", "run_id = ? AND ended IS NOT NULL", (claim.run_id,))


def _make_status(row: sqlite3.Row, run: Run, moment: table_rows.Moment) -> RunStatus:
    started = row["started"]
    end = moment.now if row["state"] == "running" else row["ended"]
    # The clock may be set back.
    seconds = None if started is None or end is None else max(0.0, end - started)
    result, measured = (json.loads(row[name] or "{}") for name in ("result", "measured"))
    if "fleet" in measured:  # also of the last of them, which ended alone
        seconds = sum(measured["wall_seconds"].values())
    scores = result.get("scores", {})
    return RunStatus(
        run_id=row["run_id"],
        run=run,
        state=row["state"],
        is_claimable=moment.is_claimable(row),
        owner=row["owner"],
        attempt=row["attempt"],
        progress=json.loads(row["progress"] or "{}"),
        seconds=seconds,
        outcome=row["fail_kind"] or result.get("outcome") or ("ok" if row["ended"] else None),
        score=scores.get("test", scores.get("selection", {})).get("primary"),
        message=row["message"],
        ended_at=row["ended"],
    )
