"""Keeps a claim alive while a run executes, however long one of its steps takes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from paretune.errors import StoreError
from paretune.store import Claim, Storage

PROGRESS_SECONDS = 2.0


class Lease:
    """Renews a claim from a thread of its own, with its own connection; a context manager.

    The thread writes progress at most every two seconds, and renews at least four times in a
    lease. Where the run has passed to another worker, or the store cannot be written, the next
    :meth:`report` raises that error.
    """

    def __init__(self, store: Storage, claim: Claim) -> None:
        self._store, self._claim = store, claim
        self._latest: dict[str, Any] | None = None
        self._error: StoreError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def report(self, progress: Mapping[str, Any]) -> None:
        """Take the newest progress; cheap, to be called after every step.

        Raises:
            StaleClaimError: the lease was lost; the run must not go on here.
            StoreError: the store cannot be written.
        """
        if self._error is not None:
            raise self._error
        self._latest = {**(self._latest or {}), **progress}

    def _renew_until_stopped(self) -> None:
        renewal = self._claim.lease_seconds / 4
        pause = min(renewal, PROGRESS_SECONDS)
        written, idle = None, 0.0
        try:
            with self._store.reopen() as store:
                while not self._stopped.wait(pause):
                    latest, idle = self._latest, idle + pause
                    if latest is not written or idle >= renewal:
                        store.renew(self._claim, latest)
                        written, idle = latest, 0.0
        except StoreError as error:
            self._error = error
