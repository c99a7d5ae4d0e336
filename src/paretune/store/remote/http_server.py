"""HTTP in front of a service: uvicorn (extra ``serve``), one address, in a thread of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from paretune.atomic_write import part_path
from paretune.errors import MissingDependencyError, StudyError
from paretune.store.remote.messages import Request, Response
from paretune.store.remote.service import StoreService

SPOOL_BYTES = 1 << 20
"""A body that is larger is written to a file while it comes."""
MAX_CONNECTIONS = 2000
_CHUNK_BYTES = 1 << 18
_STOP_SECONDS = 5.0

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class HttpServer:
    """Serves a service at one address while its context is open.

    Args:
        host: the address of one interface.
        port: 0 for any that is free.

    Raises:
        MissingDependencyError: uvicorn is not installed.
        StudyError: the address names every interface, or cannot be bound.
    """

    def __init__(self, service: StoreService, host: str, port: int) -> None:
        try:
            import uvicorn
        except ImportError as error:
            raise MissingDependencyError(
                "serving needs uvicorn, which is not installed.",
                remedy="pip install uvicorn",
            ) from error
        self._socket = _bind(host, port)
        self._host = host
        self._server = uvicorn.Server(
            uvicorn.Config(
                _Application(service),
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(_STOP_SECONDS),
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="paretune-http", daemon=True
        )

    @property
    def url(self) -> str:
        """Where workers find it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(2 * _STOP_SECONDS)
        self._socket.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = addresses[0]
        if ipaddress.ip_address(str(address[0])).is_unspecified:
            raise StudyError(
                "is every interface of this machine.",
                where=f"--host {host}",
                remedy="Name the address of one, such as that of the cluster's own network.",
            )
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a machine has such letters
        raise _bind_error(host, port, error) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(1024)
    except OSError as error:
        bound.close()
        raise _bind_error(host, port, error) from error
    return bound


def _bind_error(host: str, port: int, error: OSError | UnicodeError) -> StudyError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return StudyError(
        f"cannot be served at ({reason}).",
        where=f"{host}:{port}",
        remedy="Choose another --port, or an address of this machine as --host.",
    )


class _Application:
    """The ASGI application: the token is looked at before a body is taken."""

    def __init__(self, service: StoreService) -> None:
        self._service = service

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        request = Request(scope["method"], scope["path"], b"", headers)
        if not self._service.is_authorised(request):
            await _send(send, self._service.answer(request), with_body=True)
            return
        parts = self._service.folder / "blobs" / "part"
        parts.mkdir(parents=True, exist_ok=True)
        spool = part_path(parts / "body")
        try:
            body = await _receive_body(receive, spool)
            if body is None:
                return  # the client is gone
            request = Request(request.method, request.path, body, headers)
            response = await asyncio.wrap_future(self._service.submit(request))
            await _send(send, response, with_body=request.method != "HEAD")
        finally:
            spool.unlink(missing_ok=True)


async def _receive_body(receive: Receive, spool: Path) -> bytes | Path | None:
    """The body of a request; a large one in the file. None: the connection was closed."""
    chunks, size, file = list[bytes](), 0, None
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size += len(chunk)
            if file is None and size > SPOOL_BYTES:
                file = spool.open("wb")
                file.writelines(chunks)
            if file is None:
                chunks.append(chunk)
            else:
                await asyncio.to_thread(file.write, chunk)
            if not message.get("more_body"):
                return b"".join(chunks) if file is None else spool
    finally:
        if file is not None:
            file.close()


async def _send(send: Send, response: Response, *, with_body: bool) -> None:
    body = response.body
    size = body.stat().st_size if isinstance(body, Path) else len(body)
    kind = b"application/octet-stream" if isinstance(body, Path) else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(body, Path) and with_body:
        with body.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send(
        {
            "type": "http.response.body",
            "body": body if isinstance(body, bytes) and with_body else b"",
        }
    )
