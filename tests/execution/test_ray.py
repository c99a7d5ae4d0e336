"""Studies on a Ray cluster of two nodes on this machine, and a task of theirs without a cluster."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from support.command_scripts import answer_first
from support.fake_ray_task import train_fakes
from support.tiny_runs import STUDY, a_run, a_store, runs
from support.tiny_study import digests, finish, small

import paretune
from paretune.errors import MissingDependencyError, ParetuneError, StudyError
from paretune.execution.executor import StudyCallbacks
from paretune.execution.memory_budget import HALVE_PREFIX
from paretune.execution.progress import Observer
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.processor import THREAD_VARIABLES
from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.planning.shard import Shard
from paretune.store import Store
from paretune.study import ModelSpec, TaskSpec
from paretune.tasks import load_dataset
from paretune.verbs.run import run

ray = pytest.importorskip("ray", reason='needs ray: pip install "ray>=2.40,<3"')
from ray.cluster_utils import Cluster  # noqa: E402

from paretune.execution import ray as ray_executor  # noqa: E402
from paretune.execution.ray import RayExecutor, UnfinishedRuns, train_runs  # noqa: E402

pytestmark = pytest.mark.thorough
PATH = os.pathsep.join((str(Path(paretune.__file__).parents[1]), str(Path(__file__).parents[1])))
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
NOTHING = UnfinishedRuns({}, {})


@pytest.fixture(autouse=True)
def _kept_thread_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task sets for its process is as before when the test ends."""
    for name in (*THREAD_VARIABLES, "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "1")


def test_without_ray_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "paretune.execution.ray")
    with pytest.raises(MissingDependencyError, match=r"needs the package ray>=2\.40,<3"):
        importlib.import_module("paretune.execution.ray")


# A task


def plan(study):
    """The runs of a study by id, without costs, and the dataset of its only task."""
    prepared = prepare_study(study)
    planned = {p.run_id: p.run for p in expand_study(prepared, []) if p.run.stage != "cost"}
    (dataset,) = prepared.datasets.values()
    return planned, dataset


def test_a_task_needs_no_data_of_the_study_and_comes_to_the_same_bits(tmp_path, tiny_model):
    folder, text = tmp_path / "data", tmp_path / "text.txt"
    text.write_text("The cat sat.\n\nThe dog slept.\n\nIce turns into water.\n", encoding="utf-8")
    study = small(folder, tiny_model("llama"), forgetting=str(text))
    planned, dataset = plan(study)
    with finish(study, tmp_path / "store", costs=0) as store:
        expected = {r.run_id: r for r in store.load_records(study.study_hash)}
    shutil.rmtree(folder)
    result = train_runs(planned, dataset, WorkerSettings(), NOTHING)
    assert {r.run_id for r, _ in result.ended} == planned.keys() == expected.keys()
    for record, blobs in result.ended:
        assert record.result == expected[record.run_id].result
        trained = record.run.method.name == "lora"
        assert blobs.keys() == {"predictions", "weights"} if trained else {"predictions"}
        assert not trained or record.result["forgetting"]["after"]
    assert result.unfinished == NOTHING


def test_a_node_with_another_model_or_other_code_says_so(tmp_path, tiny_model):
    planned, dataset = plan(small(tmp_path, tiny_model("bert")))
    first = next(run for run in planned.values() if run.method.name == "lora")
    with pytest.raises(ParetuneError, match=r"node .*words x tiny x lora: would be another run"):
        train_runs({"another": first}, dataset, WorkerSettings(), NOTHING)
    gone = first.model_copy(update={"model": ModelSpec(name="/no/such/model")})
    with pytest.raises(ParetuneError, match=r"node .*/no/such/model"):
        train_runs({"another": gone}, dataset, WorkerSettings(), NOTHING)


def test_a_cancelled_task_returns_what_its_runs_go_on_from():
    inputs = load_dataset(TaskSpec(name="follows")), WorkerSettings()
    threading.Timer(1.0, signal.raise_signal, [signal.SIGINT]).start()
    result = train_fakes({"run000": a_run(hold=True)}, *inputs, NOTHING)
    assert not result.ended
    assert json.loads(result.unfinished.checkpoints["run000"])[0] == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = train_fakes({"run000": a_run()}, *inputs, result.unfinished)
    whole = train_fakes({"run000": a_run()}, *inputs, NOTHING)
    assert [blobs for _, blobs in again.ended] == [blobs for _, blobs in whole.ended] != []
    assert not again.unfinished.checkpoints


# A cluster


@pytest.fixture(scope="module")
def cluster():
    """A head and a node of one processor each; processes of both find the tests' modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: on a busy machine they starve
        # A shell that starts Ray in its background has it ignore what cancels a task.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        started.add_node(**NODE)
        signal.signal(signal.SIGINT, handler)
        yield started
        started.shutdown()


@pytest.mark.wide
def test_a_node_is_killed_in_the_middle_and_only_its_runs_are_repeated(
    cluster, tmp_path, tiny_model, monkeypatch
):
    study = small(tmp_path / "data", tiny_model("bert"))
    with finish(study, tmp_path / "here", shard=Shard(1, 1)) as store:
        expected = digests(store, study.study_hash)
    ledger, go, victim = tmp_path / "ledger", tmp_path / "go", cluster.list_all_nodes()[-1]

    def train_after_go(named, *inputs):
        """Write down which node has begun which run; nothing is trained before the kill."""
        from paretune.execution.ray import train_runs

        with ledger.open("a") as lines:
            lines.write(f"{' '.join(named)} {ray.get_runtime_context().get_node_id()}\n")
        while not go.exists():
            time.sleep(0.05)
        return train_runs(named, *inputs)

    def read_starts() -> list[list[str]]:
        return [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []

    class Killing(Observer):
        def update(self, snapshot):
            shutil.rmtree(tmp_path / "data", ignore_errors=True)  # no node needs it
            if not go.exists() and len({node for _, node in read_starts()}) == 2:
                cluster.remove_node(victim, allow_graceful=False)
                go.touch()

    monkeypatch.setattr(ray_executor, "train_runs", train_after_go)
    # The share that is the whole: no costs, which would take half a minute.
    options = {"executor": "ray", "address": cluster.address, "shard": "1/1"}
    done = run(study, store=tmp_path / "nodes", devices="cpu", observer=Killing(), **options)
    cluster.add_node(**NODE)
    with Store.open(tmp_path / "nodes") as store:
        assert digests(store, study.study_hash) == expected
    assert done.ended == len(expected) and not done.failed
    starts = read_starts()
    (lost,) = [run_id for run_id, node in starts if node == victim.node_id]
    times = Counter(run_id for run_id, _ in starts)
    assert times == {**dict.fromkeys(expected, 1), lost: 2}


@pytest.mark.wide
def test_nodes_start_commands(cluster, tmp_path):
    study = answer_first(tmp_path)
    options = {"executor": "ray", "address": cluster.address, "shard": "1/1", "devices": "cpu"}
    done = run(study, store=tmp_path / "nodes", allow_commands=True, **options)
    assert done.ended == 4 and not done.failed


class KeepingObserver(Observer):
    """Keeps what it is told to note."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def drive(store, address, observer=None, *, add_runs=lambda: 0, deadline=None, **settings):
    """Execute a study of runs that mean nothing."""
    datasets = {a_run().task.key: load_dataset(TaskSpec(name="follows"))}
    executor = RayExecutor(address, datasets, WorkerSettings(**settings))
    callbacks = StudyCallbacks(observer or Observer(), add_runs, deadline=deadline)
    return executor.execute(store, STUDY, callbacks)


def test_a_crash_and_an_error_fail_their_runs_and_stop_no_other(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "train_runs", train_fakes)
    failing = [("dies", a_run(7, act="segfault")), ("raises", a_run(8, act="raise"))]
    store = a_store(tmp_path, [*failing, *runs(2), *runs(1, "cost", "cost")])
    summary = drive(store, cluster.address)
    assert summary.outcomes == {"ok": 3, "error": 2}
    died, raised = summary.failed
    assert "its process ended 3 times, the last time by WorkerCrashedError" in died.message
    assert "ZeroDivisionError: a defect" in raised.message
    records = {record.run_id: record for record in store.load_records(STUDY)}
    assert "ZeroDivisionError" in records["raises"].measured["traceback"]
    pids = [r.measured["pid"] for r in records.values() if "pid" in r.measured]
    assert records["cost000"].measured["pid"] not in pids[:-1], "a cost has a process of its own"


def test_an_interrupt_gives_runs_back_with_what_they_have_trained(cluster, tmp_path, monkeypatch):
    node_folders = tmp_path / "nodes"
    node_folders.mkdir()

    def train_in_sight(*inputs):
        tempfile.tempdir = str(node_folders)
        from support.fake_ray_task import train_fakes

        return train_fakes(*inputs)

    class Interrupting(KeepingObserver):
        def update(self, snapshot):
            paths = node_folders.glob("paretune-*/checkpoints/*.safetensors")
            if [json.loads(path.read_text())[0] for path in paths] == [2, 2]:
                raise KeyboardInterrupt

    monkeypatch.setattr(ray_executor, "train_runs", train_in_sight)
    store, observer = a_store(tmp_path / "store", runs(3, hold=True)), Interrupting()
    with pytest.raises(KeyboardInterrupt):
        drive(store, cluster.address, observer)
    assert "Nothing is lost" in observer.notes[-1]
    assert [status.state for status in store.load_statuses(STUDY)] == ["todo"] * 3
    assert len(list((store.folder / "checkpoints").iterdir())) == 2


def test_at_the_deadline_runs_are_given_back(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "train_runs", train_fakes)
    store = a_store(tmp_path, runs(3, hold=True))
    summary = drive(store, cluster.address, deadline=time.monotonic() + 1)
    assert (summary.total, summary.ended) == (3, 0)
    assert [status.state for status in store.load_statuses(STUDY)] == ["todo"] * 3


def test_a_task_that_is_out_of_memory_is_isolated_and_then_halved(cluster, tmp_path, monkeypatch):
    get, kills = ray.get, [1, 2]

    def run_out_of_memory(reference):
        if kills:
            kills.pop()
            raise ray.exceptions.OutOfMemoryError("a worker was killed")
        return get(reference)

    monkeypatch.setattr(ray_executor, "train_runs", train_fakes)
    monkeypatch.setattr(ray, "get", run_out_of_memory)
    store, observer = a_store(tmp_path, runs(1)), KeepingObserver()
    assert drive(store, cluster.address, observer).outcomes == {"ok": 1}
    first_note, second_note = observer.notes
    assert "lack of memory, beside 1 other run" in first_note and "halved once" in second_note
    assert store.get_setting(f"{HALVE_PREFIX}run000") == "1"


def test_what_no_node_has_and_a_cluster_that_is_not_there_are_said(cluster, tmp_path):
    store = a_store(tmp_path, runs(1))
    with pytest.raises(StudyError, match="no node of the Ray cluster has 2 processors, which"):
        drive(store, cluster.address, threads=2)
    with pytest.raises(StudyError, match="no node of the Ray cluster has 1 processor and a GPU"):
        drive(store, cluster.address, device="cuda")
    with pytest.raises(StudyError, match=r"address=.127\.0\.0\.1:1.: no Ray cluster answers"):
        drive(store, "127.0.0.1:1")
    assert store.load_statuses(STUDY)[0].state == "todo"


def test_a_node_that_can_execute_nothing_ends_the_study_with_its_name(cluster, tmp_path):
    store = a_store(tmp_path, runs(1))
    with pytest.raises(
        ParetuneError, match=r"node .*: model tiny: the local cache of the hub lacks it"
    ):
        drive(store, cluster.address)
    assert store.load_statuses(STUDY)[0].state == "todo"
