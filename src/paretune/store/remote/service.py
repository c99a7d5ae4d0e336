"""The service over one study of a store: from a request to its answer, whatever brings it.

All that touches SQLite happens in one thread of the service's own, one request after the other.
Leases follow the server's clock alone.
"""

from __future__ import annotations

import hmac
import re
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.errors import ParetuneError, StaleClaimError
from paretune.store.remote.calls import StoreCalls
from paretune.store.remote.messages import (
    PROTOCOL,
    Request,
    Response,
    encode_error,
    encode_json,
)
from paretune.store.remote.transfers import LEASE_SECONDS, answer_blob, answer_checkpoint
from paretune.store.store import Store

_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        self.complete = threading.Event()
        self._calls = StoreCalls(self._store, self.complete)
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
                return self._calls.answer(name, request)
            case ["GET", "v1", "files", sha256] if sha256 in self._served.files:
                return Response(200, self._served.files[sha256])
            case [("GET" | "HEAD" | "PUT"), "v1", "blobs", sha256] if _SHA256.fullmatch(sha256):
                return answer_blob(self.folder, request, sha256)
            case [("GET" | "PUT"), "v1", "checkpoints", run_id] if _RUN_ID.fullmatch(run_id):
                return answer_checkpoint(self._store, request, run_id)
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

    def _count(self, request: Request, response: Response) -> None:
        what = request.path.removeprefix("/v1/").removeprefix("call/").split("/")[0]
        self.counts.requests[f"{request.method} {what}" if what == "blobs" else what] += 1
        self.counts.received += _size(request.body)
        self.counts.sent += _size(response.body)


def _size(body: bytes | Path) -> int:
    if not isinstance(body, Path):
        return len(body)
    try:
        return body.stat().st_size
    except OSError:  # it became the blob
        return 0
