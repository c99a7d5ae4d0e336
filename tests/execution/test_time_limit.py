"""A worker with little time takes what ends in it."""

from __future__ import annotations

import time
from pathlib import Path

from support.fake_worker import FakeExecutor
from support.tiny_runs import STUDY, a_store, runs

from paretune.execution.signals import StopRequest
from paretune.execution.time_limit import SAVE_SECONDS, TimeLimit
from paretune.execution.worker import WorkerOptions, run_worker


def test_a_run_may_start_where_it_is_predicted_to_end_in_time() -> None:
    now = [0.0]
    limit = TimeLimit(SAVE_SECONDS + 100, {"short": 90.0, "long": 110.0}, lambda: now[0])
    assert [limit.admits(run) for run in ("short", "long", "unknown")] == [True, False, True]
    now[0] = 50.0
    assert [limit.admits(run) for run in ("short", "long", "unknown")] == [False, False, True]
    now[0] = 100.0
    assert limit.is_over and not limit.admits("unknown")
    assert not TimeLimit().is_over and TimeLimit().admits("long")


def test_a_worker_leaves_what_is_too_long_to_others(tmp_path: Path) -> None:
    with a_store(tmp_path / "store", runs(4)) as store:
        store.set_settings({"seconds/run000": "7200", "seconds/run002": "5"})
        options = WorkerOptions(until=time.monotonic() + SAVE_SECONDS + 3600)
        run_worker(store, STUDY, FakeExecutor(), StopRequest(), options)
        states = [status.state for status in store.load_statuses(STUDY)]
    assert states == ["todo", "done", "done", "done"]
