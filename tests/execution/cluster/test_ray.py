"""A real Ray cluster of two nodes on this machine: nodes and the owner of the store are killed.

Its runs are chains of hashes with sleeps, so that what is lost and what goes on can be seen.
bench/ray_overhead.py does the same with real training.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.executors import RecordingObserver
from support.tiny_runs import STUDY, a_store, runs
from support.tiny_study import digests, finish, small
from support.worker_process import until

import paretune
from paretune.errors import StudyError
from paretune.execution.cluster.executor import Assignment, RunEvent
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.shard import Shard
from paretune.store import Store
from paretune.store.blobs import blob_path
from paretune.verbs.run import run

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("kept_thread_variables")]
TESTS = Path(__file__).parents[2]
SOURCE = Path(paretune.__file__).parents[1]
STEPS = 20


@pytest.fixture(scope="module")
def cluster():
    """A head and a node of one processor each; processes of both find the tests' modules."""
    pytest.importorskip("ray", reason='needs ray: pip install "ray>=2.40,<3"')
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (SOURCE, TESTS))))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: on a busy machine they starve
        small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
        head = {**small, "include_dashboard": False}
        started = Cluster(initialize_head=True, head_node_args=head)
        started.small = small
        started.add_node(**small)
        yield started
        started.shutdown()


@pytest.fixture
def two_nodes(cluster):
    """The cluster, with what a test before has killed replaced."""
    while len(cluster.list_all_nodes()) < 2:
        cluster.add_node(**cluster.small)
    return cluster


def expect(all_runs) -> dict[str, bytes]:
    """The weights that each run comes to where nothing happens."""
    from support.fake_node import execute_here

    quick = {
        run_id: run.model_copy(
            update={"method": run.method.model_copy(update={"options": {"steps": STEPS}})}
        )
        for run_id, run in all_runs
    }
    events = execute_here(Assignment(1, quick, WorkerSettings()))
    return {
        event.run_id: event.outcome.blobs["weights"]
        for event in events
        if event.outcome is not None
    }


def read_weights(store) -> dict[str, bytes]:
    blobs = store.folder / "blobs"
    records = store.load_records(STUDY)
    return {r.run_id: blob_path(blobs, r.result["weights"]).read_bytes() for r in records}


def start_owner(folder: Path, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "support.fake_node", str(folder), address]
    path = os.pathsep.join(map(str, (SOURCE, TESTS)))
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.wide
def test_a_node_is_killed_in_the_middle_and_the_results_are_the_same(two_nodes, tmp_path):
    from support.fake_node import drive

    # The first two start the processes of the tasks; so the next two run at the same time.
    first, cost = runs(2, prefix="first"), runs(1, "cost", "cost", steps=STEPS)
    all_runs = [*first, *runs(2, steps=STEPS, sleep=0.4), *cost]
    store = a_store(tmp_path, all_runs)
    victim = two_nodes.list_all_nodes()[-1]

    class Killing(RecordingObserver):
        def update(self, snapshot):
            statuses = store.load_statuses(STUDY)
            begun = [s for s in statuses if s.state == "running" and s.progress.get("step", 0) > 1]
            if len(begun) == 2 and victim in two_nodes.list_all_nodes():
                two_nodes.remove_node(victim, allow_graceful=False)

    observer = Killing()
    summary = drive(store, two_nodes.address, observer)
    assert (summary.ended, summary.outcomes) == (5, {"ok": 5})
    assert sum("is lost; 1 run of it go on elsewhere" in note for note in observer.notes) == 1
    statuses = store.load_statuses(STUDY)
    assert sorted(status.attempt for status in statuses) == [1] * 4 + [2]
    (lost,) = [status for status in statuses if status.attempt == 2]
    assert lost.progress["resumed_at"] > 1, "it began anew, in place of from its checkpoint"
    assert read_weights(store) == expect(all_runs)


@pytest.mark.wide
def test_nodes_train_a_study_whose_data_they_do_not_have(two_nodes, tmp_path, tiny_model):
    study = small(tmp_path / "data", tiny_model("bert"))
    with finish(study, tmp_path / "here", shard=Shard(1, 1)) as store:
        expected = digests(store, study.study_hash)

    class Removing(RecordingObserver):
        def update(self, snapshot):  # the owner has read it, and no task has begun
            shutil.rmtree(tmp_path / "data", ignore_errors=True)

    # The share that is the whole: no costs, which would take half a minute.
    options = {"executor": "ray", "address": two_nodes.address, "fleet": 1, "shard": "1/1"}
    run(study, store=tmp_path / "nodes", devices="cpu", observer=Removing(), **options)
    with Store.open(tmp_path / "nodes") as store:
        assert digests(store, study.study_hash) == expected


def test_what_was_taken_is_there_again_until_it_was_received():
    pytest.importorskip("ray", reason='needs ray: pip install "ray>=2.40,<3"')
    from paretune.execution.cluster.ray_cluster import _Mailbox

    mailbox = _Mailbox()
    first, second, third = (RunEvent("run", {"step": step}) for step in range(3))
    mailbox.post(1, "here", [first, second])
    assert mailbox.take(0)[0] == mailbox.take(0)[0] == [first, second]
    mailbox.post(1, "here", [third])
    assert mailbox.take(1)[0] == [second, third]
    assert mailbox.take(3)[0] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_owner_is_killed_or_stopped_and_loses_nothing(two_nodes, tmp_path, number):
    from support.fake_node import drive

    all_runs = runs(4, steps=STEPS, sleep=0.3)
    store = a_store(tmp_path, all_runs)
    owner = start_owner(tmp_path, two_nodes.address)

    def two_are_at_work(states) -> bool:
        steps = [s.progress.get("step", 0) for s in states if s.state == "running"]
        return sum(n >= 3 for n in steps) >= 2

    until(store, two_are_at_work, 300)
    owner.send_signal(number)
    owner.wait()
    statuses = store.load_statuses(STUDY)
    assert all(status.is_claimable for status in statuses if not status.ended)
    if number == signal.SIGINT:
        assert {status.state for status in statuses} <= {"todo", "done"}
        saved = [s for s in statuses if store.checkpoint_path(s.run_id).exists()]
        assert len(saved) == 2
    with Store.open(tmp_path) as again:
        assert drive(again, two_nodes.address, RecordingObserver()).outcomes == {"ok": 4}
        assert read_weights(again) == expect(all_runs)


@pytest.mark.slow
def test_a_run_that_crashes_its_process_fails_and_stops_no_other(two_nodes, tmp_path):
    from support.fake_node import drive

    dying = [(f"dying{i}", run) for i, (_, run) in enumerate(runs(1, steps=STEPS, act="segfault"))]
    store, observer = a_store(tmp_path, [*dying, *runs(3, steps=STEPS)]), RecordingObserver()
    summary = drive(store, two_nodes.address, observer)
    assert summary.outcomes == {"ok": 3, "error": 1}
    (failed,) = summary.failed
    assert failed.run_id == "dying0" and "3 times at the same place" in failed.message


def test_no_cluster_at_the_address_is_said_with_what_to_do(two_nodes, tmp_path):
    from support.fake_node import drive

    store = a_store(tmp_path, runs(1))
    with pytest.raises(StudyError, match=r"address=.127\.0\.0\.1:1.: no Ray cluster answers"):
        drive(store, "127.0.0.1:1", RecordingObserver())
    assert store.load_statuses(STUDY)[0].state == "todo"
