"""Workers that begin with their libraries imported: copies of one process that did nothing else.

Starting a process costs seconds, nearly all for importing libraries. So one process, the fork
server, imports them while the parent plans, computes nothing, starts no thread, and is forked for
every worker. It ends with the parent, and its workers when it is gone. A copy that measures a cost
begins with the same memory as a process that was started, since peaks count from after the imports
anyway (:mod:`paretune.measuring.memory`). Only on Linux and a CPU: elsewhere a process with these
libraries may not be forked, and every worker is started.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from paretune.measuring.processor import defer_collection

SERVE = "serve"
"""In place of a store's folder: the worker is a fork server, behind it its socket's descriptor."""
POLL_SECONDS = 0.02
MAX_MESSAGE_BYTES = 2**16
GONE = (BrokenPipeError, ConnectionResetError)
"""Errors of a socket whose other end has closed."""
PRELOADED_MODULES = (
    "paretune.execution.cost_probe",
    "paretune.training.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.modeling_utils",
    "transformers.tokenization_utils_tokenizers",
    "sklearn.model_selection",
)
"""Modules that most runs import; none of these starts a thread or computes anything."""


def can_fork(device: str) -> bool:
    """Whether a process with the libraries loaded can be forked here."""
    return sys.platform == "linux" and device == "cpu"


class ForkServer:
    """The parent's side: it starts the server at once, and does not wait for its imports.

    Attributes:
        code: exit code of the server; None while it lives.
        codes: exit codes of workers by process id.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.socket, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the server)
        with server_end:
            self._process = subprocess.Popen(  # noqa: S603 (our own module, by the same interpreter)
                [*command, SERVE, str(server_end.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[server_end.fileno()],
                start_new_session=True,
            )
        self.pid, self.code = self._process.pid, self._process.poll()
        self.codes: dict[int, int] = {}

    def start(self, arguments: Sequence[str], log: IO[bytes]) -> ForkedProcess:
        """Start a worker that prints into a file; of a server that has ended, one that has too."""
        pid = None
        with suppress(*GONE):  # receive() sees it
            socket.send_fds(self.socket, [json.dumps(arguments).encode()], [log.fileno()])
        while pid is None and self.code is None:
            pid = self.receive()
        if pid is None:
            self._log.seek(0)
            log.write(self._log.read())
        return ForkedProcess(self, pid or self.pid)

    def receive(self, flags: int = 0) -> int | None:
        """Receive what the server says; the process id of a worker that has started."""
        message = b""
        with suppress(*GONE):
            message = self.socket.recv(MAX_MESSAGE_BYTES, flags)
        if not message:
            self.code = self._process.wait()
            return None
        pid, code = json.loads(message)
        if code is None:
            return int(pid)
        self.codes[pid] = code
        return None

    def wait(self, seconds: float) -> None:
        """Receive what the server says next; wait no longer than this for it."""
        if select.select([self.socket], [], [], seconds)[0]:
            self.receive()

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self.code = self._process.wait()
        self.socket.close()
        self._log.close()


@dataclass(frozen=True)
class ForkedProcess:
    """A worker that the server has forked, with the methods of ``subprocess.Popen``."""

    server: ForkServer
    pid: int

    def poll(self) -> int | None:
        """Its exit code, or that of its server; None while it works."""
        with suppress(BlockingIOError):
            while self.server.code is None:
                self.server.receive(socket.MSG_DONTWAIT)
        return self.server.codes.get(self.pid, self.server.code)

    def wait(self, timeout: float = math.inf) -> int:
        """Wait for its exit code.

        Raises:
            subprocess.TimeoutExpired: it works on.
        """
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        with suppress(*GONE):  # workers without a server stop by themselves
            self.server.socket.send(json.dumps([self.pid, number]).encode())


def serve(descriptor: int) -> Sequence[str] | None:
    """Import the libraries and fork a worker for every request, until the parent is gone.

    Returns:
        In a worker, its arguments; in the server None, at the end.
    """
    with defer_collection():
        for name in PRELOADED_MODULES:
            # Another version of the library may have it elsewhere: workers find it.
            with suppress(ImportError):
                importlib.import_module(name)
    # A full collection looks at every object of these libraries, half a second each time, and a
    # measurement asks for one before each phase. The present objects are in its baseline.
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    with socket.socket(fileno=descriptor) as parent:
        while True:
            wait_seconds = POLL_SECONDS if children else None
            if select.select([parent], [], [], wait_seconds)[0]:
                message, logs, *_ = socket.recv_fds(parent, MAX_MESSAGE_BYTES, 1)
                if not message:
                    return None
                request = json.loads(message)
                if logs:
                    child = os.fork()
                    if child == 0:
                        os.setsid()  # Ctrl-C reaches the parent alone, which stops them gently
                        os.dup2(logs[0], 1)
                        os.dup2(logs[0], 2)
                        os.close(logs[0])
                        return [str(argument) for argument in request]
                    os.close(logs[0])
                    children.add(child)
                    parent.send(json.dumps([child, None]).encode())
                elif request[0] in children:
                    os.kill(*request)
            for child in list(children):
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    children.remove(child)
                    parent.send(json.dumps([child, os.waitstatus_to_exitcode(status)]).encode())
