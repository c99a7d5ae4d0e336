"""The side of the store: what it hands out and takes in, on a cluster that follows a script."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from support.executors import ExecutorContract, RecordingObserver
from support.tiny_runs import STUDY, a_store, runs

from paretune.errors import ParetuneError
from paretune.execution.cluster.executor import (
    Assignment,
    ClusterExecutor,
    Event,
    RunEvent,
    TaskEnded,
)
from paretune.execution.cluster.node import execute_assignment
from paretune.execution.executor import Executor, StudyCallbacks
from paretune.execution.memory_budget import (
    ALONE_PREFIX,
    HALVE_PREFIX,
    ISOLATED_PREFIX,
    MEMORY_PREFIX,
)
from paretune.execution.worker_settings import WorkerSettings
from paretune.training import Outcome

Answer = Callable[[Assignment], list[Event]]


def end_all(assignment: Assignment) -> list[Event]:
    """Every run of the assignment is done."""
    done = [RunEvent(run_id, outcome=Outcome({"outcome": "ok"})) for run_id in assignment.runs]
    return [*done, TaskEnded(assignment.number, "10.0.0.1")]


class ScriptedCluster:
    """Answers the n-th assignment by the n-th answer of a script, further ones by ``end_all``."""

    def __init__(self, *script: Answer, places: int = 2) -> None:
        self.script, self.places = list(script), places
        self.submitted: list[Assignment] = []
        self.in_flight: set[int] = set()
        self.most_in_flight = 0
        self.events: list[Event] = []
        self.at_stop: list[Event] | None = None
        self.calls: list[str] = []

    def count_places(self, settings: WorkerSettings) -> int:
        return self.places

    def submit(self, assignment: Assignment) -> None:
        self.submitted.append(assignment)
        self.in_flight.add(assignment.number)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        self.events += (self.script.pop(0) if self.script else end_all)(assignment)

    def collect(self) -> list[Event]:
        events, self.events = self.events, []
        self.in_flight -= {event.number for event in events if isinstance(event, TaskEnded)}
        return events

    def request_stop(self) -> None:
        self.calls.append("stop")
        self.events += self.at_stop or []

    def cancel(self) -> None:
        self.calls.append("cancel")

    def list_runs(self) -> list[list[str]]:
        return [list(assignment.runs) for assignment in self.submitted]


def drive(store, cluster, observer=None, settings=None, **callbacks):
    executor = ClusterExecutor(lambda: nullcontext(cluster), settings or WorkerSettings())
    callbacks = {"add_runs": lambda: 0, **callbacks}
    observer = observer or RecordingObserver()
    return executor.execute(store, STUDY, StudyCallbacks(observer, **callbacks))


class InlineCluster(ScriptedCluster):
    """One place, which executes each assignment in this process when it is asked for news."""

    def collect(self) -> list[Event]:
        pending, self.script = self.script, []
        for assignment in pending:
            refusal = execute_assignment(assignment, self._post)
            self.events.append(TaskEnded(assignment.number, "here", refusal=refusal))
        events, self.events = self.events, []
        return events

    def submit(self, assignment: Assignment) -> None:
        self.script.append(assignment)

    def _post(self, events: list[Event]) -> bool:
        self.events += events
        return False


class TestClusterExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def keep_environment(self, kept_thread_variables):
        """Executing an assignment sets them."""

    def executor(self) -> Executor:
        return ClusterExecutor(lambda: nullcontext(InlineCluster(places=1)))


def test_training_first_then_each_cost_with_a_node_to_itself(tmp_path):
    all_runs = [*runs(5), *runs(2, "cost", "cost")]
    store, cluster = a_store(tmp_path, all_runs), ScriptedCluster()
    summary = drive(store, cluster)
    assert (summary.total, summary.ended, summary.outcomes) == (7, 7, {"ok": 7})
    assert cluster.list_runs() == [[run_id] for run_id, _ in all_runs]
    assert [assignment.whole_node for assignment in cluster.submitted] == [False] * 5 + [True] * 2
    assert cluster.most_in_flight == 2
    assert [status.attempt for status in store.load_statuses(STUDY)] == [1] * 7
    again = ScriptedCluster()
    assert drive(store, again).ended == 0 and not again.submitted


def test_a_node_that_joins_gets_runs(tmp_path):
    store, cluster = a_store(tmp_path, runs(6)), ScriptedCluster(places=1)

    def join(assignment: Assignment) -> list[Event]:
        cluster.places = 3
        return end_all(assignment)

    cluster.script = [join]
    drive(store, cluster)
    assert cluster.most_in_flight == 3


def test_a_lost_run_goes_on_elsewhere_from_what_it_sent_however_often(tmp_path):
    def lose(step: int) -> Answer:
        def answer(assignment: Assignment) -> list[Event]:
            (run_id,) = assignment.runs
            sent = RunEvent(run_id, {"step": 3}, b"%d" % step)
            return [sent, TaskEnded(assignment.number, "10.0.0.7", lost=True)]

        return answer

    store, observer = a_store(tmp_path, runs(1)), RecordingObserver()
    cluster = ScriptedCluster(*(lose(step) for step in range(5)))
    assert drive(store, cluster, observer).outcomes == {"ok": 1}
    sent = [dict(assignment.checkpoints) for assignment in cluster.submitted]
    assert sent == [{}, *({"run000": b"%d" % step} for step in range(5))]
    assert observer.notes == ["Node 10.0.0.7 is lost; 1 run of it go on elsewhere."] * 5
    assert not store.checkpoint_path("run000").exists()


def test_what_a_task_sends_after_its_node_was_given_up_changes_nothing(tmp_path):
    def lose(assignment: Assignment) -> list[Event]:
        return [TaskEnded(assignment.number, lost=True)]

    def end_twice(assignment: Assignment) -> list[Event]:
        late = RunEvent("run000", outcome=Outcome({"outcome": "collapsed"}))
        return [*end_all(assignment), late, RunEvent("run000", checkpoint=b"late"), TaskEnded(1)]

    store = a_store(tmp_path, runs(1))
    assert drive(store, ScriptedCluster(lose, end_twice)).outcomes == {"ok": 1}
    assert not store.checkpoint_path("run000").exists()


def test_three_crashes_at_the_same_place_fail_the_run_and_stop_no_other(tmp_path):
    def crash(assignment: Assignment) -> list[Event]:
        if "run000" not in assignment.runs:
            return end_all(assignment)
        return [TaskEnded(assignment.number, "10.0.0.7", crash="WorkerCrashedError\na segfault")]

    store = a_store(tmp_path, runs(3))
    summary = drive(store, ScriptedCluster(*[crash] * 20))
    assert summary.outcomes == {"ok": 2, "error": 1}
    (failed,) = summary.failed
    assert failed.attempt == 3 and "3 times" in failed.message and "a segfault" in failed.message


def test_a_crash_for_memory_isolates_the_run_and_then_halves_its_micro_batch(tmp_path):
    def exhaust(assignment: Assignment) -> list[Event]:
        return [TaskEnded(assignment.number, crash="Ray's memory monitor", out_of_memory=True)]

    store = a_store(tmp_path, runs(1))
    store.set_setting(f"{MEMORY_PREFIX}run000", str(2**30))
    cluster = ScriptedCluster(exhaust, exhaust)
    assert drive(store, cluster).outcomes == {"ok": 1}
    needs = [(task.memory_bytes, task.whole_node) for task in cluster.submitted]
    assert needs == [(2**30, False), (0, True), (0, True)]
    settings = [dict(assignment.stored_settings) for assignment in cluster.submitted]
    assert f"{ISOLATED_PREFIX}run000" in settings[1]
    assert settings[2][f"{HALVE_PREFIX}run000"] == "1"


def test_a_node_that_can_execute_nothing_ends_the_study_with_its_name(tmp_path):
    def refuse(assignment: Assignment) -> list[Event]:
        return [TaskEnded(assignment.number, "10.0.0.7", refusal="data.csv: not on this node.")]

    store, cluster = a_store(tmp_path, runs(3)), ScriptedCluster(refuse)
    with pytest.raises(ParetuneError, match=r"node 10\.0\.0\.7: data\.csv: not on this node"):
        drive(store, cluster)
    assert [s.state for s in store.load_statuses(STUDY)] == ["todo"] * 3
    assert drive(store, ScriptedCluster()).outcomes == {"ok": 3}


def test_an_interrupt_gives_all_runs_back_with_their_checkpoints(tmp_path):
    store = a_store(tmp_path, runs(3))
    cluster = ScriptedCluster(*[lambda assignment: []] * 2)
    cluster.at_stop = [RunEvent("run000", checkpoint=b"state"), TaskEnded(1), TaskEnded(2)]

    class Interrupting(RecordingObserver):
        def update(self, snapshot):
            if cluster.submitted:
                raise KeyboardInterrupt

    observer = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        drive(store, cluster, observer)
    assert [s.state for s in store.load_statuses(STUDY)] == ["todo"] * 3
    assert store.checkpoint_path("run000").read_bytes() == b"state"
    assert cluster.calls == ["stop"] and "Nothing is lost" in observer.notes[-1]
    resumed = ScriptedCluster()
    assert drive(store, resumed).outcomes == {"ok": 3}
    assert resumed.submitted[0].checkpoints == {"run000": b"state"}


def test_at_the_deadline_all_runs_are_given_back_with_their_checkpoints(tmp_path):
    store, observer = a_store(tmp_path, runs(3)), RecordingObserver()
    cluster = ScriptedCluster(*[lambda assignment: []] * 2)
    cluster.at_stop = [RunEvent("run000", checkpoint=b"state"), TaskEnded(1), TaskEnded(2)]
    summary = drive(store, cluster, observer, deadline=time.monotonic() + 0.5)
    assert (summary.total, summary.ended) == (3, 0) and cluster.calls == ["stop"]
    assert [s.state for s in store.load_statuses(STUDY)] == ["todo"] * 3
    assert store.checkpoint_path("run000").read_bytes() == b"state"


def test_a_second_interrupt_ends_the_tasks_at_once(tmp_path):
    store, cluster = a_store(tmp_path, runs(1)), ScriptedCluster(lambda assignment: [])

    class Interrupting(RecordingObserver):
        def update(self, snapshot):
            if cluster.submitted:
                raise KeyboardInterrupt

        def note(self, text):
            super().note(text)
            if text.startswith("Stopping"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(store, cluster, Interrupting())
    assert cluster.calls == ["stop", "cancel"]
    assert [s.state for s in store.load_statuses(STUDY)] == ["todo"]


def test_runs_that_may_train_together_go_to_one_node_in_equal_parts(tmp_path):
    store, cluster = a_store(tmp_path, runs(6)), ScriptedCluster()
    store.set_setting(f"{ALONE_PREFIX}run001", "it was too large")
    drive(store, cluster, settings=WorkerSettings(fleet_size=8))
    assert cluster.list_runs() == [["run000", "run002", "run003"], ["run001"], ["run004", "run005"]]


def test_what_a_node_learns_about_a_run_goes_with_it_to_the_next(tmp_path):
    key = f"{ALONE_PREFIX}run000"

    def leave(assignment: Assignment) -> list[Event]:
        failed = RunEvent("run001", failure=("error", "a defect", {}))
        return [
            RunEvent("run000", settings={key: "a CUDA error"}),
            failed,
            TaskEnded(assignment.number),
        ]

    store, cluster = a_store(tmp_path, runs(2)), ScriptedCluster(leave, places=1)
    settings = WorkerSettings(fleet_size=8)
    assert drive(store, cluster, settings=settings).outcomes == {"ok": 1, "error": 1}
    assert cluster.list_runs() == [["run000", "run001"], ["run000"]]
    assert cluster.submitted[1].stored_settings == {key: "a CUDA error"}


def test_leases_are_renewed_while_nothing_else_happens(tmp_path):
    """A lease of 0.4 s: without renewal, the second look would claim the run again."""
    store, looks = a_store(tmp_path, runs(1)), []
    cluster = ScriptedCluster(lambda assignment: [])

    class Waiting(RecordingObserver):
        def update(self, snapshot):
            looks.append(store.load_statuses(STUDY)[0].attempt)
            if len(looks) == 6:
                cluster.events += end_all(cluster.submitted[0])

    executor = ClusterExecutor(lambda: nullcontext(cluster), WorkerSettings(lease_seconds=0.4))
    executor.execute(store, STUDY, StudyCallbacks(Waiting(), add_runs=lambda: 0))
    assert max(looks) == 1 and len(looks) >= 6
