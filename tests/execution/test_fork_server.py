"""Workers that are copies of one process."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from support.fake_worker import REAL_IMPORTS
from support.tiny_runs import STUDY, a_store, runs
from support.worker_process import FAKE, until

from paretune.execution.fork_server import ForkedProcess, ForkServer, can_fork
from paretune.execution.local import WorkerPool
from paretune.execution.worker_settings import WorkerSettings

pytestmark = pytest.mark.skipif(not can_fork("cpu"), reason="processes are not copied here")


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer([sys.executable, str(FAKE)])
    yield server
    server.close()


@pytest.fixture
def log() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        yield file


def start(server: ForkServer, folder: Path, log: IO[bytes], threads: int = 1) -> ForkedProcess:
    settings = WorkerSettings(stages=("cost",), limit=1, threads=threads, parent=server.pid)
    return server.start([str(folder), STUDY, settings.to_json()], log)


@pytest.mark.wide
def test_every_worker_has_a_process_and_threads_of_its_own(tmp_path: Path, log: IO[bytes]) -> None:
    store = a_store(tmp_path, runs(3, "cost"))
    os.environ[REAL_IMPORTS] = "1"
    server = ForkServer([sys.executable, str(FAKE)])
    del os.environ[REAL_IMPORTS]
    assert [start(server, tmp_path, log, n).wait() for n in (1, 2, 3)] == [0, 0, 0]
    server.close()
    measured = [record.measured for record in store.load_records(STUDY)]
    assert len({m["pid"] for m in measured} | {server.pid}) == 4
    assert {m["session"] for m in measured} == {m["pid"] for m in measured}
    assert [m["threads"] for m in measured] == ["1", "2", "3"]
    # Of every library that was imported before the fork, and none has started a thread by then.
    assert [set(m["pool_threads"]) for m in measured] == [{1}, {2}, {3}]
    # What the libraries brought is not looked through again for garbage.
    assert all(m["frozen_objects"] > 100_000 for m in measured)


@pytest.mark.parametrize(("act", "number"), [("die", signal.SIGKILL), ("segfault", signal.SIGSEGV)])
def test_a_worker_that_is_killed_is_seen_with_its_words_and_its_run_is_free(
    tmp_path: Path, server: ForkServer, log: IO[bytes], act: str, number: int
) -> None:
    store = a_store(tmp_path, runs(2, "cost", act=act))
    assert start(server, tmp_path, log).wait() == -number
    first, second = store.load_statuses(STUDY)
    assert (first.state, first.is_claimable, first.attempt) == ("running", True, 1)
    assert (second.state, second.attempt) == ("todo", 0)
    log.seek(0)
    assert log.read() == (b"a library crashed\n" if act == "segfault" else b"")


def test_told_to_stop_it_gives_the_run_back(
    tmp_path: Path, server: ForkServer, log: IO[bytes]
) -> None:
    store = a_store(tmp_path, runs(1, "cost", hold=True))
    worker = start(server, tmp_path, log)
    until(store, lambda states: states[0].state == "running")
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 130
    assert store.load_statuses(STUDY)[0].state == "todo"


def test_the_end_of_a_worker_ends_the_wait_for_it(
    tmp_path: Path, server: ForkServer, log: IO[bytes]
) -> None:
    a_store(tmp_path, runs(1, "cost"))
    pool = WorkerPool(tmp_path, STUDY, server=server)
    worker = start(server, tmp_path, log)
    pool.wait(120.0)
    assert server.codes == {worker.pid: 0}
    server.close()
    assert server.code == -signal.SIGKILL
    pool.wait(0.0)  # without a server, it is no more than a pause


def test_a_fresh_process_is_started_where_none_can_be_copied() -> None:
    assert not can_fork("cuda:0")
