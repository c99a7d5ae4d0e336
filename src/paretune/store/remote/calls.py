"""What a client may call on a served store: reads, and changes that count once.

Every change comes with a key (``idempotency-key``): a repeat of it gets the first answer and
changes nothing, also after the server was killed in between.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from paretune.store.remote.messages import (
    KEY_HEADER,
    Request,
    Response,
    decode_claim,
    decode_json,
    encode_claim,
    encode_json,
    encode_moment,
    encode_record,
    encode_status,
)
from paretune.store.remote.transfers import hash_body
from paretune.store.status import Claim
from paretune.store.status_view import StoredStatus
from paretune.store.store import Store
from paretune.study import Run

MAX_JSON_BYTES = 64 * 2**20
_KEY = re.compile(r"[0-9A-Za-z_-]{16,100}")


class NothingClaimedError(Exception):
    """A claim that changes nothing, so that no answer has to be kept for it."""

    def __init__(self, value: Any) -> None:
        self.value = value


class StoreCalls:
    """Answers calls, in the one thread that may use the store.

    Args:
        store: that is served.
        complete: set once no run is left and none will be added.
    """

    def __init__(self, store: Store, complete: threading.Event) -> None:
        self._store, self._complete = store, complete
        self._encoded: dict[str, tuple[int, str]] = {}

    def answer(self, name: str, request: Request) -> Response:
        """The value of a call; of a change, that of the first request with its key.

        Raises:
            ValueError: arguments that the call does not have, or a change without a key.
        """
        if isinstance(request.body, Path):
            if request.body.stat().st_size > MAX_JSON_BYTES:
                return Response(413, encode_json({"error": "StoreError", "what": "too large."}))
            body = request.body.read_bytes()
        else:
            body = request.body
        arguments = decode_json(body)
        call = _READS.get(name) or _WRITES.get(name)
        if call is None:
            return Response(404, encode_json({"error": "StoreError", "what": "no such call."}))
        try:
            inspect.signature(call).bind(self, **arguments)
        except TypeError as error:
            raise ValueError(f"{name}: {error}") from None
        if name in _READS:
            return Response(200, encode_json({"value": call(self, **arguments)}))
        key = request.headers.get(KEY_HEADER, "")
        if not _KEY.fullmatch(key):
            raise ValueError("a change needs a key")

        def change() -> Any:
            return call(self, **arguments)

        try:
            value = change() if name in _IDEMPOTENT else self._store.call_once(key, change)
        except NothingClaimedError as nothing:
            value = nothing.value
        return Response(200, encode_json({"value": value}))

    # Reads; the names are those of the calls

    def _load_runs(self, study_hash: str, run_ids: Sequence[str]) -> dict[str, Any]:
        self._store.load_statuses(study_hash)  # reads what is new
        runs = {run_id: self._store.get_run(study_hash, run_id) for run_id in run_ids}
        return {key: run.model_dump_json() for key, run in runs.items() if run is not None}

    def _load_statuses(self, study_hash: str, owner: str | None, since: int) -> dict[str, Any]:
        """What has changed of a study's runs after a revision, and what depends on the moment."""
        changes, moment = self._store.load_status_changes(study_hash, owner, since)
        return {
            "revision": changes.revision,
            "complete": changes.complete,
            "changed": [self._encode_status(stored) for stored in changes.changed],
            "gone": list(changes.gone),
            "moment": encode_moment(moment),
        }

    def _encode_status(self, stored: StoredStatus) -> str:
        """As JSON, made once for all workers that look at it."""
        run_id = stored.status.run_id
        revision, text = self._encoded.get(run_id, (0, ""))
        if revision != stored.revision or not revision:
            text = encode_status(stored)
            self._encoded[run_id] = (stored.revision, text)
        return text

    def _load_records(self, study_hash: str) -> list[Any]:
        return [encode_record(record) for record in self._store.load_records(study_hash)]

    def _get_settings(self, prefix: str, since: int) -> dict[str, Any]:
        """The settings, unless they are as they were when their number was this."""
        revision, values = self._store.load_settings(prefix)
        is_new = revision == 0 or revision != since
        return {"revision": revision, "values": dict(values) if is_new else None}

    def _get_setting(self, key: str) -> str | None:
        return self._store.get_setting(key)

    def _is_complete(self) -> bool:
        return self._complete.is_set()

    # Writes

    def _claim(
        self,
        owner: str,
        study_hash: str,
        stages: Sequence[str] | None,
        lease_seconds: float,
        only: Mapping[str, Any] | None = None,
    ) -> Any:
        """A claim; with ``only``, of this run if nothing else runs than was seen.

        Raises:
            NothingClaimedError: there is none.
        """

        def is_as_seen(run_id: str, running: Sequence[Sequence[str]]) -> bool:
            seen = only or {}
            as_seen = [list(run_ids) for run_ids in running] == seen["running"]
            return bool(run_id == seen["run_id"] and as_seen)

        may_start = None if only is None else is_as_seen
        claim = self._store.claim(owner, study_hash, _as_stages(stages), lease_seconds, may_start)
        if claim is None:
            raise NothingClaimedError(None)
        return self._describe_claim(claim)

    def _claim_these(
        self, owner: str, study_hash: str, run_ids: Sequence[str], lease_seconds: float
    ) -> list[Any]:
        chosen = set(run_ids)
        claims = self._store.claim_matching(
            owner,
            study_hash,
            lambda run_id, _: run_id in chosen,
            limit=len(chosen),
            lease_seconds=lease_seconds,
        )
        if not claims:
            raise NothingClaimedError([])
        return [self._describe_claim(claim) for claim in claims]

    def _describe_claim(self, claim: Claim) -> dict[str, Any]:
        """The claim, its run, and the hash of the checkpoint that an earlier attempt left."""
        path = self._store.checkpoint_path(claim.run_id)
        checkpoint = None
        with suppress(FileNotFoundError):
            checkpoint = hash_body(path)
        run = claim.run.model_dump(mode="json")
        return {"claim": encode_claim(claim), "run": run, "checkpoint": checkpoint}

    def _renew(self, claim: Mapping[str, Any], progress: Mapping[str, Any] | None) -> None:
        self._store.renew(decode_claim(claim), progress)

    def _finish(
        self,
        claim: Mapping[str, Any],
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, str],
    ) -> None:
        self._store.finish_with_stored_blobs(decode_claim(claim), result, measured, blobs)

    def _fail(
        self, claim: Mapping[str, Any], kind: str, message: str, measured: Mapping[str, Any]
    ) -> None:
        self._store.fail(decode_claim(claim), kind, message, measured)

    def _release(self, claim: Mapping[str, Any]) -> bool:
        return self._store.release(decode_claim(claim))

    def _retry(self, study_hash: str) -> int:
        return self._store.retry(study_hash)

    def _save_study(
        self, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
    ) -> None:
        self._store.save_study(study_hash, name, text, canonical)

    def _add_runs(self, study_hash: str, runs: Sequence[tuple[str, Any]]) -> int:
        parsed = [(run_id, Run.model_validate(run)) for run_id, run in runs]
        return self._store.add_runs(study_hash, parsed)

    def _set_settings(self, values: Mapping[str, str]) -> None:
        self._store.set_settings(values)

    def _set_default_setting(self, key: str, value: str) -> str:
        return self._store.set_default_setting(key, value)


_READS: Mapping[str, Callable[..., Any]] = {
    "load_runs": StoreCalls._load_runs,
    "load_statuses": StoreCalls._load_statuses,
    "load_records": StoreCalls._load_records,
    "get_setting": StoreCalls._get_setting,
    "get_settings": StoreCalls._get_settings,
    "is_complete": StoreCalls._is_complete,
}
_WRITES: Mapping[str, Callable[..., Any]] = {
    "claim": StoreCalls._claim,
    "claim_these": StoreCalls._claim_these,
    "renew": StoreCalls._renew,
    "finish": StoreCalls._finish,
    "fail": StoreCalls._fail,
    "release": StoreCalls._release,
    "retry": StoreCalls._retry,
    "save_study": StoreCalls._save_study,
    "add_runs": StoreCalls._add_runs,
    "set_settings": StoreCalls._set_settings,
    "set_default_setting": StoreCalls._set_default_setting,
}
_IDEMPOTENT = ("renew",)
"""Changes that a repeat cannot make twice, and that come too often to keep their answers."""


def _as_stages(stages: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if stages is None else tuple(stages)
