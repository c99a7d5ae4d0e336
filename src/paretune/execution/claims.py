"""The claims of this process: renewed while their runs are executed, and then ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self, cast

from paretune.errors import StaleClaimError, StoreError
from paretune.execution.progress import describe_run
from paretune.execution.signals import StopRequest
from paretune.store import Claim, Store
from paretune.store.encoding import to_canonical_json
from paretune.store.record import Measurements
from paretune.training import Outcome

PROGRESS_SECONDS = 2.0
REPEAT_PREFIX = "again/"
"""A setting of the store for a cost that is measured again: what was measured first."""


class Leases:
    """Renews claims from one thread, with its own connection; a context manager.

    The thread writes progress at most every two seconds, and renews each claim some four times in a
    lease. Nothing is locked, since a signal may interrupt a report at any instruction: each step is
    one operation on a dict.

    Args:
        stop: a report raises KeyboardInterrupt where a stop was requested.
    """

    def __init__(self, store: Store, lease_seconds: float, stop: StopRequest | None = None) -> None:
        self._store, self._renewal, self._stop = store, lease_seconds / 4, stop
        self._claims: dict[str, Claim] = {}
        self._progress: dict[str, Mapping[str, Any]] = {}
        self._written: dict[str, Mapping[str, Any] | None] = {}
        self._stale: dict[str, StaleClaimError] = {}
        self._error: StoreError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, claim: Claim) -> Claim:
        """Renew a claim from now on; returns the claim whose ``report`` writes its progress."""
        for kept in (self._progress, self._written, self._stale):
            kept.pop(claim.run_id, None)
        self._claims[claim.run_id] = claim
        return replace(claim, report=partial(self.report, claim.run_id))

    def drop(self, run_id: str) -> Mapping[str, Any] | None:
        """Renew a claim no longer; returns the progress that was not yet written."""
        self._claims.pop(run_id, None)
        progress = self._progress.get(run_id)
        return None if progress is self._written.get(run_id) else progress

    def report(self, run_id: str, progress: Mapping[str, Any]) -> None:
        """Take the newest progress; cheap, to be called after every step.

        Raises:
            KeyboardInterrupt: a stop was requested.
            StaleClaimError: the lease was lost; the run must not go on here.
            StoreError: the store cannot be written.
        """
        if self._stop is not None:
            self._stop.check()
        self.check()
        if run_id in self._stale:
            raise self._stale[run_id]
        self._progress[run_id] = {**self._progress.get(run_id, {}), **progress}

    def check(self) -> None:
        """Raise StoreError where the store could not be written."""
        if self._error is not None:
            raise self._error

    def _renew_until_stopped(self) -> None:
        renewed = time.monotonic()
        try:
            with Store.open(self._store.folder) as store:
                while not self._stopped.wait(min(PROGRESS_SECONDS, self._renewal / 2)):
                    due = time.monotonic() - renewed >= self._renewal
                    renewed = time.monotonic() if due else renewed
                    for run_id, claim in list(self._claims.items()):
                        progress = self._progress.get(run_id)
                        if due or progress is not self._written.get(run_id):
                            try:
                                store.renew(claim, progress)
                            except StaleClaimError as error:
                                self._stale[run_id] = error
                            self._written[run_id] = progress
        except StoreError as error:
            self._error = error


def finish_run(
    store: Store,
    study_hash: str,
    claim: Claim,
    outcome: Outcome,
    warn: Callable[[str], None],
) -> None:
    """Write what a run has left; give back a cost that is to be measured once more.

    Args:
        warn: told where another worker has taken the run, whose result then counts.
    """
    try:
        if claim.run.stage == "cost" and needs_repeat(store, study_hash, claim, outcome):
            store.release(claim)
        else:
            store.finish(claim, outcome.result, outcome.measured, outcome.blobs)
    except StaleClaimError as error:
        warn(f"{describe_run(claim.run)}: {error}")


def fail_run(
    store: Store,
    claim: Claim,
    kind: str,
    message: str,
    measured: Mapping[str, Any],
    warn: Callable[[str], None],
) -> None:
    """Record what stopped a run; ``warn``: as of :func:`finish_run`."""
    try:
        store.fail(claim, kind, message, measured)
    except StaleClaimError as error:
        warn(f"{describe_run(claim.run)}: {error}")


def needs_repeat(store: Store, study_hash: str, claim: Claim, outcome: Outcome) -> bool:
    """Whether a cost that the study's own steps contradict is to be measured once more.

    Something else may have used the machine at that moment. The faster of two measurements is
    kept, since other load only makes a step slower. If that is contradicted too, the report shows
    what contradicts it. The measurement that is kept is written into ``outcome``.
    """
    from paretune.analysis.pareto.costs import find_contradiction

    def median(measured: Mapping[str, Any]) -> float:
        return float(measured["step_seconds"]["median"])

    key = f"{REPEAT_PREFIX}{claim.run_id}"
    stored = store.get_setting(key)
    cell = [r for r in store.load_records(study_hash) if r.run.cell == claim.run.cell]
    contradicted = find_contradiction(cast(Measurements, outcome.measured), claim.run, cell)
    if contradicted and stored is None:
        store.set_setting(key, to_canonical_json(outcome.measured, "measured"))
        return True
    if stored is not None:
        faster, slower = sorted((outcome.measured, json.loads(stored)), key=median)
        outcome.measured = {**faster, "measured_again": {"other_step_seconds": median(slower)}}
        contradicted = find_contradiction(cast(Measurements, outcome.measured), claim.run, cell)
    if contradicted:
        outcome.measured["contradicted"] = contradicted
    return False
