"""The service over one study of a store: from a request to its answer, whatever brings it.

All that touches SQLite happens in one thread of the service's own, one request after the other.
Every change comes with a key (``idempotency-key``): a repeat of it gets the first answer and
changes nothing, also after the server was killed in between. Leases follow the server's clock
alone.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.atomic_write import part_path, replace_file
from paretune.errors import ParetuneError, StaleClaimError, StoreError
from paretune.store.blobs import blob_path, read_blob, write_blob, write_blob_file
from paretune.store.remote.messages import (
    HASH_HEADER,
    KEY_HEADER,
    PROTOCOL,
    Request,
    Response,
    decode_json,
    encode_claim,
    encode_error,
    encode_json,
    encode_moment,
    encode_record,
    encode_status,
)
from paretune.store.status import Claim
from paretune.store.status_view import StoredStatus
from paretune.store.store import Store
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec

LEASE_SECONDS = 60.0
"""What every claim holds for when the service starts: its worker may have waited for it."""
MAX_JSON_BYTES = 64 * 2**20
_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[0-9A-Za-z_-]{16,100}")


@dataclass(frozen=True)
class ServedStudy:
    """The study that is served.

    Attributes:
        inputs: what its runs read, as plain values (:mod:`paretune.planning.inputs`).
        files: of them, by sha256.
        options: of the workers: ``keep_bytes``, ``cost_seconds``.
    """

    study_hash: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class RequestCounts:
    """How much was asked: requests by what they ask, and bytes of their bodies and answers."""

    requests: Counter[str] = field(default_factory=Counter)
    received: int = 0
    sent: int = 0


class NothingClaimedError(Exception):
    """A claim that changes nothing, so that no answer has to be kept for it."""

    def __init__(self, value: Any) -> None:
        self.value = value


class StoreService:
    """Answers requests to one store.

    Args:
        folder: of the store.
        token: that every request must bring.
        version: of paretune; clients must have the same one.

    Attributes:
        complete: set once no run is left and none will be added.
        counts: of all requests.
    """

    def __init__(self, folder: Path, token: str, served: ServedStudy, version: str) -> None:
        self.folder, self._token, self._served, self._version = folder, token, served, version
        self._pool = ThreadPoolExecutor(1, "paretune-store")
        self._store: Store = self._pool.submit(self._open).result()
        self._encoded: dict[str, tuple[int, str]] = {}
        self.complete = threading.Event()
        self.counts = RequestCounts()

    def _open(self) -> Store:
        store = Store.open(self.folder)
        store.prepare_to_serve(LEASE_SECONDS)
        return store

    def close(self) -> None:
        """Finish what is being answered, and close the store."""
        self._pool.submit(self._store.close).result()
        self._pool.shutdown()

    def submit(self, request: Request) -> Future[Response]:
        """The answer, once it is there."""
        return self._pool.submit(self.answer, request)

    def handle(self, request: Request) -> Response:
        """The answer; to be called from any thread."""
        return self.submit(request).result()

    def answer(self, request: Request) -> Response:
        """The answer, in the service's own thread."""
        if not self.is_authorised(request):
            return Response(401, encode_json({"error": "StoreError", "what": "a wrong token."}))
        try:
            response = self._route(request)
        except StaleClaimError as error:
            response = Response(409, encode_json(encode_error(error)))
        except ParetuneError as error:
            response = Response(500, encode_json(encode_error(error)))
        except ValueError as error:
            response = Response(422, encode_json(encode_error(error)))
        self._count(request, response)
        return response

    def is_authorised(self, request: Request) -> bool:
        """Whether the request has the token; compared in the same time whatever it has."""
        header = request.headers.get("authorization", "").encode()
        return hmac.compare_digest(header, f"Bearer {self._token}".encode())

    def _route(self, request: Request) -> Response:
        match [request.method, *request.path.strip("/").split("/")]:
            case ["GET", "v1", "study"]:
                return Response(200, encode_json(self._describe_study()))
            case ["POST", "v1", "call", name]:
                return self._call(name, request)
            case ["GET", "v1", "files", sha256] if sha256 in self._served.files:
                return Response(200, self._served.files[sha256])
            case [("GET" | "HEAD" | "PUT"), "v1", "blobs", sha256] if _SHA256.fullmatch(sha256):
                return self._blob(request, sha256)
            case [("GET" | "PUT"), "v1", "checkpoints", run_id] if _RUN_ID.fullmatch(run_id):
                return self._checkpoint(request, run_id)
        return Response(404, encode_json({"error": "StoreError", "what": "no such address."}))

    def _describe_study(self) -> dict[str, Any]:
        served = self._served
        (entry,) = [s for s in self._store.list_studies() if s.study_hash == served.study_hash]
        return {
            "protocol": PROTOCOL,
            "version": self._version,
            "study_hash": entry.study_hash,
            "name": entry.name,
            "text": entry.text,
            "inputs": served.inputs,
            "options": served.options,
        }

    # Blobs and checkpoints

    def _blob(self, request: Request, sha256: str) -> Response:
        blobs = self.folder / "blobs"
        path = blob_path(blobs, sha256)
        if request.method == "PUT":
            if isinstance(request.body, Path):
                write_blob_file(blobs, request.body, sha256)
            elif hashlib.sha256(request.body).hexdigest() != sha256:
                raise ValueError("the body is not what its hash says")
            else:
                write_blob(blobs, request.body)
            return Response(200, b"{}")
        if not path.exists():
            error = StoreError(f"blob {sha256} is not here.", where=str(self.folder))
            return Response(404, encode_json(encode_error(error)))
        if request.method == "HEAD":
            return Response(200)
        return Response(200, read_blob(blobs, sha256))

    def _checkpoint(self, request: Request, run_id: str) -> Response:
        path = self._store.checkpoint_path(run_id)
        if request.method == "GET":
            return Response(200, path) if path.exists() else Response(404, b"{}")
        headers = request.headers
        attempt = int(headers.get("x-attempt", "0"))
        claim = Claim(run_id, _ANY_RUN, headers.get("x-owner", ""), attempt, LEASE_SECONDS)
        if _hash_body(request.body) != request.headers.get(HASH_HEADER):
            raise ValueError("the body is not what its hash says")
        self._store.renew(claim)  # only the holder's
        part = request.body if isinstance(request.body, Path) else part_path(path)
        try:
            with replace_file(path, part=part) as file:
                if not isinstance(request.body, Path):
                    file.write_bytes(request.body)
        except OSError as error:
            raise StoreError(
                f"cannot be written ({error.strerror or error}).",
                where=str(path),
                remedy="Free some space at the server; the worker tries again later.",
            ) from error
        return Response(200, b"{}")

    # Calls

    def _call(self, name: str, request: Request) -> Response:
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

    def _count(self, request: Request, response: Response) -> None:
        what = request.path.removeprefix("/v1/").removeprefix("call/").split("/")[0]
        self.counts.requests[f"{request.method} {what}" if what == "blobs" else what] += 1
        self.counts.received += _size(request.body)
        self.counts.sent += _size(response.body)

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
        return self.complete.is_set()

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
            checkpoint = _hash_body(path)
        run = claim.run.model_dump(mode="json")
        return {"claim": encode_claim(claim), "run": run, "checkpoint": checkpoint}

    def _renew(self, claim: Mapping[str, Any], progress: Mapping[str, Any] | None) -> None:
        self._store.renew(_as_claim(claim), progress)

    def _finish(
        self,
        claim: Mapping[str, Any],
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, str],
    ) -> None:
        self._store.finish_with_stored_blobs(_as_claim(claim), result, measured, blobs)

    def _fail(
        self, claim: Mapping[str, Any], kind: str, message: str, measured: Mapping[str, Any]
    ) -> None:
        self._store.fail(_as_claim(claim), kind, message, measured)

    def _release(self, claim: Mapping[str, Any]) -> bool:
        return self._store.release(_as_claim(claim))

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
    "load_runs": StoreService._load_runs,
    "load_statuses": StoreService._load_statuses,
    "load_records": StoreService._load_records,
    "get_setting": StoreService._get_setting,
    "get_settings": StoreService._get_settings,
    "is_complete": StoreService._is_complete,
}
_WRITES: Mapping[str, Callable[..., Any]] = {
    "claim": StoreService._claim,
    "claim_these": StoreService._claim_these,
    "renew": StoreService._renew,
    "finish": StoreService._finish,
    "fail": StoreService._fail,
    "release": StoreService._release,
    "retry": StoreService._retry,
    "save_study": StoreService._save_study,
    "add_runs": StoreService._add_runs,
    "set_settings": StoreService._set_settings,
    "set_default_setting": StoreService._set_default_setting,
}
_IDEMPOTENT = ("renew",)
"""Changes that a repeat cannot make twice, and that come too often to keep their answers."""
_ANY_RUN = Run(
    stage="tune",
    task=TaskSpec(name="any"),
    model=ModelSpec(name="any"),
    method=MethodSpec(name="any"),
    learning_rate=None,
    seed=0,
)
"""The store asks a claim that writes for its run's id alone, and messages have nothing else."""


def _as_claim(value: Mapping[str, Any]) -> Claim:
    return Claim(run=_ANY_RUN, **value)


def _as_stages(stages: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if stages is None else tuple(stages)


def _hash_body(body: bytes | Path) -> str:
    if not isinstance(body, Path):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(body: bytes | Path) -> int:
    if not isinstance(body, Path):
        return len(body)
    try:
        return body.stat().st_size
    except OSError:  # it became the blob
        return 0
