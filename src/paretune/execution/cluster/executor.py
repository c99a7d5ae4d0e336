"""Executes a study on a cluster: this process owns the store, and tasks get runs as values.

Claims, leases and results are those of this process. So if it is killed, its runs are claimable at
once; if a node is lost, they go on elsewhere from the last checkpoint that they sent; and no node
needs to reach the store.

An :class:`Assignment` goes out; events come back. All of them can be pickled, since Ray sends them
so between its own processes: its cluster is to be trusted as a whole. Datasets and the forgetting
text travel by hash. Models do not: a node must have the same files under the same name. Whether
everything is the same is decided by the runs' own ids, which cover data, model and code
(:meth:`~paretune.training.caches.ProcessCache.identify`).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.data.example import PACKED_ENDING, pack_dataset
from paretune.data.rows import read_bytes
from paretune.errors import ParetuneError, StaleClaimError
from paretune.execution.claims import Leases, finish_run
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
from paretune.planning.prepare import PreparedStudy
from paretune.store import Claim, RunStatus, Store
from paretune.study import ModelSpec, Run
from paretune.study.specs import SHIPPED_LANGUAGES
from paretune.terminal.plural import pluralise
from paretune.training import Outcome

if TYPE_CHECKING:
    from paretune.execution.cluster.ray_cluster import RayCluster

STOP_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class StudyInputs:
    """What the runs of a study read; each file is named by its content.

    Attributes:
        datasets: name of the packed file, by the task's key.
        texts: name of the file of a forgetting text, by its path where the study was planned.
        weights_hashes: of the files of each model.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    weights_hashes: Mapping[ModelSpec, str] = field(default_factory=dict)

    def list_files(self, run: Run) -> set[str]:
        """Names of the files that a run reads."""
        text = "" if run.forgetting is None else run.forgetting.text
        return {self.datasets.get(run.task.key, ""), self.texts.get(text, "")} - {""}

    def relocate(self, run: Run, folder: Path) -> Run:
        """The same run, reading the files in the folder."""
        if run.task.key in self.datasets:
            source = str(folder / self.datasets[run.task.key])
            run = run.model_copy(update={"task": run.task.model_copy(update={"source": source})})
        if run.forgetting is not None and run.forgetting.text in self.texts:
            text = {"text": str(folder / self.texts[run.forgetting.text])}
            run = run.model_copy(update={"forgetting": run.forgetting.model_copy(update=text)})
        return run


def collect_inputs(prepared: PreparedStudy) -> tuple[StudyInputs, dict[str, bytes]]:
    """What the study's runs read, and the content of each file.

    Raises:
        DataError: the forgetting text cannot be read.
    """
    contents: dict[str, bytes] = {}

    def keep(content: bytes, ending: str) -> str:
        name = f"{hashlib.sha256(content).hexdigest()}{ending}"
        contents[name] = content
        return name

    datasets = {key: keep(pack_dataset(d), PACKED_ENDING) for key, d in prepared.datasets.items()}
    texts = {}
    if (text := prepared.study.forgetting) is not None and text not in SHIPPED_LANGUAGES:
        texts[text] = keep(read_bytes(text)[0], "".join(Path(text).suffixes[-1:]))
    hashes = {spec: prepared.sources[spec.key].weights_hash for spec in prepared.models}
    return StudyInputs(datasets, texts, hashes), contents


@dataclass(frozen=True)
class Assignment:
    """Runs for one task: a fleet, or one alone.

    Attributes:
        number: tells the tasks of one process apart.
        settings: of the worker.
        inputs: what the runs of the study read; ``contents`` are the files of these runs, by name.
        stored_settings: of the store, about these runs.
        checkpoints: the newest of each run that has one, by run id.
        memory_bytes: that it takes of the node; 0: not known.
        whole_node: nothing runs beside it. All measurements of costs get the same node.
        version: of paretune where the runs were claimed; a node has the same.
    """

    number: int
    runs: Mapping[str, Run]
    settings: WorkerSettings
    inputs: StudyInputs = field(default_factory=StudyInputs)
    contents: Mapping[str, bytes] = field(default_factory=dict)
    stored_settings: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)
    memory_bytes: int = 0
    whole_node: bool = False
    version: str = field(default_factory=lambda: version("paretune"))

    @property
    def measures_cost(self) -> bool:
        """Whether it is the measurement of a cost."""
        return any(run.stage == "cost" for run in self.runs.values())


@dataclass(frozen=True)
class RunEvent:
    """How far a run is on a node, or how it has ended there.

    Attributes:
        progress: the newest ``step``, ``steps``, ``loss``, ``note``.
        checkpoint: its state, from which another node goes on; None: not sent this time.
        settings: of the store, about this run, such as why it left its fleet.
        outcome: what it has left; None: it has not ended, or has failed.
        failure: kind, message and measurements, as of :meth:`paretune.store.Store.fail`.
    """

    run_id: str
    progress: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: bytes | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    outcome: Outcome | None = None
    failure: tuple[str, str, Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class TaskEnded:
    """A task is over; what it has not ended is given back.

    Attributes:
        number: of its assignment.
        node: where it ran; "" where it never began.
        lost: its node is gone: no fault of its runs.
        crash: how its process ended; None: by itself.
        out_of_memory: the process was ended for lack of memory on its node.
        refusal: why that node can execute none of the study's runs; None: it can.
    """

    number: int
    node: str = ""
    lost: bool = False
    crash: str | None = None
    out_of_memory: bool = False
    refusal: str | None = None


Event = RunEvent | TaskEnded


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

    def execute(self, store: Store, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
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
    store: Store
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
            return
        if event.settings:
            self.store.set_settings(event.settings)
        if (claim := self._claims.get(event.run_id)) is None:
            return  # of a task that was given up
        if event.checkpoint is not None:
            write_atomically(self.store.checkpoint_path(event.run_id), event.checkpoint)
        if event.progress:
            with contextlib.suppress(StaleClaimError):  # the end of the run is refused, and noted
                self.leases.report(event.run_id, event.progress)
        if event.outcome is not None:
            self._let_go(event.run_id)
            finish_run(self.store, self.study_hash, claim, event.outcome, self.note)
        elif event.failure is not None:
            self._let_go(event.run_id)
            try:
                self.store.fail(claim, *event.failure)
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
