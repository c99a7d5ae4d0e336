import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.executors import RecordingObserver
from support.tiny_runs import STUDY, a_run, a_store, runs

from paretune.errors import ParetuneError, StoreError
from paretune.execution import worker_crashes
from paretune.execution.executor import StudyCallbacks
from paretune.execution.local import LocalExecutor
from paretune.execution.memory_budget import fit_workers
from paretune.execution.worker_crashes import WorkerExit
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring import processor
from paretune.owner import current_owner
from paretune.store import Store

COMMAND = (sys.executable, str(Path(__file__).parents[1] / "support" / "fake_worker.py"))


def drive(store, observer=None, *, add_runs=lambda: 0, planned_runs=0, **settings):
    command, devices = settings.pop("command", COMMAND), settings.pop("devices", None)
    settings = {"device_workers": settings.pop("workers", 2), **settings}
    executor = LocalExecutor(devices or [WorkerSettings(**settings)], command)
    callbacks = StudyCallbacks(observer or RecordingObserver(), add_runs, planned_runs=planned_runs)
    return executor.execute(store, STUDY, callbacks)


def lines(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "ledger.txt").read_text().splitlines()]


def test_stages_follow_one_another_and_costs_are_measured_alone(tmp_path):
    store, observer = a_store(tmp_path, runs(4, sleep=0.01)), RecordingObserver()

    def add_runs():
        new = store.add_runs(STUDY, runs(2, "cost", "cost")) if finals() else 0
        return new + store.add_runs(STUDY, runs(2, "final", "final"))

    def finals():
        return any(s.stage == "final" and s.ended for s in store.load_statuses(STUDY))

    summary = drive(store, observer, add_runs=add_runs, planned_runs=8)
    assert (summary.total, summary.ended, summary.outcomes) == (8, 8, {"ok": 8})
    assert sorted(observer.ended_runs) == sorted(s.run_id for s in store.load_statuses(STUDY))
    assert observer.snapshots[-1].ended == observer.snapshots[-1].total == 8
    assert {snapshot.total for snapshot in observer.snapshots} == {8}
    costs = [line for line in lines(tmp_path) if line[1] == "cost"]
    assert [line[0] for line in costs] == ["start", "end", "start", "end"]
    pids = [line[3] for line in costs[::2]]
    trained = {line[3] for line in lines(tmp_path) if line[1] != "cost"}
    assert pids[0] != pids[1]
    assert not trained & set(pids)
    last_trained = max(float(line[-1]) for line in lines(tmp_path) if line[1] != "cost")
    assert last_trained < float(costs[0][-1])


TWO_GPUS = (WorkerSettings("cuda:0"), WorkerSettings("cuda:1"))


def test_each_device_has_a_worker_of_its_own(tmp_path):
    """Both runs wait until two workers have begun one."""
    store = a_store(tmp_path, runs(2, meet=2))
    assert drive(store, devices=TWO_GPUS).outcomes == {"ok": 2}
    devices = {record.measured["device"] for record in store.load_records(STUDY)}
    assert devices == {"cuda:0", "cuda:1"}


def test_costs_are_measured_on_one_device_while_others_go_on(tmp_path):
    """Here this process trains on the second: it ends when both costs are there."""
    store = a_store(tmp_path, [*runs(1), *runs(2, "cost", "cost")])
    claim = store.claim(current_owner("cuda:1"), STUDY, stages=("tune",))

    class Second(RecordingObserver):
        def ended(self, status, snapshot):
            super().ended(status, snapshot)
            if len(self.ended_runs) == 2:
                store.finish(claim, {"outcome": "ok"}, {}, {})

    observer = Second()
    assert drive(store, observer, devices=TWO_GPUS[:1]).outcomes == {"ok": 3}
    assert observer.ended_runs == ["cost000", "cost001", claim.run_id]
    costs = [record.measured for record in store.load_records(STUDY) if record.measured]
    assert [cost["device"] for cost in costs] == ["cuda:0", "cuda:0"]
    assert len({line[3] for line in lines(tmp_path)}) == 2  # each in a process of its own


def test_two_parents_on_one_store_do_no_run_twice(tmp_path):
    a_store(tmp_path, [*runs(12, sleep=0.02), *runs(2, "cost", "cost", sleep=0.02)])
    ends = []

    def parent():
        with Store.open(tmp_path) as store:
            ends.append(drive(store, workers=1).outcomes)

    parents = [threading.Thread(target=parent) for _ in range(2)]
    for one in parents:
        one.start()
    for one in parents:
        one.join()
    assert ends == [{"ok": 14}] * 2
    starts = [tuple(line[1:3]) for line in lines(tmp_path) if line[0] == "start"]
    assert len(starts) == len(set(starts)) == 14


def test_a_run_that_kills_its_worker_three_times_fails_and_the_rest_is_done(tmp_path):
    store, observer = (
        a_store(tmp_path, [*runs(1, prefix="bad", act="segfault"), *runs(3)]),
        RecordingObserver(),
    )
    summary = drive(store, observer, workers=1)
    assert summary.outcomes == {"error": 1, "ok": 3}
    assert [s.run_id for s in summary.failed] == ["bad000"]
    assert (
        "3 times at the same place, by signal SIGSEGV\na library crashed"
        in summary.failed[0].message
    )
    assert store.load_statuses(STUDY)[0].attempt == 3
    assert sum("retrying" in note for note in observer.notes) == 2


@pytest.mark.parametrize(("needs", "outcome"), [(1, "ok"), (2, "ok"), (3, "out_of_memory")])
def test_a_kill_for_memory_halves_and_the_third_is_a_result(tmp_path, monkeypatch, needs, outcome):
    counter = iter(range(1000))
    monkeypatch.setattr(worker_crashes, "count_oom_kills", lambda: next(counter))
    store, observer = (
        a_store(tmp_path, [("big", a_run(act="halve", needs=needs))]),
        RecordingObserver(),
    )
    summary = drive(store, observer, workers=1)
    assert summary.outcomes == {outcome: 1}
    assert summary.failed == ()
    halvings = [line[4] for line in lines(tmp_path) if line[0] == "start"]
    assert halvings == [str(n) for n in range(min(needs, 2) + 1)]
    assert store.get_setting("halve/big") == str(min(needs, 2))
    assert sum("lack of memory" in note for note in observer.notes) == min(needs, 2)


def test_a_kill_without_a_sign_of_the_kernel_is_no_memory_kill(tmp_path):
    store = a_store(tmp_path, runs(1, act="die"))
    assert drive(store, workers=1).outcomes == {"error": 1}
    assert store.get_setting("halve/run000") is None


def test_deaths_with_progress_between_them_do_not_count(tmp_path):
    store = a_store(tmp_path, runs(1))
    crashes = worker_crashes.WorkerCrashes(store, lambda _: None)
    for step in range(1, 8):
        claim = store.claim("gone", STUDY)
        store.renew(claim, {"step": step})
        crashes.handle_exits([WorkerExit("gone", -9, "said")], store.load_statuses(STUDY))
        assert store.load_statuses(STUDY)[0].state == "running"
        store.release(claim)


def test_workers_that_cannot_start_end_the_study_with_their_own_words(tmp_path):
    store = a_store(tmp_path, runs(1))
    broken = (sys.executable, "-c", "raise ImportError('no module named torch')")
    with pytest.raises(ParetuneError, match=r"exit code 1(.|\n)*no module named torch"):
        drive(store, command=broken)


@pytest.mark.parametrize("stage", ["final", "cost"])
def test_workers_that_end_without_an_error_and_take_nothing_end_the_study(tmp_path, stage):
    store = a_store(tmp_path, runs(1, stage))
    with pytest.raises(ParetuneError, match=r"before they take a run \(exit code 0\), 3 times"):
        drive(store, command=(sys.executable, "-c", "pass"))
    assert [status.state for status in store.load_statuses(STUDY)] == ["todo"]


def test_a_worker_that_ends_while_others_run_a_cost_is_no_crash(tmp_path):
    store = a_store(tmp_path, runs(2, "cost"))
    assert store.claim("elsewhere-1-1", STUDY) is not None
    crashes = worker_crashes.WorkerCrashes(store, lambda _: None)
    for _ in range(9):
        crashes.handle_exits([WorkerExit("x", 0, "")], store.load_statuses(STUDY))


def test_a_worker_that_cannot_use_the_store_ends_the_study(tmp_path):
    store = a_store(tmp_path, runs(1))
    full = (sys.executable, "-c", "import sys; sys.stderr.write('the disk is full'); sys.exit(6)")
    with pytest.raises(StoreError, match=r"^the disk is full"):
        drive(store, command=full)


def test_the_parent_imports_no_torch():
    check = (
        "import sys, paretune.execution.local, paretune.execution.worker; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_containers_quota_is_honoured_wherever_processors_are_counted(tmp_path, monkeypatch):
    """Where a cgroup allows one core, one worker trains, and one thread measures a cost."""
    monkeypatch.setattr(processor, "read_cpu_quota", lambda: 1.5)
    store = a_store(tmp_path, runs(1, "cost", "cost"))
    drive(store)
    (fitted,) = fit_workers([WorkerSettings(device_workers=0)], [1])
    assert fitted.device_workers == 1
    assert store.load_records(STUDY)[0].measured["threads"] == "1"


@pytest.mark.wide
def test_the_rest_of_a_study_goes_on_after_cuda_errors(tmp_path):
    """Each fails its own run and ends its worker; more of them than patience would bear."""
    all_runs = [*runs(4, prefix="sticky", act="sticky"), *runs(3)]
    store, observer = a_store(tmp_path, all_runs), RecordingObserver()
    summary = drive(store, observer, workers=1)
    assert summary.outcomes == {"error": 4, "ok": 3}
    assert {s.attempt for s in store.load_statuses(STUDY)} == {1}
    assert sum("without its GPU" in note for note in observer.notes) == 4


def test_a_worker_is_asked_to_stop_once(tmp_path: Path) -> None:
    """A second signal milliseconds later would reach it while it keeps its runs."""
    from types import SimpleNamespace

    from paretune.execution.local import WorkerPool, _WorkerProcess

    signals: list[int] = []
    process = SimpleNamespace(send_signal=signals.append, wait=lambda _: 0, poll=lambda: None)
    pool = WorkerPool(tmp_path, "study")
    pool.workers.append(_WorkerProcess(process, "one", WorkerSettings(), None))  # type: ignore[arg-type]
    pool.request_stop()
    pool.stop()
    assert signals == [signal.SIGTERM]
