"""One process at a time measures costs in a store, its copies included.

The claim of a cost ends when its owner is gone, and a copy that measures may live a moment longer;
and where several processes execute one study, each starts a worker for the next cost, whose imports
would run beside the measurement. So such a worker waits here before it imports anything. The lock
is held by the open file: by the worker and by every copy of it, until the last of them has ended.
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

POLL_SECONDS = 0.05


@contextmanager
def hold_cost_lock(store: Path, stop: StopRequest) -> Iterator[None]:
    """Hold the lock of a store's folder; not where a stop was requested while waiting for it.

    Raises:
        StoreError: the file system has no locks.
    """
    if sys.platform == "win32":  # no copies there; the claims alone keep workers apart
        yield
        return
    descriptor = os.open(store / "checkpoints", os.O_RDONLY)
    try:
        while not stop.requested and not _take(descriptor, store):
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, store: Path) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"the file system cannot lock ({error.strerror or error}).",
            where=str(store),
            remedy="Move the store to a local disk.",
        ) from error
    return True
