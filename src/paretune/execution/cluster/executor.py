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
from importlib.metadata import version
from typing import TYPE_CHECKING

from paretune.errors import ParetuneError, StaleClaimError
from paretune.execution.claims import Leases, finish_run
from paretune.execution.cluster.assignment import (
    Assignment,
    Checkpoint,
    Done,
    Event,
    Failed,
    Learned,
    Progress,
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
class Needs:
    """What a task takes of its node.

    Attributes:
        memory_bytes: of the host; 0: not known.
        whole_node: it runs with nothing beside it. All tasks that measure costs get the same node.
    """

    threads: int = 1
    gpus: int = 0
    memory_bytes: int = 0
    whole_node: bool = False


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
            places = self.tasks or cluster.count_places(tasks.usual_needs)
            loop = StudyLoop(store, study_hash, callbacks, self.settings.stages, places)
            try:
                summary = loop.run(tasks.collect, tasks.start)
                tasks.give_back()  # at a deadline; otherwise none is left
                return summary
            except (KeyboardInterrupt, OSError):  # OSError: nobody reads what is printed
                request, wait, kill = cluster.request_stop, tasks.wait, tasks.end
                stop_gently(callbacks.observer.note, request, wait, kill)
                raise
            finally:
                tasks.end()


@dataclass
class _Task:
    """A task, with the claims of its runs that have not ended."""

    claims: dict[str, Claim]
    needs: Needs


@dataclass
class _Tasks:
    """The tasks of one call: what is claimed for them, and what becomes of it."""

    executor: ClusterExecutor
    store: Storage
    study_hash: str
    cluster: RayCluster
    leases: Leases
    note: Callable[[str], None]
    _tasks: dict[int, _Task] = field(default_factory=dict)
    _submitted: int = 0

    def __post_init__(self) -> None:
        self._crashes = WorkerCrashes(self.store, self.note)
        gpus = int(self.executor.settings.device.startswith("cuda"))
        self.usual_needs = Needs(self.executor.settings.threads, gpus)

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
        elif isinstance(event, Progress):
            with contextlib.suppress(StaleClaimError):  # the end of the task is refused, and noted
                self.leases.report(event.run_id, event.progress)
        elif (claim := self._claim_of(event.run_id)) is None:
            return  # of a task that was given up
        elif isinstance(event, Checkpoint):
            write_atomically(self.store.checkpoint_path(event.run_id), event.content)
        else:
            self._end_run(claim, event)

    def _end_run(self, claim: Claim, event: Done | Failed) -> None:
        self.leases.drop(claim.run_id)
        for task in self._tasks.values():
            task.claims.pop(claim.run_id, None)
        try:
            if isinstance(event, Failed):
                self.store.fail(claim, event.kind, event.message, event.measured)
            else:
                finish_run(self.store, self.study_hash, claim, event.outcome, self.note)
        except StaleClaimError as error:
            self.note(f"{describe_run(claim.run)}: {error}")

    def _end_task(self, end: TaskEnded) -> None:
        task = self._tasks.pop(end.number, None)
        if task is None:
            return
        for claim in task.claims.values():
            if (progress := self.leases.drop(claim.run_id)) is not None:
                with contextlib.suppress(StaleClaimError):
                    self.store.renew(claim, progress)
        if end.lost:
            runs = pluralise(len(task.claims), "run")
            self.note(f"Node {end.node or '?'} is lost; {runs} of it go on elsewhere.")
        elif end.crash is not None:
            statuses = self.store.load_statuses(self.study_hash)
            in_hand = [s for s in statuses if s.run_id in task.claims and s.state == "running"]
            neighbours = 0 if task.needs.whole_node else max(1, len(self._tasks))
            self._crashes.blame(
                in_hand, end.crash, out_of_memory=end.out_of_memory, neighbours=neighbours
            )
        for claim in task.claims.values():
            self.store.release(claim)
        if end.refusal is not None:
            raise ParetuneError(end.refusal, where=f"node {end.node}")

    def _claim_of(self, run_id: str) -> Claim | None:
        return next((t.claims[run_id] for t in self._tasks.values() if run_id in t.claims), None)

    # What is to be done

    def start(self, waiting: Sequence[RunStatus]) -> None:
        """Hand out what there is a place for; training goes before costs, one after the other."""
        training = tuple(stage for stage in self.executor.settings.stages if stage != "cost")
        if any(status.stage != "cost" for status in waiting):
            places = self.executor.tasks or self.cluster.count_places(self.usual_needs)
            while len(self._tasks) < places and (first := self._claim(training)):
                self._submit([first, *self._claim_fleet(first, places)])
        elif not self._tasks and (cost := self._claim(("cost",))):
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
        for claim in claims:
            self.leases.add(claim)
        self._submitted += 1
        settings = {
            key: value
            for claim in claims
            for prefix in NO_FLEET_PREFIXES
            if (value := self.store.get_setting(key := f"{prefix}{claim.run_id}")) is not None
        }
        checkpoints = {}
        for claim in claims:
            with contextlib.suppress(FileNotFoundError):
                checkpoints[claim.run_id] = self.store.checkpoint_path(claim.run_id).read_bytes()
        assignment = Assignment(
            self._submitted,
            version("paretune"),
            {claim.run_id: claim.run for claim in claims},
            self.executor.settings,
            stored_settings=settings,
            checkpoints=checkpoints,
            inputs=self.executor.inputs.select(claim.run for claim in claims),
        )
        needs = self._needs(assignment)
        self._tasks[assignment.number] = _Task({c.run_id: c for c in claims}, needs)
        self.cluster.submit(assignment, needs)

    def _needs(self, assignment: Assignment) -> Needs:
        usual, ids = self.usual_needs, list(assignment.runs)
        isolated = any(f"{ISOLATED_PREFIX}{run_id}" in assignment.stored_settings for run_id in ids)
        if assignment.measures_cost or isolated:
            return Needs(usual.threads, usual.gpus, whole_node=True)
        if usual.gpus:
            return usual  # predicted memory is that of the GPU
        needs = [self.store.get_setting(f"{MEMORY_PREFIX}{run_id}") for run_id in ids]
        return Needs(usual.threads, usual.gpus, max(int(size or 0) for size in needs))

    # The end

    def give_back(self) -> None:
        """Give the runs of all tasks back, with what they have trained."""
        if self._tasks:
            self.cluster.request_stop()
            self.wait()

    def wait(self) -> None:
        """Take in what the tasks send until all have ended."""
        while self._tasks:
            self.collect()
            time.sleep(STOP_POLL_SECONDS)

    def end(self) -> None:
        """End all tasks that are left, and give their runs back."""
        if self._tasks:
            self.cluster.cancel()
        for task in self._tasks.values():
            for claim in task.claims.values():
                self.leases.drop(claim.run_id)
                self.store.release(claim)
        self._tasks.clear()
