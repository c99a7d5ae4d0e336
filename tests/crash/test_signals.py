"""What ends a study from outside: signals, a closed terminal, a parent that is gone."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.tiny_runs import STUDY, a_store, runs
from support.tiny_study import as_file, small
from test_kill import FAKE, STUDY_COMMAND
from test_real_kill import PARETUNE

from paretune.execution.worker_settings import WorkerSettings
from paretune.store import RunStatus, Store
from paretune.training.checkpoint import read_progress

MEASURING = WorkerSettings(stages=("cost",), limit=1).to_json()
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def of_a_terminal() -> Iterator[None]:
    """Children inherit what is ignored, and whoever tests under nohup ignores SIGHUP."""
    ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def command(folder: Path) -> list[str]:
    return [sys.executable, "-c", STUDY_COMMAND, str(folder), str(FAKE), STUDY]


def until(condition: Callable[[], Any], what: str) -> None:
    patience = time.monotonic() + 600  # a process starts in over a minute on a busy machine
    while not condition():
        assert time.monotonic() < patience, f"waited in vain: {what}"
        time.sleep(0.02)


def family_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(family: list[psutil.Process]) -> bool:
    """Whether they have ended (an orphan that nobody waits for yet has, too)."""
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in family)


def in_hand(store: Store, study: str = STUDY) -> list[RunStatus]:
    return [s for s in store.load_statuses(study) if s.state == "running" and not s.is_claimable]


def holding(tmp_path: Path, stage: str = "tune") -> tuple[Store, Callable[[], bool]]:
    """Two runs that are held in their middle, and whether both are there."""
    store = a_store(tmp_path, runs(2, stage, hold=True))
    number = 1 if stage == "cost" else 2
    return store, lambda: len(list(tmp_path.glob("checkpoints/*.safetensors"))) == number


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
def test_every_signal_ends_workers_and_gives_their_runs_back(tmp_path: Path, number: int) -> None:
    store, in_the_middle = holding(tmp_path)
    study = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(in_the_middle, "two runs in their middle")
    workers = family_of(study.pid)
    assert len(workers) == 3  # the fork server, and its copies
    study.send_signal(number)
    output, _ = study.communicate(timeout=120)
    assert b"the same command continues" in output
    assert gone(workers)
    assert [s.state for s in store.load_statuses(STUDY)] == ["todo", "todo"]
    (tmp_path / "go").touch()
    assert subprocess.run(command(tmp_path), stdout=subprocess.DEVNULL).returncode == 0


def test_under_nohup_a_closed_terminal_changes_nothing(tmp_path: Path) -> None:
    _, in_the_middle = holding(tmp_path)
    study = subprocess.Popen(["nohup", *command(tmp_path)], stdout=subprocess.DEVNULL)
    until(in_the_middle, "two runs in their middle")
    for process in [psutil.Process(study.pid), *family_of(study.pid)]:
        process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert study.wait(timeout=120) == 0


def test_a_closed_terminal_ends_a_study_with_its_bars(tmp_path: Path) -> None:
    store, in_the_middle = holding(tmp_path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, command(tmp_path))  # noqa: S606 (this very interpreter)
    until(in_the_middle, "two runs in their middle")
    workers = family_of(pid)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert gone(workers)
    assert [s.state for s in store.load_statuses(STUDY)] == ["todo", "todo"]


@pytest.mark.parametrize("stage", ["tune", "cost"])
def test_no_worker_survives_its_parent(tmp_path: Path, stage: str) -> None:
    store, in_the_middle = holding(tmp_path, stage)
    study = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL)
    until(in_the_middle, "runs in their middle")
    workers = family_of(study.pid)
    assert len(workers) == (2 if stage == "cost" else 3)  # the fork server, and its copies
    study.kill()
    study.wait()
    until(lambda: gone(workers), "the workers' end")
    assert all(s.is_claimable for s in store.load_statuses(STUDY))


def test_a_study_goes_on_where_its_fork_server_is_killed(tmp_path: Path) -> None:
    """By the system for its memory, say; its workers end, and others go on."""
    store, in_the_middle = holding(tmp_path)
    study = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL)
    until(in_the_middle, "two runs in their middle")
    server, *workers = family_of(study.pid)
    server.kill()
    until(lambda: gone(workers), "the workers' end")
    (tmp_path / "go").touch()
    assert study.wait(timeout=120) == 0
    assert [s.state for s in store.load_statuses(STUDY)] == ["done", "done"]


def test_a_worker_for_costs_begins_when_no_other_process_measures(tmp_path: Path) -> None:
    """Not even its imports run beside a measurement, and a stop ends the wait."""
    store = a_store(tmp_path, runs(1, "cost"))
    arguments = [str(tmp_path), STUDY, MEASURING]
    measuring = os.open(tmp_path / "checkpoints", os.O_RDONLY)
    fcntl.flock(measuring, fcntl.LOCK_EX)
    workers = [subprocess.Popen([sys.executable, str(FAKE), *arguments]) for _ in range(2)]

    def is_waiting(worker: subprocess.Popen[bytes]) -> bool:
        try:
            opened = [file.readlink() for file in Path(f"/proc/{worker.pid}/fd").iterdir()]
        except FileNotFoundError:  # closed between the listing and the look at it
            return False
        return tmp_path / "checkpoints" in opened

    until(lambda: all(map(is_waiting, workers)), "two workers that wait for their turn")
    workers[0].terminate()
    assert workers[0].wait(timeout=120) == 130
    assert not (tmp_path / "ledger.txt").exists() and workers[1].poll() is None
    os.close(measuring)
    assert workers[1].wait(timeout=120) == 0
    assert [s.state for s in store.load_statuses(STUDY)] == ["done"]


@pytest.mark.slow
def test_ctrl_c_keeps_the_step_that_a_real_run_has_come_to(tmp_path: Path, tiny_model: Any) -> None:
    """No checkpoint is due for a minute, and yet no step that was told is taken twice."""
    study = small(
        tmp_path / "data",
        tiny_model("bert"),
        training={"max_steps": 100_000, "eval_every": 50_000, "precision": "fp32"},
    )
    file, folder = as_file(study, tmp_path / "study.yaml"), tmp_path / "store"
    arguments = [*PARETUNE, str(file), "--store", str(folder), "--workers", "1", "--no-report"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)

    def steps() -> dict[str, int]:
        if not (folder / "study.db").exists():
            return {}
        with Store.open(folder, create=True) as store:
            return {s.run_id: s.progress.get("step", 0) for s in in_hand(store, study.study_hash)}

    until(lambda: any(n > 3 for n in steps().values()), "some steps of a run")
    reached = steps()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    with Store.open(folder) as store:
        assert {s.state for s in store.load_statuses(study.study_hash)} <= {"todo", "done"}
        checkpoints = {run_id: read_progress(store.checkpoint_path(run_id)) for run_id in reached}
    for run_id, progress in checkpoints.items():
        assert progress is not None and progress.step >= reached[run_id]
