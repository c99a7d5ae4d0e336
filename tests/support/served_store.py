"""A store behind its service, in this process: every request travels as bytes, and may be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paretune.store import Store
from paretune.store.remote.client import RemoteStore
from paretune.store.remote.messages import Request, Response
from paretune.store.remote.service import ServedStudy, StoreService
from paretune.store.remote.transport import PatientTransport
from support.tiny_runs import STUDY

TOKEN = "a-token-of-a-test"  # noqa: S105 (of no server)


class ServedStore:
    """The service of a store's folder, as often as it is started; it can be killed at any point.

    ``before`` and ``after`` are called with each request and its number; what they raise is what
    the client sees. ``after`` comes when the service has done what was asked.
    """

    def __init__(self, folder: Path, study: str = STUDY) -> None:
        self.folder, self.study = folder, study
        self.sent = 0
        self.before: Callable[[int, Request], None] = lambda number, request: None
        self.after: Callable[[int, Request], None] = lambda number, request: None
        with Store.open(folder, create=True):
            pass
        self.service = self.start()

    def start(self) -> StoreService:
        """A service as a server that was just started has it."""
        self.service = StoreService(self.folder, TOKEN, ServedStudy(self.study), "1")
        return self.service

    def restart(self) -> None:
        """What is in memory is gone."""
        self.service.close()
        self.start()

    def client(self, folder: Path, **options) -> RemoteStore:
        """A worker's store; it waits for nothing."""
        return RemoteStore(folder, lambda: self.connect(), **options)

    def connect(self, patience: float = 60.0) -> PatientTransport:
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        return PatientTransport(_Transport(self), "http://test", patience, sleep, lambda: now[0])


class _Transport:
    def __init__(self, served: ServedStore) -> None:
        self._served = served

    def send(self, request: Request, into: Path | None = None) -> Response:
        served = self._served
        served.sent += 1
        number = served.sent
        headers = {**request.headers, "authorization": f"Bearer {TOKEN}"}
        body = request.body.read_bytes() if isinstance(request.body, Path) else request.body
        served.before(number, request)
        response = served.service.handle(Request(request.method, request.path, body, headers))
        served.after(number, request)
        answer = response.body
        content = answer.read_bytes() if isinstance(answer, Path) else answer
        if into is None or response.status != 200:
            return Response(response.status, content)
        into.write_bytes(content)
        return Response(response.status, into)

    def close(self) -> None:
        pass
