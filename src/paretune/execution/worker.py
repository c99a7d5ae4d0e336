"""A worker: claim a run, execute it, write what it left, and again.

A run that fails is recorded as failed and the worker goes on.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.costs.repeat import needs_repeat
from paretune.execution.fleet_claims import (
    ALONE_PREFIX,
    HALVE_PREFIX,
    NO_FLEET_PREFIXES,
    FleetClaims,
)
from paretune.execution.leases import Leases
from paretune.execution.memory_budget import MemoryBudget
from paretune.execution.progress import describe_run
from paretune.execution.run_executor import RunExecutor
from paretune.execution.signals import StopRequest
from paretune.execution.study_loop import POLL_SECONDS
from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.files import is_disk_error
from paretune.measuring.devices import identify_device
from paretune.owner import current_owner
from paretune.store import Claim, Storage
from paretune.terminal import echo
from paretune.training.runs.outcome import FleetOutOfMemoryError

FLEET_OUT_OF_MEMORY_NOTE = "its fleet did not fit in memory, so it was trained alone"
DEVICE_LOST_NOTE = "a CUDA error ended its fleet, so it was trained alone"


def run_worker(
    store: Storage,
    study_hash: str,
    executor: RunExecutor,
    stop: StopRequest,
    settings: WorkerSettings = DEFAULT_SETTINGS,
) -> None:
    """Execute runs until none is left, the limit is reached, or a stop is requested.

    Raises:
        StoreError: the store cannot be used any more.
        DeviceLostError: a CUDA error ended what this process can do.
    """
    _Worker(store, study_hash, executor, stop, settings).run()


@dataclass
class _Worker:
    store: Storage
    study_hash: str
    executor: RunExecutor
    stop: StopRequest
    settings: WorkerSettings

    def run(self) -> None:
        settings, claimed = self.settings, 0
        owner = current_owner(identify_device(settings.device))
        while not self.stop.requested and (settings.limit is None or claimed < settings.limit):
            budget = MemoryBudget.load(self.store, settings.memory_bytes)
            claim = self.store.claim(
                owner,
                self.study_hash,
                settings.stages,
                settings.lease_seconds,
                budget.admits if budget.is_limited else None,
            )
            if claim is not None:
                claimed += 1
                if self._may_join_fleet(claim):
                    self._execute_fleet(claim)
                else:
                    self._execute_alone(claim)
            elif settings.wait:
                if budget.has_refused:
                    self.executor.release_memory()  # others wait for what the cached model takes
                time.sleep(POLL_SECONDS)
            else:
                return

    def _may_join_fleet(self, claim: Claim) -> bool:
        """Whether the run may train with others; one that was too large before may not."""
        settings = self.settings
        if settings.fleet_size < 2 or settings.limit is not None or claim.run.stage == "cost":
            return False
        keys = (f"{prefix}{claim.run_id}" for prefix in NO_FLEET_PREFIXES)
        return not any(self.store.get_setting(key) for key in keys)

    def _execute_fleet(self, first: Claim) -> None:
        """Execute a run and those that train with it; alone where there are none."""
        fleet = FleetClaims(
            self.store,
            self.study_hash,
            self.executor,
            self.settings,
            self.stop,
            _print_error,
        )
        notes: tuple[str, ...] = ()
        try:
            if fleet.gather(first) > 1:
                fleet.execute()
                fleet.stop_renewing()  # of runs that another worker has taken
                return
            claims = fleet.stop_renewing()
        except KeyboardInterrupt:
            for claim in fleet.stop_renewing():
                self.store.release(claim)
            return
        except FleetOutOfMemoryError:
            claims, notes = fleet.stop_renewing(), (FLEET_OUT_OF_MEMORY_NOTE,)
        except StoreError:
            fleet.stop_renewing()
            raise
        except Exception as error:  # noqa: BLE001 (the edge, as of a single run)
            self._end_fleet(fleet.stop_renewing() or [first], error)
            return
        for claim in claims:
            if self.stop.requested:
                self.store.release(claim)
            else:
                self._execute_alone(claim, notes)

    def _end_fleet(self, claims: Sequence[Claim], error: Exception) -> None:
        """Record what stopped a fleet of each of its runs, or give them back to train alone."""
        give_back = len(claims) > 1 and _is_device_lost(error)
        for claim in claims:
            if give_back:  # any of them may be the cause: alone, only that one fails
                self.store.set_setting(f"{ALONE_PREFIX}{claim.run_id}", DEVICE_LOST_NOTE)
                self.store.release(claim)
            else:
                self._fail(claim, error)
        _raise_if_device_lost(error)

    def _execute_alone(self, claim: Claim, notes: tuple[str, ...] = ()) -> None:
        halvings = int(self.store.get_setting(f"{HALVE_PREFIX}{claim.run_id}") or 0)
        if left_fleet := self.store.get_setting(f"{ALONE_PREFIX}{claim.run_id}"):
            notes = (*notes, left_fleet)
        try:
            with (
                Leases(self.store, claim.lease_seconds, self.stop) as leases,
                self.stop.interruptible(),
            ):
                outcome = self.executor.execute(leases.add(claim), halvings)
            if notes:
                outcome.result["notes"] = [*outcome.result.get("notes", []), *notes]
            if claim.run.stage == "cost" and needs_repeat(
                self.store, self.study_hash, claim, outcome
            ):
                self.store.release(claim)
                return
            self.store.finish(claim, outcome.result, outcome.measured, outcome.blobs)
        except KeyboardInterrupt:
            self.store.release(claim)
        except StaleClaimError as error:
            _print_error(f"worker: {describe_run(claim.run)}: {error}")
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 (the edge: one run's defect stops no other)
            self._fail(claim, error)
            _raise_if_device_lost(error)

    def _fail(self, claim: Claim, error: Exception) -> None:
        """Record what stopped a run.

        Raises:
            StoreError: it was the disk, which is no fault of the run: it and its checkpoint stay.
        """
        if is_disk_error(error):
            raise StoreError(
                f"the disk is full or fails ({error}); the run and its last checkpoint stay.",
                where=describe_run(claim.run),
                remedy="Free some space; the same command continues.",
            ) from error
        trace = "".join(traceback.format_exception(error))
        _print_error(trace.rstrip("\n"))
        if isinstance(error, ParetuneError):
            message = str(error)
        else:
            message = f"{type(error).__name__}: {error} {_format_place(error.__traceback__)}"
        measured = {"traceback": _escape_surrogates(trace)}
        try:
            self.store.fail(claim, "error", _escape_surrogates(message), measured)
        except StaleClaimError as stale:
            _print_error(f"worker: {describe_run(claim.run)}: {stale}")


def _is_device_lost(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False  # nobody has used a GPU
    from paretune.training.recovery.out_of_memory import loses_device

    return loses_device(error)


def _raise_if_device_lost(error: Exception) -> None:
    """After an error that leaves this process no GPU, end it: each further run would fail.

    Raises:
        DeviceLostError: it is such an error.
    """
    if _is_device_lost(error):
        raise DeviceLostError(
            "A CUDA error left this process without its GPU.", remedy="Another process goes on."
        ) from error


def _format_place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"(at {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _escape_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _print_error(text: str) -> None:
    echo(text, error=True)
