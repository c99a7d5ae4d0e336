"""What brings a request to a service and its answer back; by HTTP with Python's own client."""

from __future__ import annotations

import contextlib
import http.client
import random
import shutil
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from paretune.atomic_write import part_path
from paretune.errors import StoreError, StudyError
from paretune.store.remote.messages import Request, Response

TIMEOUT_SECONDS = 60.0
"""For connecting, and for each part of an answer."""
PATIENCE_SECONDS = 900.0
"""How long a request is repeated while the server does not answer: it may be restarting."""
_LONGEST_PAUSE_SECONDS = 10.0
_RETRIED = (502, 503, 504)
"""Answers of a proxy whose server is not there."""


class Transport(Protocol):
    """Brings requests to a service."""

    def send(self, request: Request, into: Path | None = None) -> Response:
        """The answer; its body is written to the file ``into`` where it is given and all went well.

        Raises:
            OSError: no answer came. The service may have done what was asked.
        """

    def close(self) -> None:
        """Close what is open; the next request opens it again."""


class HttpTransport:
    """One connection to a server, kept open between requests. Belongs to one thread."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        parts = urlsplit(url)
        self._prefix = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._connection: http.client.HTTPConnection | None = None

    def send(self, request: Request, into: Path | None = None) -> Response:
        """See :class:`Transport`."""
        try:
            return self._send(request, into)
        except http.client.HTTPException as error:  # it closed in the middle, or is none of HTTP
            self.close()
            raise ConnectionError(f"{type(error).__name__} {error}".strip()) from error
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """See :class:`Transport`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, request: Request, into: Path | None) -> Response:
        connection = self._connection = self._connection or self._connect()
        headers = {**request.headers, "authorization": f"Bearer {self._token}"}
        path = f"{self._prefix}{request.path}"
        if isinstance(request.body, Path):
            headers["content-length"] = str(request.body.stat().st_size)
            with request.body.open("rb") as file:
                connection.request(request.method, path, file, headers)
        else:
            connection.request(request.method, path, request.body, headers)
        with contextlib.closing(connection.getresponse()) as answer:
            if into is None or answer.status != 200:
                return Response(answer.status, answer.read(), dict(answer.headers))
            with into.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            expected = answer.headers.get("content-length")
            if expected is not None and into.stat().st_size != int(expected):
                raise ConnectionError("the answer is cut off")
            return Response(answer.status, into, dict(answer.headers))

    def _connect(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_SECONDS, context=context
        )


class PatientTransport:
    """Repeats a request until it is answered; for requests that may be repeated.

    Args:
        patience_seconds: after which it gives up.
        sleep, clock: for tests.
    """

    def __init__(
        self,
        transport: Transport,
        where: str,
        patience_seconds: float = PATIENCE_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport, self._where = transport, where
        self._patience, self._sleep, self._clock = patience_seconds, sleep, clock

    def send(self, request: Request, into: Path | None = None) -> Response:
        """The answer.

        Raises:
            StoreError: none came in all that time, or the server refuses the token.
        """
        begun, pause = self._clock(), 0.1
        part = None if into is None else part_path(into)
        try:
            while True:
                try:
                    response = self._transport.send(request, part)
                    if response.status not in _RETRIED:
                        break
                    reason = f"HTTP status {response.status}"
                except OSError as error:
                    if isinstance(error, ssl.SSLCertVerificationError):
                        raise self._give_up(f"{error.verify_message}", "") from error
                    reason = error.strerror or str(error) or type(error).__name__
                if self._clock() - begun > self._patience:
                    raise self._give_up(reason, "The same command continues once it answers.")
                self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            if response.status == 401:
                raise StoreError(
                    "the server refuses the token.",
                    where=self._where,
                    remedy="Give the token file of this server: `paretune serve` names it.",
                )
            if part is not None and into is not None and response.body == part:
                part.replace(into)
                return replace(response, body=into)
            return response
        finally:
            if part is not None:
                part.unlink(missing_ok=True)

    def close(self) -> None:
        """See :class:`Transport`."""
        self._transport.close()

    def _give_up(self, reason: str, remedy: str) -> StoreError:
        return StoreError(
            f"the server does not answer ({reason}).", where=self._where, remedy=remedy
        )


def check_url(url: str) -> str:
    """The address of a server, without a slash at its end.

    Raises:
        StudyError: it is none.
    """
    parts = urlsplit(url)
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        valid = False
    if not valid or parts.username or parts.query or parts.fragment:
        raise StudyError(
            "is no address of a server.",
            where=f"--server {url.rpartition('@')[2]}",
            remedy="Write it as `paretune serve` prints it: http://HOST:PORT.",
        )
    return url.rstrip("/")
