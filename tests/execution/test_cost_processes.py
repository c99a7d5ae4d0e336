"""Runs that are each measured in a copy of one process."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.fake_worker import REAL_IMPORTS
from support.tiny_runs import STUDY, a_store, runs
from support.worker_process import start, until

from paretune.execution import cost_processes
from paretune.execution.worker_settings import WorkerSettings

pytestmark = pytest.mark.skipif(
    not cost_processes.can_fork("cpu"), reason="processes are not copied here"
)


def apart_worker(folder: Path, **popen: Any) -> subprocess.Popen[Any]:
    return start(folder, WorkerSettings(stages=("cost",), fork=True), **popen)


@pytest.mark.wide
def test_every_run_has_a_process_of_its_own(tmp_path: Path) -> None:
    store = a_store(tmp_path, runs(4, "cost"))
    worker = apart_worker(tmp_path, env={**os.environ, REAL_IMPORTS: "1"})
    assert (worker.communicate()[1], worker.returncode) == ("", 0)
    records = store.load_records(STUDY)
    assert [record.outcome for record in records] == ["ok"] * 4
    assert len({record.measured["pid"] for record in records} | {worker.pid}) == 5
    # What the libraries brought is not looked through again for garbage.
    assert all(record.measured["frozen_objects"] > 100_000 for record in records)


def test_a_run_that_fails_is_recorded_and_the_others_are_measured(tmp_path: Path) -> None:
    store = a_store(tmp_path, [*runs(1, "cost", "bad", act="raise"), *runs(2, "cost")])
    assert apart_worker(tmp_path).wait() == 0
    assert [record.outcome for record in store.load_records(STUDY)] == ["error", "ok", "ok"]


@pytest.mark.parametrize(("act", "number"), [("die", signal.SIGKILL), ("segfault", signal.SIGSEGV)])
def test_a_copy_that_is_killed_is_seen_and_its_run_is_free(
    tmp_path: Path, act: str, number: int
) -> None:
    store = a_store(tmp_path, runs(2, "cost", act=act))
    assert apart_worker(tmp_path).wait() == -number
    first, second = store.load_statuses(STUDY)
    assert (first.state, first.is_claimable, first.attempt) == ("running", True, 1)
    assert (second.state, second.attempt) == ("todo", 0)


def test_told_to_stop_it_gives_the_run_back(tmp_path: Path) -> None:
    store = a_store(tmp_path, runs(1, "cost", hold=True))
    worker = apart_worker(tmp_path)
    until(store, lambda states: states[0].state == "running")
    worker.terminate()
    assert worker.wait() == 130
    assert store.load_statuses(STUDY)[0].state == "todo"


def test_a_fresh_process_is_started_where_none_can_be_copied() -> None:
    assert not cost_processes.can_fork("cuda:0")
