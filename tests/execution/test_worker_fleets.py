"""A worker that trains several claimed runs at once: whose they are, and how each ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import fake_worker
from support.fake_worker import FakeExecutor, Outcome
from support.tiny_runs import STUDY, a_store, runs

from paretune.errors import DataError, DeviceLostError, StaleClaimError
from paretune.execution.signals import StopRequest
from paretune.execution.worker import DEVICE_LOST_NOTE, FLEET_OUT_OF_MEMORY_NOTE, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.store import Store
from paretune.study import Run
from paretune.training import FleetOutOfMemoryError


class FleetExecutor(FakeExecutor):
    """Runs of one ``group`` go together, a step each in turn; ``act`` says what else happens."""

    def __init__(self, act: str | None = None, between: Callable[[], None] | None = None) -> None:
        self.act, self.between = act, between
        self.together: list[list[int]] = []

    def fleet_key(self, run: Run) -> str:
        return f"{run.method.name} {run.method.options.get('group')}"

    def fleet_capacity(self, run: Run, settings: WorkerSettings, budget_bytes: int) -> int:
        assert budget_bytes > 0
        if self.act == "obstacle":
            raise DataError("no such file.", where="train.csv", remedy="Look again.")
        return 1 if run.method.options.get("group") == "alone" else settings.fleet_size

    def execute_fleet(
        self,
        jobs: Sequence[Any],
        next_jobs: Callable[[int], Sequence[Any]],
        finish: Callable[[Any, Any], None],
    ) -> None:
        training = [(job, job.run.method.options.get("steps", 2)) for job in jobs]
        places, step = len(jobs), 0
        while training:
            self.together.append([job.run.seed for job, _ in training])
            step += 1
            if self.between is not None:
                self.between()
            if self.act == "memory" and step == 2:
                raise FleetOutOfMemoryError
            if self.act == "sticky" and step == 2:
                fake_worker.lose_device(-1)
            if self.act == "defect" and step == 2:
                raise ZeroDivisionError("a defect")
            staying = []
            for job, steps in training:
                try:
                    job.report({"step": step, "steps": steps})
                except StaleClaimError:
                    continue
                if step < steps:
                    staying.append((job, steps))
                else:
                    result = {"outcome": "ok", "scores": {"selection": {"primary": 0.5}}}
                    finish(job, Outcome(result, {}, {}))
            training = staying
            if len(training) < places:
                training += [(job, step + 2) for job in next_jobs(places - len(training))]


def go(
    store: Store,
    executor: FleetExecutor,
    max_runs: int,
    workers: int = 1,
    stop: StopRequest | None = None,
) -> None:
    settings = WorkerSettings(fleet_size=max_runs, workers=workers)
    run_worker(store, STUDY, executor, stop or StopRequest(), settings)


def outcomes(store: Store) -> list[str]:
    return [record.outcome for record in store.load_records(STUDY)]


def test_runs_of_a_kind_go_together_and_the_next_takes_a_seat(tmp_path: Path) -> None:
    all_runs = [*runs(5, group="a"), *runs(2, prefix="other", group="b"), *runs(1, "cost", "cost")]
    store, executor = a_store(tmp_path, all_runs), FleetExecutor()
    go(store, executor, max_runs=3)
    assert executor.together == [[0, 1, 2]] * 2 + [[3, 4]] * 2 + [[0, 1]] * 2
    assert outcomes(store) == ["ok"] * 8
    assert {s.attempt for s in store.load_statuses(STUDY)} == {1}


def test_each_worker_is_left_its_part(tmp_path: Path) -> None:
    store, executor = a_store(tmp_path, runs(6, group="a")), FleetExecutor()
    go(store, executor, max_runs=8, workers=2)
    # The first and half of the five that are left; then half of what is left, each time.
    assert executor.together[0] == [0, 1, 2, 3]
    assert outcomes(store) == ["ok"] * 6


@pytest.mark.parametrize(("max_runs", "group"), [(1, "a"), (4, "alone")])
def test_without_seats_every_run_is_executed_alone(
    tmp_path: Path, max_runs: int, group: str
) -> None:
    store, executor = a_store(tmp_path, runs(3, group=group)), FleetExecutor()
    go(store, executor, max_runs=max_runs)
    assert executor.together == [] and outcomes(store) == ["ok"] * 3


def test_where_memory_ends_its_runs_go_on_alone_and_say_so(tmp_path: Path) -> None:
    store, executor = a_store(tmp_path, runs(3, group="a")), FleetExecutor("memory")
    go(store, executor, max_runs=3)
    assert outcomes(store) == ["ok"] * 3
    assert all(
        FLEET_OUT_OF_MEMORY_NOTE in record.result["notes"] for record in store.load_records(STUDY)
    )


def test_a_run_that_was_too_large_before_is_in_no_fleet(tmp_path: Path) -> None:
    store, executor = a_store(tmp_path, runs(4, group="a")), FleetExecutor()
    store.set_setting("halve/run001", "1")
    go(store, executor, max_runs=4)
    assert executor.together == [[0, 2, 3]] * 2
    assert outcomes(store) == ["ok"] * 4


def test_a_cuda_error_in_a_fleet_gives_its_runs_back_to_be_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any of them may be the cause; alone in the next worker, only that one fails."""
    all_runs = [*runs(2, group="a"), *runs(1, prefix="sticky", group="a", act="sticky")]
    store, executor = a_store(tmp_path, all_runs), FleetExecutor("sticky")
    monkeypatch.setattr(fake_worker, "lost", [])
    with pytest.raises(DeviceLostError):
        go(store, executor, max_runs=3)
    assert executor.together == [[0, 1, 0]] * 2
    assert [(s.state, s.is_claimable) for s in store.load_statuses(STUDY)] == [("todo", True)] * 3
    monkeypatch.setattr(fake_worker, "lost", [])  # the next process
    with pytest.raises(DeviceLostError):
        go(store, executor, max_runs=3)
    assert executor.together == [[0, 1, 0]] * 2
    assert outcomes(store) == ["ok", "ok", "error"]
    assert all(
        DEVICE_LOST_NOTE in record.result["notes"] for record in store.load_records(STUDY)[:2]
    )


@pytest.mark.parametrize(("act", "message"), [("defect", "a defect"), ("obstacle", "no such file")])
def test_what_stops_a_fleet_is_told_of_each_of_its_runs(
    tmp_path: Path, act: str, message: str
) -> None:
    store = a_store(tmp_path, runs(2, group="a"))
    go(store, FleetExecutor(act), max_runs=2)
    assert outcomes(store) == ["error"] * 2
    assert all(message in str(record.message) for record in store.load_records(STUDY))


def test_told_to_stop_all_runs_are_given_back(tmp_path: Path) -> None:
    store, stop = a_store(tmp_path, runs(3, group="a")), StopRequest()

    def signalled() -> None:
        stop.receive(signal.SIGTERM)

    go(store, FleetExecutor(between=signalled), max_runs=2, stop=stop)
    assert [(s.state, s.is_claimable) for s in store.load_statuses(STUDY)] == [("todo", True)] * 3


def test_a_run_that_was_lost_ends_elsewhere(tmp_path: Path) -> None:
    """Its claim is stale when it ends: what it left is not written, and the others are."""
    store = a_store(tmp_path, runs(2, group="a"))

    def take_over() -> None:
        state = store.load_statuses(STUDY)[0]
        if state.attempt == 1:
            with store._write() as db:
                db.execute("UPDATE runs SET attempt = 2, owner = 'x' WHERE run_id = 'run000'")

    go(store, FleetExecutor(between=take_over), max_runs=2)
    assert [s.state for s in store.load_statuses(STUDY)] == ["running", "done"]
