"""Executes a study on a cluster: this process owns the store, and tasks get runs as values.

Claims, leases and results are those of this process. So if it is killed, its runs are claimable at
once; if a node is lost, they go on elsewhere from the last checkpoint that they sent; and no node
needs to reach the store.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paretune.errors import ParetuneError, StaleClaimError
from paretune.execution.claims import Leases, finish_run
from paretune.execution.cluster.assignment import (
    Assignment,
    Done,
    Event,
    Learned,
    ProgressReport,
    StudyInputs,
    TaskEnded,
)
from paretune.execution.executor import StudyCallbacks, StudyLoop, StudySummary, stop_gently
from paretune.execution.memory_budget import (
    ISOLATED_PREFIX,
    MEMORY_PREFIX,
    NO_FLEET_PREFIXES,
    list_solo_runs,
)
from paretune.execution.progress import describe_run
from paretune.execution.signals import interrupt_on_signals
from paretune.execution.worker_crashes import WorkerCrashes
from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.files import write_atomically
from paretune.owner import current_owner
from paretune.store import Claim, RunStatus, Storage
from paretune.study import Run
from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from paretune.execution.cluster.ray_cluster import RayCluster

STOP_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class ClusterExecutor:
    """Tasks on a cluster; see :class:`~paretune.execution.executor.Executor`.

    Attributes:
        open_cluster: opens the cluster for one call of :meth:`execute`
            (:func:`~paretune.execution.cluster.ray_cluster.open_ray`).
        inputs: what the runs of the study read.
        tasks: at most so many train at once; None: as many as the cluster has places for.
    """

    open_cluster: Callable[[], AbstractContextManager[RayCluster]]
    settings: WorkerSettings = DEFAULT_SETTINGS
    inputs: StudyInputs = field(default_factory=StudyInputs)
    tasks: int | None = None

    def execute(self, store: Storage, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        """See :class:`~paretune.execution.executor.Executor`."""
        with (
            self.open_cluster() as cluster,
            interrupt_on_signals(),  # after: connecting to a cluster may handle them in its own way
            Leases(store, self.settings.lease_seconds) as leases,
        ):
            tasks = _Tasks(self, store, study_hash, cluster, leases, callbacks.observer.note)
            loop = StudyLoop(
                store, study_hash, callbacks, self.settings.stages, tasks.count_places()
            )
            try:
                summary = loop.run(tasks.collect, tasks.start)
                tasks.stop()  # at a deadline; otherwise none is left
                return summary
            except (KeyboardInterrupt, OSError):  # OSError: nobody reads what is printed
                stop_gently(callbacks.observer.note, cluster.request_stop, tasks.wait, tasks.end)
                raise
            finally:
                tasks.end()


@dataclass
class _Tasks:
    """The tasks of one call: what is claimed for them, and what becomes of it.

    ``_claims``: of the runs in hand, by run id.
    """

    executor: ClusterExecutor
    store: Storage
    study_hash: str
    cluster: RayCluster
    leases: Leases
    note: Callable[[str], None]
    _assignments: dict[int, Assignment] = field(default_factory=dict)
    _claims: dict[str, Claim] = field(default_factory=dict)
    _submitted: int = 0

    def __post_init__(self) -> None:
        self._crashes = WorkerCrashes(self.store, self.note)

    def count_places(self) -> int:
        """How many tasks train at once."""
        return self.executor.tasks or self.cluster.count_places(self.executor.settings)

    # What has happened

    def collect(self) -> None:
        """Take in what the tasks have sent.

        Raises:
            ParetuneError: a node can execute none of the runs.
            StoreError: the store cannot be written.
        """
        self.leases.check()
        for event in self.cluster.collect():
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, TaskEnded):
            self._end_task(event)
        elif isinstance(event, Learned):
            self.store.set_setting(event.key, event.value)
        elif (claim := self._claims.get(event.run_id)) is None:
            return  # of a task that was given up
        elif isinstance(event, ProgressReport):
            if event.checkpoint is not None:
                write_atomically(self.store.checkpoint_path(event.run_id), event.checkpoint)
            with contextlib.suppress(StaleClaimError):  # the end of the run is refused, and noted
                self.leases.report(event.run_id, event.progress)
        else:
            self._let_go(event.run_id)
            try:
                if isinstance(event, Done):
                    finish_run(self.store, self.study_hash, claim, event.outcome, self.note)
                else:
                    self.store.fail(claim, event.kind, event.message, event.measured)
            except StaleClaimError as error:
                self.note(f"{describe_run(claim.run)}: {error}")

    def _let_go(self, run_id: str) -> Claim:
        """Renew the claim no longer, its progress kept."""
        claim = self._claims.pop(run_id)
        if (progress := self.leases.drop(run_id)) is not None:
            with contextlib.suppress(StaleClaimError):
                self.store.renew(claim, progress)
        return claim

    def _end_task(self, end: TaskEnded) -> None:
        assignment = self._assignments.pop(end.number, None)
        if assignment is None:
            return
        claims = [self._let_go(run_id) for run_id in assignment.runs if run_id in self._claims]
        if end.lost:
            runs = pluralise(len(claims), "run")
            self.note(f"Node {end.node or '?'} is lost; {runs} of it go on elsewhere.")
        elif end.crash is not None:
            in_hand = {claim.run_id for claim in claims}
            statuses = self.store.load_statuses(self.study_hash)
            self._crashes.blame(
                [s for s in statuses if s.run_id in in_hand and s.state == "running"],
                end.crash,
                out_of_memory=end.out_of_memory,
                neighbours=0 if assignment.whole_node else max(1, len(self._assignments)),
            )
        for claim in claims:
            self.store.release(claim)
        if end.refusal is not None:
            raise ParetuneError(end.refusal, where=f"node {end.node}")

    # What is to be done

    def start(self, waiting: Sequence[RunStatus]) -> None:
        """Hand out what there is a place for; training goes before costs, one after the other."""
        training = tuple(stage for stage in self.executor.settings.stages if stage != "cost")
        if any(status.stage != "cost" for status in waiting):
            places = self.count_places()
            while len(self._assignments) < places and (first := self._claim(training)):
                self._submit([first, *self._claim_fleet(first, places)])
        elif not self._assignments and (cost := self._claim(("cost",))):
            self._submit([cost])

    def _claim(self, stages: tuple[str, ...]) -> Claim | None:
        return self.store.claim(
            current_owner(), self.study_hash, stages, self.executor.settings.lease_seconds
        )

    def _claim_fleet(self, first: Claim, places: int) -> list[Claim]:
        """Claim what may train with the first run; its node finds out whether that pays."""
        limit = self.executor.settings.fleet_size - 1
        left_alone = list_solo_runs(self.store)
        if limit < 1 or first.run_id in left_alone:
            return []
        from paretune.training.fleet import can_join_fleet, fleet_key

        if not can_join_fleet(first.run):
            return []
        key = fleet_key(first.run)

        def matches(run_id: str, run: Run) -> bool:
            return run_id not in left_alone and can_join_fleet(run) and fleet_key(run) == key

        return self.store.claim_matching(
            first.owner,
            self.study_hash,
            matches,
            limit=limit,
            workers=places,
            lease_seconds=first.lease_seconds,
        )

    def _submit(self, claims: Sequence[Claim]) -> None:
        self._submitted += 1
        settings, checkpoints, needs = {}, {}, [0]
        for claim in claims:
            self._claims[claim.run_id] = claim
            self.leases.add(claim)
            for prefix in NO_FLEET_PREFIXES:
                if (value := self.store.get_setting(key := f"{prefix}{claim.run_id}")) is not None:
                    settings[key] = value
            with contextlib.suppress(FileNotFoundError):
                checkpoints[claim.run_id] = self.store.checkpoint_path(claim.run_id).read_bytes()
            needs.append(int(self.store.get_setting(f"{MEMORY_PREFIX}{claim.run_id}") or 0))
        isolated = any(key.startswith(ISOLATED_PREFIX) for key in settings)
        whole_node = isolated or any(claim.run.stage == "cost" for claim in claims)
        # Predicted memory is that of the GPU where there is one, and Ray counts that of the host.
        on_cpu = self.executor.settings.device == "cpu"
        assignment = Assignment(
            self._submitted,
            {claim.run_id: claim.run for claim in claims},
            self.executor.settings,
            self.executor.inputs,
            stored_settings=settings,
            checkpoints=checkpoints,
            memory_bytes=max(needs) if on_cpu and not whole_node else 0,
            whole_node=whole_node,
        )
        self._assignments[assignment.number] = assignment
        self.cluster.submit(assignment)

    # The end

    def stop(self) -> None:
        """Give the runs of all tasks back, with what they have trained."""
        if self._assignments:
            self.cluster.request_stop()
            self.wait()

    def wait(self) -> None:
        """Take in what the tasks send until all have ended."""
        while self._assignments:
            self.collect()
            time.sleep(STOP_POLL_SECONDS)

    def end(self) -> None:
        """End all tasks that are left, and give their runs back."""
        if self._assignments:
            self.cluster.cancel()
        self._assignments.clear()
        for run_id in list(self._claims):
            self.store.release(self._let_go(run_id))
