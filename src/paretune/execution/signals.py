"""Stopping: by a signal, or because the parent process is gone.

Five signals request a stop: SIGINT (Ctrl-C), SIGTERM, SIGQUIT, SIGHUP (the terminal is closed) and
SIGUSR1 (which a cluster's scheduler sends before the end of a job's time). Where SIGHUP is ignored,
as under ``nohup``, it stays so.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from paretune.owner import process_exists
from paretune.training.interruption import interrupt

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
KILL_SIGNAL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Ends a process that cannot react; Windows ends it by SIGTERM already."""
REPEAT_SECONDS = 5.0
"""Pause between two signals to a worker: an exception raised in a library's callback can be
lost."""
KILL_AFTER_SECONDS = 60.0
"""A worker whose parent is gone, and which does not end by itself, is killed after this time."""


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Every stop signal interrupts as Ctrl-C does; a closed terminal does so once.

    Outside the main thread, which alone receives signals, nothing changes.

    Raises:
        KeyboardInterrupt: when one comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def receive(number: int, _: object) -> None:
        if number != signal.SIGINT and number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)  # the kernel and the shell may both send it
        raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in handlers.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, receive)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class StopRequest:
    """Turns stop signals into an interrupt, but only where one is safe.

    Inside :meth:`interruptible` (a run executes) a signal raises KeyboardInterrupt at once;
    elsewhere (the store is written) it only counts as requested. So does the end of ``parent``.
    """

    def __init__(self, parent: int | None = None) -> None:
        self.parent = parent
        self._signalled = False
        self._interruptible = False

    @property
    def requested(self) -> bool:
        """Whether this process is to stop."""
        return self._signalled or (self.parent is not None and not _is_alive(self.parent))

    def install(self) -> None:
        """Handle the signals of this process; to be called in its main thread."""
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.receive)

    def request(self) -> None:
        """Stop at the next :meth:`check`; from any thread."""
        self._signalled = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested.

        Raises:
            KeyboardInterrupt: also where the one raised by the signal was lost in a callback.
        """
        if self.requested:
            interrupt()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Where a signal may interrupt at any instruction."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside :meth:`interruptible`: where a signal waits, because the store is written."""
        before, self._interruptible = self._interruptible, False
        try:
            yield
        finally:
            self._interruptible = before
        self.check()

    def receive(self, *_: object) -> None:
        """The handler of a signal: stop now where that is safe, otherwise as :meth:`request`."""
        self._signalled = True
        if self._interruptible:
            interrupt()


def stop_when_orphaned(parent: int) -> None:
    """Send this process SIGTERM as soon as ``parent`` is no longer its parent.

    So workers of a parent that was killed give their runs back instead of going on unseen. One that
    cannot is killed after :data:`KILL_AFTER_SECONDS`; its run goes on from its last checkpoint.
    """

    def watch() -> None:
        while _is_alive(parent):
            time.sleep(0.2)
        deadline = time.monotonic() + KILL_AFTER_SECONDS
        while time.monotonic() < deadline:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(REPEAT_SECONDS)
        os.kill(os.getpid(), KILL_SIGNAL)

    threading.Thread(target=watch, daemon=True).start()


def _is_alive(parent: int) -> bool:
    if sys.platform == "win32":  # a process whose parent has ended keeps its number there
        return process_exists(parent)
    return os.getppid() == parent
