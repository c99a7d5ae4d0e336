"""Executes a study on a Ray cluster: one task trains one run.

Ray chooses the node of a task, and starts it again where its process or its node is lost. This
process has the store: it claims runs, hands each task its run and its data as values, and writes
the results that it returns. On its node a task is a worker of this machine with a small store of
its own (:func:`train_runs`). A study loses with a node only results that were not returned yet.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from paretune.data.example import Dataset
from paretune.errors import (
    DeviceLostError,
    ParetuneError,
    StudyError,
    explain_missing,
    spell_option,
)
from paretune.execution.claims import Leases, fail_run, finish_run
from paretune.execution.executor import StudyCallbacks, StudyLoop, StudySummary, stop_gently
from paretune.execution.memory_budget import HALVE_PREFIX, ISOLATED_PREFIX, MEMORY_PREFIX
from paretune.execution.progress import describe_run
from paretune.execution.signals import StopRequest, interrupt_on_signals
from paretune.execution.worker import limit_threads, make_executor, run_worker
from paretune.execution.worker_crashes import MAX_CRASHES, WorkerCrashes
from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.files import write_atomically
from paretune.measuring.processor import count_usable_cores
from paretune.owner import current_owner
from paretune.store import Claim, Record, RunStatus, Store
from paretune.store.blobs import RESULT_BLOBS
from paretune.study import Run
from paretune.terminal.plural import pluralise
from paretune.terminal.rich_console import drop_output_of
from paretune.training import Outcome

# The version that the cluster has.
with explain_missing("ray>=2.40,<3", spell_option("executor", "ray")):
    import ray
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

CONNECT_SECONDS = 10.0
STOP_POLL_SECONDS = 0.1
_STUDY = "task"
"""The hash under which a task keeps its runs in its own store."""
Resources = Mapping[str, float]
"""How much a node has of each of Ray's resources, by its name."""
_cached_executor = functools.cache(make_executor)
"""A process that executes several tasks keeps its model and its data."""


@dataclass(frozen=True)
class UnfinishedRuns:
    """Settings and progress of runs that have not ended; they go to the node, and back.

    Attributes:
        settings: of the store, about these runs, such as how often one is halved.
        checkpoints: from which they go on, by run id.
    """

    settings: Mapping[str, str]
    checkpoints: Mapping[str, bytes]

    @classmethod
    def load(cls, store: Store, run_ids: Collection[str]) -> Self:
        """Read it from a store."""
        settings = {
            f"{prefix}{run_id}": value
            for prefix in (HALVE_PREFIX, ISOLATED_PREFIX)
            for run_id, value in store.get_settings(prefix).items()
            if run_id in run_ids
        }
        paths = {run_id: store.checkpoint_path(run_id) for run_id in run_ids}
        return cls(settings, {i: path.read_bytes() for i, path in paths.items() if path.exists()})

    def save(self, store: Store) -> None:
        """Keep it in another store."""
        store.set_settings(self.settings)
        for run_id, content in self.checkpoints.items():
            write_atomically(store.checkpoint_path(run_id), content)


@dataclass(frozen=True)
class TaskResult:
    """The result of a task.

    Attributes:
        ended: the record of each run that ended, with its blobs by their name in the result.
        unfinished: the other runs, which are given back.
    """

    ended: Sequence[tuple[Record, Mapping[str, bytes]]]
    unfinished: UnfinishedRuns


def train_runs(
    runs: Mapping[str, Run],
    dataset: Dataset,
    settings: WorkerSettings,
    unfinished: UnfinishedRuns,
) -> TaskResult:
    """The Ray task: execute runs in this process, until all have ended or the task is cancelled.

    Args:
        runs: by id; they are of one task.
        dataset: of their task.

    Raises:
        ParetuneError: this node cannot execute the runs, such as where its model is another one.
    """
    if any(run.stage == "cost" for run in runs.values()):
        settings = replace(settings, threads=count_usable_cores())
    limit_threads(settings.threads)
    stop = StopRequest()
    # Ray cancels a task by this signal, also where it was started by a shell that ignores it.
    handler = signal.signal(signal.SIGINT, stop.receive)
    try:
        executor = _cached_executor(settings)
        for run_id, run in runs.items():
            executor.caches.datasets.setdefault(run.task.model_dump_json(), dataset)
            if executor.caches.identify(run) != run_id:
                raise StudyError(
                    "would be another run here: its model, or the code of its method, differs from "
                    "where the study was planned.",
                    where=" x ".join(run.cell),
                    remedy="Install the same paretune and the same plug-ins on every node, and "
                    "copy the same models under the same name or path.",
                )
        with (
            tempfile.TemporaryDirectory(prefix="paretune-") as folder,
            Store.open(Path(folder), create=True) as store,
        ):
            store.save_study(_STUDY, _STUDY, "", {})
            store.add_runs(_STUDY, runs.items())
            unfinished.save(store)
            with suppress(DeviceLostError):  # Ray ends this process with its task: the rest goes on
                run_worker(store, _STUDY, executor, stop, settings)
            ended = []
            for record in store.load_records(_STUDY):
                named = {n: str(v) for n, v in record.result.items() if n in RESULT_BLOBS}
                blobs = {name: store.read_blob(sha256) for name, sha256 in named.items()}
                ended.append((record, blobs))
            left = runs.keys() - {record.run_id for record, _ in ended}
            return TaskResult(ended, UnfinishedRuns.load(store, left))
    except ParetuneError as error:
        where = f"node {ray.util.get_node_ip_address()}"
        raise ParetuneError(str(error), where=where) from None
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def connect(address: str | None) -> Iterator[None]:
    """Connect to a cluster; disconnect when the block ends.

    Args:
        address: ``HOST:PORT`` of its head; None: ``RAY_ADDRESS``, or the cluster of this machine.

    Raises:
        StudyError: there is none.
        ParetuneError: it answers no more.
    """
    # Ray would run a task without end that has too little memory on its own. Here one that ran out
    # of memory is tried again with less, and then fails (WorkerCrashes).
    os.environ.setdefault("RAY_task_oom_retries", "0")
    try:
        if address is not None:
            host, _, port = address.rpartition(":")
            if not (host and port.isdecimal()):
                raise ValueError("it is not HOST:PORT")
            # Ray itself tries for minutes.
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise StudyError(
            f"no Ray cluster answers ({str(error).strip().splitlines()[0]}).",
            where=spell_option("address", address) if address else spell_option("executor", "ray"),
            remedy="`ray start --head` on one machine, `ray start --address HOST:6379` on the "
            f"others, then {spell_option('address', 'HOST:6379')} on one of them.",
        ) from error
    with drop_output_of("ray_listen_error_messages"):  # Ray prints the log of a lost node
        try:
            yield
        except exceptions.RayError as error:
            raise ParetuneError(
                f"the Ray cluster answers no more ({type(error).__name__}: {error}).",
                remedy="Nothing is lost: the same command continues when it is there again.",
            ) from error
        finally:
            ray.shutdown()


@dataclass(frozen=True)
class RayExecutor:
    """Tasks on a Ray cluster; see :class:`~paretune.execution.executor.Executor`.

    Attributes:
        address: see :func:`connect`.
        datasets: the study's data, by the task's key.
        tasks: at most so many train at once; None: as many as the nodes have places for.
    """

    address: str | None
    datasets: Mapping[str, Dataset]
    settings: WorkerSettings = DEFAULT_SETTINGS
    tasks: int | None = None

    def execute(self, store: Store, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        """See :class:`~paretune.execution.executor.Executor`."""
        note = callbacks.observer.note
        with (
            connect(self.address),
            interrupt_on_signals(),  # after: connecting to a cluster may handle them in its own way
            Leases(store, self.settings.lease_seconds) as leases,
        ):
            tasks = RayTasks(self, store, study_hash, leases, WorkerCrashes(store, note))
            places = tasks.count_places(list_nodes(self.settings))
            loop = StudyLoop(store, study_hash, callbacks, self.settings.stages, places)
            try:
                for waiting, seconds in loop.watch():
                    tasks.start(waiting)
                    time.sleep(seconds)
                    tasks.collect()
                tasks.cancel()  # at a deadline; otherwise none is left
                tasks.wait()
            except (KeyboardInterrupt, OSError):  # OSError: nobody reads what is printed
                stop_gently(note, tasks.cancel, tasks.wait, tasks.kill)
                raise
            finally:
                tasks.kill()
        return loop.summary


@dataclass
class RayTasks:
    """The tasks of one study; ``claims``: of the run of each, by the reference to its result."""

    executor: RayExecutor
    store: Store
    study_hash: str
    leases: Leases
    crashes: WorkerCrashes
    claims: dict[Any, Claim] = field(default_factory=dict)
    _datasets: dict[str, Any] = field(default_factory=dict)
    _whole_node: str = ""

    def count_places(self, nodes: Mapping[str, Resources]) -> int:
        """How many tasks train at once on these nodes."""
        settings, places = self.executor.settings, 0
        for resources in nodes.values():
            fitting = resources["CPU"] // settings.threads
            places += int(fitting if settings.device == "cpu" else min(fitting, resources["GPU"]))
        return min(places, self.executor.tasks or places)

    def start(self, waiting: Sequence[RunStatus]) -> None:
        """Submit what there is a place for; costs come after training, one after the other.

        Raises:
            StudyError: no node can take a task.
        """
        settings, nodes = self.executor.settings, list_nodes(self.executor.settings)
        if not nodes:
            if self.claims:
                return  # Ray waits for a node
            gpu = "" if settings.device == "cpu" else " and a GPU"
            raise StudyError(
                f"no node of the Ray cluster has {pluralise(settings.threads, 'processor')}{gpu}, "
                "which a run takes.",
                where=spell_option("executor", "ray"),
                remedy="`ray status` shows what its nodes have.",
            )
        trains = any(status.stage != "cost" for status in waiting)
        stages = tuple(stage for stage in settings.stages if (stage != "cost") == trains)
        places = self.count_places(nodes) if trains else 1
        owner, lease_seconds = current_owner(), settings.lease_seconds
        while len(self.claims) < places:
            claim = self.store.claim(owner, self.study_hash, stages, lease_seconds)
            if claim is None:
                return
            self.submit(claim, nodes)

    def submit(self, claim: Claim, nodes: Mapping[str, Resources]) -> None:
        """Have Ray execute the run as a task."""
        settings = self.executor.settings
        gpus, measures_cost = int(settings.device != "cpu"), claim.run.stage == "cost"
        options: dict[str, Any] = {
            "name": describe_run(claim.run),
            "num_cpus": settings.threads,
            "num_gpus": gpus,
            "max_retries": MAX_CRASHES - 1,
            # The caches of a process would fill the memory of the next task on a GPU.
            "max_calls": int(gpus or measures_cost),
        }
        if self.is_isolated(claim):
            # All costs are measured on the same node, so that they can be compared.
            if self._whole_node not in nodes:
                self._whole_node = max(nodes, key=lambda node: (nodes[node]["CPU"], node))
            options["num_cpus"] = nodes[self._whole_node]["CPU"]
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(
                self._whole_node, soft=False
            )
        elif not gpus:
            # A run that no node has the memory for is tried where there is most of it.
            need = int(self.store.get_setting(f"{MEMORY_PREFIX}{claim.run_id}") or 0)
            options["memory"] = min(need, max(int(node["memory"]) for node in nodes.values()))
        if measures_cost:  # in a process that has done nothing else
            options["runtime_env"] = {"env_vars": {"PARETUNE_COST": claim.run_id}}
        key, runs = claim.run.task.key, {claim.run_id: claim.run}
        if key not in self._datasets:  # without what it has computed of itself
            self._datasets[key] = ray.put(replace(self.executor.datasets[key]))
        unfinished = UnfinishedRuns.load(self.store, runs)
        task = ray.remote(**options)(train_runs)
        reference = task.remote(runs, self._datasets[key], settings, unfinished)
        self.claims[reference] = claim
        self.leases.add(claim).report({"note": "on the Ray cluster"})

    def is_isolated(self, claim: Claim) -> bool:
        """Whether the run gets a node to itself."""
        isolated = self.store.get_settings(ISOLATED_PREFIX)
        return claim.run.stage == "cost" or claim.run_id in isolated

    def collect(self) -> None:
        """Write what tasks have returned, and give back what they have not ended.

        Raises:
            ParetuneError: a node cannot execute the runs.
            StoreError: the store cannot be written.
        """
        self.leases.check()
        references = list(self.claims)
        count = len(references)
        ready = ray.wait(references, num_returns=count, timeout=0)[0] if references else []
        for reference in ready:
            claim = self.claims.pop(reference)
            self.leases.drop(claim.run_id)
            try:
                self.write(ray.get(reference), claim)
            except (exceptions.OutOfMemoryError, exceptions.WorkerCrashedError) as error:
                self.blame(claim, error)
            except exceptions.RayTaskError as error:
                raise ParetuneError(str(error.cause)) from error
            except (
                exceptions.TaskCancelledError,
                exceptions.NodeDiedError,
                exceptions.ObjectLostError,
                exceptions.TaskUnschedulableError,
            ):
                pass  # no fault of the run, which goes on in another task
            finally:
                self.store.release(claim)

    def write(self, result: TaskResult, claim: Claim) -> None:
        """Write what a task has left."""
        result.unfinished.save(self.store)
        note = self.crashes.note
        for record, blobs in result.ended:
            if record.state == "failed":
                kind, message = str(record.fail_kind), str(record.message)
                fail_run(self.store, claim, kind, message, record.measured, note)
            else:
                values = {name: value for name, value in record.result.items() if name not in blobs}
                outcome = Outcome(values, dict(record.measured), dict(blobs))
                finish_run(self.store, self.study_hash, claim, outcome, note)

    def blame(self, claim: Claim, error: exceptions.RayError) -> None:
        """Decide how the run goes on whose process was killed as often as Ray tries again."""
        how = f"{type(error).__name__}\n{error}"
        if isinstance(error, exceptions.OutOfMemoryError):
            statuses = self.store.load_statuses(self.study_hash)
            in_hand = [status for status in statuses if status.run_id == claim.run_id]
            neighbours = 0 if self.is_isolated(claim) else 1
            self.crashes.blame(in_hand, how, out_of_memory=True, neighbours=neighbours)
        else:
            message = f"its process ended {MAX_CRASHES} times, the last time by {how}"
            fail_run(self.store, claim, "error", message, {}, self.crashes.note)

    def cancel(self) -> None:
        """Ask all tasks to return what they have; what Ray has not begun never begins."""
        for reference in self.claims:
            ray.cancel(reference)

    def wait(self) -> None:
        """Write what the tasks return until all have ended."""
        while self.claims:
            self.collect()
            time.sleep(STOP_POLL_SECONDS)

    def kill(self) -> None:
        """End all tasks that are left, and give their runs back."""
        for reference, claim in self.claims.items():
            with suppress(exceptions.RayError):  # the cluster may be gone, and they with it
                ray.cancel(reference, force=True)
            self.leases.drop(claim.run_id)
            self.store.release(claim)
        self.claims.clear()


def list_nodes(settings: WorkerSettings) -> dict[str, Resources]:
    """The nodes that can take a task, by id, with how much each has of Ray's resources."""
    gpus = int(settings.device != "cpu")
    alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    return {
        node: resources
        for node, resources in alive.items()
        if resources.get("CPU", 0.0) >= settings.threads and resources.get("GPU", 0.0) >= gpus
    }
