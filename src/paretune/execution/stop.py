"""Being told to stop: by a signal, or because the process that started this one is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Turns SIGTERM and SIGINT into an interrupt, but only where one is safe.

    Inside :meth:`interruptible` (a run executes) a signal raises KeyboardInterrupt at once;
    elsewhere (the store is written) it is only noted in ``asked``.
    """

    def __init__(self) -> None:
        self.asked = False
        self._interruptible = False

    def install(self) -> None:
        """Take over both signals of this process; to be called in its main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was asked for.

        Raises:
            KeyboardInterrupt: also where the one raised by the signal was lost in a callback.
        """
        if self.asked:
            raise KeyboardInterrupt

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

    def _receive(self, *_: object) -> None:
        self.asked = True
        if self._interruptible:
            raise KeyboardInterrupt


def stop_without(parent: int) -> None:
    """Send this process SIGTERM as soon as ``parent`` is no longer its parent.

    So workers of a parent that was killed give their runs back instead of going on unseen.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
