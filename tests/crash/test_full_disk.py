"""A disk that is full: the worker stops with one sentence, and the same command continues."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import digests, finish, small
from test_kill_at_writes import read_checkpoint, save_checkpoint

from paretune.errors import StoreError
from paretune.execution import worker
from paretune.execution.signals import StopRequest
from paretune.execution.study_runs import add_missing_runs
from paretune.execution.worker import make_executor, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.owner import owner_of
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.training import TrainerOptions


def on_a_small_disk(action: Callable[[], str]) -> tuple[int, str]:
    """Wait status and answer of a copy of this process, whose files may have 256 bytes at most."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))
        try:
            os.write(writer, action().encode())
        except StoreError as error:
            os.write(writer, f"StoreError {error}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    return os.waitpid(pid, 0)[1], text


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1)
    status, text = on_a_small_disk(lambda: str(save_checkpoint(tmp_path, 2)))
    assert status == 0 and text.startswith("StoreError ") and "the same command continues" in text
    assert read_checkpoint(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 820 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=820k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_study_on_a_full_disk_stops_and_the_same_command_continues_to_the_same_bits(
    tmp_path: Path, tiny_model: Any, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(
        tmp_path / "data",
        tiny_model("bert"),
        methods=["full"],
        protocol={"trials": 3, "folds": 1, "seeds": [1]},
        training={"max_steps": 20, "eval_every": 10, "max_length": 32, "precision": "fp32"},
    )
    with finish(study, tmp_path / "whole", costs=0) as whole:
        expected = digests(whole, study.study_hash)
    monkeypatch.setattr(
        worker.RunExecutor,
        "_options",
        TrainerOptions("cpu", checkpoint_seconds=0),
    )

    process = subprocess.Popen(["sleep", "60"])
    # A process that has ended, as a worker has by the time the command is given again.
    monkeypatch.setattr(worker, "current_owner", lambda _: owner_of(process.pid))

    def go_on(store: Store) -> None:
        prepared = prepare_study(study).in_store(store, "cpu")
        while add_missing_runs(prepared, store) or any(
            s.is_claimable and s.stage != "cost" for s in store.load_statuses(study.study_hash)
        ):
            executor = make_executor()
            options = WorkerSettings(stages=("tune", "final"))
            run_worker(store, study.study_hash, executor, StopRequest(), options)

    with Store.open(small_disk, create=True) as store:
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        with pytest.raises(StoreError, match="No space left on device"):
            go_on(store)
        statuses = store.load_statuses(study.study_hash)
        assert "failed" not in {status.state for status in statuses}
        (running,) = [status for status in statuses if status.state == "running"]
        assert store.checkpoint_path(running.run_id).is_file()  # the last one that was whole
        process.kill()
        process.wait()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        go_on(store)
        assert digests(store, study.study_hash) == expected and store.verify() == []
