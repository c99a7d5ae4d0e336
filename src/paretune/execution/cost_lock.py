"""Costs are measured one at a time, each in a process that has executed no other run.

Where several processes execute one study, each starts a worker for the next cost, whose imports
would run beside the measurement. So such a worker waits for a lock before it imports anything. The
lock is held by the open file, until the worker has ended.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paretune.errors import StoreError
from paretune.execution.signals import StopRequest

LOCK_POLL_SECONDS = 0.05


@contextmanager
def hold_cost_lock(store: Path, stop: StopRequest) -> Iterator[None]:
    """Hold the lock of a store's folder; not where a stop was requested while waiting for it.

    Raises:
        StoreError: the file system has no locks.
    """
    if sys.platform == "win32":  # the claims alone keep workers apart there
        yield
        return
    import fcntl

    descriptor = os.open(store / "checkpoints", os.O_RDONLY)
    try:
        while not stop.requested:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOCK_POLL_SECONDS)
            except OSError as error:
                raise StoreError(
                    f"the file system cannot lock ({error.strerror or error}).",
                    where=str(store),
                    remedy="Move the store to a local disk.",
                ) from error
        yield
    finally:
        os.close(descriptor)
