"""Storage: what executors, workers and planning need of a place that keeps runs.

:class:`~paretune.store.store.Store` (SQLite and a folder of blobs) is the implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from paretune.store.record import Claim, Record, RunStatus
from paretune.study import Run

MayStart = Callable[[str, Sequence[Sequence[str]]], bool]
"""``(run_id, run ids of each worker) -> bool``: whether a run may start beside those."""
Matches = Callable[[str, Run], bool]
"""``(run_id, run) -> bool``: whether a run belongs to a group."""


class WorkerStorage(Protocol):
    """The part of a :class:`Storage` that a worker uses."""

    def claim(
        self,
        owner: str,
        study_hash: str,
        stages: tuple[str, ...] | None = None,
        lease_seconds: float = 60.0,
        may_start: MayStart | None = None,
    ) -> Claim | None:
        """Claim the first claimable run of the study, in its order; None where there is none.

        Args:
            owner: see :func:`paretune.owner.current_owner`.
            stages: only runs of these stages; None for all.
            lease_seconds: how long the claim holds without :meth:`renew`.
            may_start: of a run and of those that each worker executes now on the owner's device,
                in any study of the storage: whether it may start beside them.
        """

    def claim_matching(
        self,
        owner: str,
        study_hash: str,
        matches: Matches,
        *,
        limit: int,
        workers: int = 1,
        lease_seconds: float = 60.0,
    ) -> list[Claim]:
        """Claim up to ``limit`` claimable runs that match, in the order of the study.

        At most one part in ``workers`` of them, rounded up, so that each worker gets its part.
        """

    def renew(self, claim: Claim, progress: Mapping[str, Any] | None = None) -> None:
        """Prolong the lease and, where given, keep the progress.

        Raises:
            StaleClaimError: the run has passed to another worker.
        """

    def finish(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        measured: Mapping[str, Any],
        blobs: Mapping[str, bytes],
    ) -> None:
        """End the run as done, its checkpoint deleted.

        ``result[name]`` becomes the sha256 of ``blobs[name]``.

        Raises:
            StaleClaimError: the run has passed to another worker; nothing was changed.
            ValueError: a NaN or a value that is not plain, or a name that both have.
        """

    def fail(self, claim: Claim, kind: str, message: str, measured: Mapping[str, Any]) -> None:
        """End the run as failed, its checkpoint deleted; ``kind``: ``error``, ``out_of_memory``.

        Raises:
            StaleClaimError: the run has passed to another worker; nothing was changed.
        """

    def release(self, claim: Claim) -> bool:
        """Give the run back as todo, its checkpoint kept; False where the claim is stale."""

    def load_records(self, study_hash: str, predictions: bool = False) -> list[Record]:
        """The records of ended runs, in order; with ``predictions``, theirs are loaded too."""

    def get_setting(self, key: str) -> str | None:
        """A value kept beside the runs, or None."""

    def get_settings(self, prefix: str) -> dict[str, str]:
        """The values of all keys that begin with ``prefix``, by the rest of the key."""

    def set_setting(self, key: str, value: str) -> None:
        """Keep a value."""

    def checkpoint_path(self, run_id: str) -> Path:
        """Where the run's checkpoint lies while it is running; in a folder that exists."""

    def reopen(self) -> AbstractContextManager[Self]:
        """Another handle on the same storage, for another thread; closed when the block ends."""


class Storage(WorkerStorage, Protocol):
    """A place that keeps studies, their runs, and what the runs leave.

    A run goes ``todo -> running -> done | failed``. These hold for every implementation:

    - Every method is one transaction: other processes see all of it or nothing.
    - Several processes may use one storage; a handle belongs to one thread (:meth:`reopen`).
    - A run is claimed by one owner at a time. A claim ends when the run is finished, failed or
      released, when its lease runs out without :meth:`renew`, or when its owner is provably dead.
    - Only the holder of the latest claim of a run writes to it: ``attempt`` counts the claims, and
      an older one raises :class:`~paretune.errors.StaleClaimError` and changes nothing.
    - A run that is done never changes. Result and state change together.
    - A run of stage ``cost`` is claimed only while nothing runs that would disturb it, and while it
      runs nothing is claimed that would: what is on the same device of the same machine, for a
      cost on a CPU all that is on the machine, and what is at a place that is not known
      (:func:`paretune.owner.place_of`).
    - Values come back as they were written: floats bit for bit, texts as they are. NaN, infinities
      and values that JSON does not have raise ``ValueError`` and change nothing.
    - Run ids are shared: a run that two studies ask for is one run.
    """

    @property
    def folder(self) -> Path:
        """By which another process opens it; checkpoints lie in it."""

    def save_study(
        self, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
    ) -> None:
        """Keep a study: the canonical form that its hash belongs to, and a text beside it."""

    def add_runs(self, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
        """Add runs to a study in the given order, behind those it has.

        Returns:
            How many are new to the study.
        """

    def retry(self, study_hash: str) -> int:
        """Make todo again, from the beginning, what failed; return how many."""

    def load_statuses(self, study_hash: str, owner: str | None = None) -> list[RunStatus]:
        """The status of every run of the study, in order.

        Args:
            owner: who would claim a run that is claimable; None: somebody at a place that is not
                known, who claims no cost beside any other run.
        """

    def set_settings(self, values: Mapping[str, str]) -> None:
        """Keep several values, all or none."""

    def set_default_setting(self, key: str, value: str) -> str:
        """Keep a value unless there is one; return the one that is kept."""

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content, its hash verified.

        Raises:
            StoreError: missing or damaged.
        """
