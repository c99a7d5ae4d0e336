"""RemoteStore: a :class:`~paretune.store.storage.Storage` that lies at a server."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from paretune.errors import MissingBlobError, StaleClaimError, StoreError
from paretune.store.canonical_json import check_result, to_canonical_json
from paretune.store.record import Record
from paretune.store.remote.checkpoint_sync import CheckpointSync
from paretune.store.remote.messages import (
    KEY_HEADER,
    Request,
    decode_claim,
    decode_json,
    decode_moment,
    decode_record,
    decode_status,
    encode_claim,
    encode_json,
    read_answer,
    read_body,
)
from paretune.store.remote.transport import PatientTransport
from paretune.store.status import Claim, RunStatus
from paretune.store.status_view import Moment, StatusChanges, StatusView
from paretune.store.storage import Matches, MayStart
from paretune.study import Run

POLL_SECONDS = 5.0
CHECKPOINT_SECONDS = 300.0
"""Least time between two uploads of a run's checkpoint while it trains: shorter runs begin anew."""
_MAX_LOOKS = 50
"""How often a claim looks anew because others claimed in between, before it comes back empty."""


class RemoteStore:
    """A storage at a server; handles of several threads share what they know of its runs.

    Checkpoints are files of this machine, in ``folder``: written by training as ever, brought to
    the server when a run is given back and every few minutes, and fetched where another worker
    began the run.

    Args:
        folder: of this machine, by which another process opens the same storage.
        connect: makes the transport of a handle.
        relocate: gives a run the places of its data and model on this machine.
        clock: of the time between uploads.
        poll_seconds: see :class:`~paretune.store.storage.Storage`.
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[], PatientTransport],
        relocate: Callable[[Run], Run] = lambda run: run,
        clock: Callable[[], float] = time.monotonic,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._folder, self._connect, self._relocate, self._clock = folder, connect, relocate, clock
        self.poll_seconds = poll_seconds
        self._transport = connect()
        self._runs: dict[str, Run] = {}
        self._views: dict[str, StatusView] = {}
        self._settings: dict[str, tuple[int, dict[str, str]]] = {}
        self._checkpoints = CheckpointSync(folder / "checkpoints", clock)

    @property
    def folder(self) -> Path:
        """Of this machine, by which another process opens the same storage."""
        return self._folder

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def reopen(self) -> Iterator[Self]:
        """Another connection to the same server, for another thread."""
        other = type(self)(
            self._folder, self._connect, self._relocate, self._clock, self.poll_seconds
        )
        other._runs, other._checkpoints = self._runs, self._checkpoints
        with other:
            yield other

    # Studies and their runs

    def save_study(
        self, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
    ) -> None:
        """See :class:`~paretune.store.storage.Storage`."""
        to_canonical_json(dict(canonical), "study")
        self._call(
            "save_study", study_hash=study_hash, name=name, text=text, canonical=dict(canonical)
        )

    def add_runs(self, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
        """See :class:`~paretune.store.storage.Storage`."""
        values = [(run_id, run.model_dump(mode="json")) for run_id, run in runs]
        return int(self._call("add_runs", study_hash=study_hash, runs=values))

    def load_statuses(self, study_hash: str, owner: str | None = None) -> list[RunStatus]:
        """See :class:`~paretune.store.storage.Storage`."""
        view, moment = self._look(study_hash, owner)
        return view.assemble(moment)

    def _look(self, study_hash: str, owner: str | None) -> tuple[StatusView, Moment]:
        """The statuses as they are now: what has changed since the last look is asked for."""
        view = self._views.setdefault(study_hash, StatusView())
        value = self._call("load_statuses", study_hash=study_hash, owner=owner, since=view.revision)
        changed = [decode_json(text.encode()) for text in value["changed"]]
        runs = self._load_runs(study_hash, [one["status"]["run_id"] for one in changed])
        stored = [decode_status(one, run) for one, run in zip(changed, runs, strict=True)]
        view.apply(StatusChanges(value["revision"], stored, value["gone"], value["complete"]))
        return view, decode_moment(value["moment"])

    def load_records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """See :class:`~paretune.store.storage.Storage`."""
        values = self._call("load_records", study_hash=study_hash)
        runs = self._load_runs(study_hash, [value["run_id"] for value in values])
        read = self.read_blob if predictions else None
        return [decode_record(v, run, read) for v, run in zip(values, runs, strict=True)]

    def is_complete(self) -> bool:
        """Whether no run of the served study is left, and none will be added."""
        return bool(self._call("is_complete"))

    def _load_runs(self, study_hash: str, run_ids: Sequence[str]) -> list[Run]:
        """The runs with these ids; those that are not known yet are asked for."""
        unknown = [run_id for run_id in run_ids if run_id not in self._runs]
        if unknown:
            values = self._call("load_runs", study_hash=study_hash, run_ids=unknown)
            for run_id, value in values.items():
                self._runs[run_id] = self._relocate(Run.model_validate_json(value))
        return [self._runs[run_id] for run_id in run_ids]

    # Claims

    def claim(
        self,
        owner: str,
        study_hash: str,
        stages: tuple[str, ...] | None = None,
        lease_seconds: float = 60.0,
        may_start: MayStart | None = None,
    ) -> Claim | None:
        """See :class:`~paretune.store.storage.Storage`.

        With ``may_start`` the server is asked what it would be asked of, and claims the run that
        may start if nothing else has been claimed in between.
        """
        question = {"owner": owner, "study_hash": study_hash, "stages": stages}
        if may_start is None:
            value = self._call("claim", **question, lease_seconds=lease_seconds)
            return None if value is None else self._take(value)
        for _ in range(_MAX_LOOKS):
            view, moment = self._look(study_hash, owner)
            candidates = (
                stored.status.run_id
                for stored in view.iterate_open()
                if (stages is None or stored.status.stage in stages)
                and moment.is_claimable(stored.status)
            )
            chosen = next((r for r in candidates if may_start(r, moment.by_worker)), None)
            if chosen is None:
                return None
            only = {"run_id": chosen, "running": moment.by_worker}
            value = self._call("claim", **question, lease_seconds=lease_seconds, only=only)
            if value is not None:
                return self._take(value)
        return None

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
        """See :class:`~paretune.store.storage.Storage`.

        The share of a worker is of the runs that match when the server is asked for them; of those
        that are taken in between it gets none.
        """
        view, moment = self._look(study_hash, owner)
        matching = [
            stored.status.run_id
            for stored in view.iterate_open()
            if moment.is_claimable(stored.status)
            and matches(stored.status.run_id, stored.status.run)
        ]
        chosen = matching[: min(limit, -(-len(matching) // workers))]
        if not chosen:
            return []
        values = self._call(
            "claim_these",
            owner=owner,
            study_hash=study_hash,
            run_ids=chosen,
            lease_seconds=lease_seconds,
        )
        return [self._take(value) for value in values]

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Prolong the lease; now and then, bring the checkpoint to the server.

        Raises:
            StaleClaimError: the run has passed to another worker.
        """
        if progress is not None:
            progress = dict(progress)
            to_canonical_json(progress, "progress")
        with self._of_claim(claim):
            self._call("renew", claim=encode_claim(claim), progress=progress)
            self._checkpoints.upload(claim, CHECKPOINT_SECONDS, self._transport)

    def finish(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, bytes],
    ) -> None:
        """End the run as done: blobs first, then result and state in one transaction."""
        check_result(result, measured, blobs)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in blobs.items()}
        outcome = {
            "claim": encode_claim(claim),
            "result": dict(result),
            "measured": dict(measured),
            "blobs": hashes,
        }
        with self._of_claim(claim):
            self._put_blobs(blobs, hashes)
            try:
                self._call("finish", **outcome)
            except MissingBlobError:  # dropped since it was there
                self._put_blobs(blobs, hashes)
                self._call("finish", **outcome)
        self._checkpoints.forget(claim)

    def fail(self, claim: Claim, kind: str, message: str, measured: Mapping[str, Any]) -> None:
        """End the run as failed; ``kind`` is ``error`` or ``out_of_memory``."""
        to_canonical_json(dict(measured), "measured")
        with self._of_claim(claim):
            self._call(
                "fail",
                claim=encode_claim(claim),
                kind=kind,
                message=message,
                measured=dict(measured),
            )
        self._checkpoints.forget(claim)

    def release(self, claim: Claim) -> bool:
        """Give the run back, its checkpoint with it; False where the claim is stale."""
        try:
            self._checkpoints.upload(claim, 0.0, self._transport)
        except StaleClaimError:
            self._checkpoints.forget(claim)
            return False
        return bool(self._call("release", claim=encode_claim(claim)))

    def retry(self, study_hash: str) -> int:
        """See :class:`~paretune.store.storage.Storage`."""
        return int(self._call("retry", study_hash=study_hash))

    def _take(self, value: Mapping[str, Any]) -> Claim:
        """The claim of an answer, its checkpoint brought here."""
        run_id = value["claim"]["run_id"]
        self._runs[run_id] = self._relocate(Run.model_validate(value["run"]))
        claim = decode_claim(value["claim"], self._runs[run_id])
        self._checkpoints.fetch(claim, value["checkpoint"], self._transport)
        return claim

    @contextmanager
    def _of_claim(self, claim: Claim) -> Iterator[None]:
        """A request by a claim; where it is stale, its checkpoint is of no use here any more."""
        try:
            yield
        except StaleClaimError:
            self._checkpoints.forget(claim)
            raise

    def checkpoint_path(self, run_id: str) -> Path:
        """See :class:`~paretune.store.storage.Storage`."""
        return self._checkpoints.path(run_id)

    # Settings and blobs

    def get_setting(self, key: str) -> str | None:
        """See :class:`~paretune.store.storage.Storage`."""
        value: str | None = self._call("get_setting", key=key)
        return value

    def get_settings(self, prefix: str) -> dict[str, str]:
        """See :class:`~paretune.store.storage.Storage`."""
        revision, values = self._settings.get(prefix, (0, {}))
        answer = self._call("get_settings", prefix=prefix, since=revision)
        if answer["values"] is not None:
            values = answer["values"]
        self._settings[prefix] = (answer["revision"], values)
        return dict(values)

    def set_setting(self, key: str, value: str) -> None:
        """See :class:`~paretune.store.storage.Storage`."""
        self.set_settings({key: value})

    def set_settings(self, values: Mapping[str, str]) -> None:
        """See :class:`~paretune.store.storage.Storage`."""
        self._call("set_settings", values=dict(values))

    def set_default_setting(self, key: str, value: str) -> str:
        """See :class:`~paretune.store.storage.Storage`."""
        return str(self._call("set_default_setting", key=key, value=value))

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content, its hash verified.

        Raises:
            StoreError: missing or damaged.
        """
        response = self._transport.send(Request("GET", f"/v1/blobs/{sha256}"))
        if response.status != 200:
            read_answer(response)
        content = read_body(response)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError("a blob came damaged from the server.", where=f"blob {sha256}")
        return content

    def _put_blobs(self, blobs: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
        for name, content in blobs.items():
            request = Request("PUT", f"/v1/blobs/{hashes[name]}", content)
            read_answer(self._transport.send(request))

    # Internals

    def _call(self, name: str, /, **arguments: Any) -> Any:
        """The value of a call; a key makes it one call, however often it has to be sent."""
        headers = {KEY_HEADER: uuid.uuid4().hex, "content-type": "application/json"}
        request = Request("POST", f"/v1/call/{name}", encode_json(arguments), headers)
        return read_answer(self._transport.send(request))["value"]
