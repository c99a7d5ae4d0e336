import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.tiny_runs import STUDY, a_store, runs
from support.worker_process import start, until

from paretune.errors import DeviceLostError, StaleClaimError
from paretune.execution.claims import Leases
from paretune.execution.local import WORKER
from paretune.execution.signals import StopRequest
from paretune.execution.worker_settings import WorkerSettings


def ledger(folder: Path, word: str) -> list[str]:
    lines = (folder / "ledger.txt").read_text().splitlines()
    return [" ".join(line.split()[1:3]) for line in lines if line.startswith(word)]


def test_a_worker_does_all_runs_and_deletes_their_checkpoints(tmp_path):
    store = a_store(tmp_path, runs(5))
    worker = start(tmp_path)
    assert (worker.communicate()[1], worker.returncode) == ("", 0)
    assert ledger(tmp_path, "end") == [f"tune {seed}" for seed in range(5)]
    assert [r.outcome for r in store.load_records(STUDY)] == ["ok"] * 5
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert store.verify() == []


def test_a_failing_run_is_recorded_and_the_worker_goes_on(tmp_path):
    store = a_store(
        tmp_path,
        [
            *runs(1, prefix="defect", act="raise"),
            *runs(1, prefix="obstacle", act="obstacle"),
            *runs(1, prefix="nan", act="nan"),
            *runs(1),
        ],
    )
    worker = start(tmp_path)
    assert worker.wait() == 0
    defect, obstacle, nan, fine = store.load_records(STUDY)
    assert fine.outcome == "ok"
    assert [r.outcome for r in (defect, obstacle, nan)] == ["error"] * 3
    assert defect.message.startswith("ZeroDivisionError: a defect")
    assert "(at fake_worker.py:" in defect.message
    assert "Traceback" in defect.measured["traceback"]
    assert obstacle.message == "train.csv: no such file. Look again."
    assert "result.loss is nan" in nan.message


def test_a_cuda_error_fails_its_run_alone_and_ends_the_worker(tmp_path):
    store = a_store(
        tmp_path, [*runs(1), *runs(1, prefix="sticky", act="sticky"), *runs(2, prefix="later")]
    )
    worker = start(tmp_path)
    assert worker.wait() == DeviceLostError.exit_code
    assert [s.outcome for s in store.load_statuses(STUDY)] == ["ok", "error", None, None]
    assert start(tmp_path).wait() == 0
    assert [r.outcome for r in store.load_records(STUDY)] == ["ok", "error", "ok", "ok"]
    failed = store.load_records(STUDY)[1]
    assert "device-side assert" in failed.message
    assert {s.attempt for s in store.load_statuses(STUDY)} == {1}


def test_a_worker_that_cannot_use_its_gpu_claims_no_run(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() > 99:
        pytest.skip("this machine has a hundred GPUs")
    store = a_store(tmp_path, runs(1))
    settings = WorkerSettings(device="cuda:99").to_json()
    ended = subprocess.run([*WORKER, tmp_path, STUDY, settings], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "worker: cuda:99 cannot be used" in ended.stderr and "Traceback" not in ended.stderr
    assert store.load_statuses(STUDY)[0].attempt == 0


def test_a_waiting_worker_takes_runs_that_come_later_and_ends_when_told(tmp_path):
    store = a_store(tmp_path)
    worker = start(tmp_path, WorkerSettings(wait=True))
    time.sleep(0.3)
    store.add_runs(STUDY, runs(1))
    until(store, lambda states: states[0].ended)
    worker.terminate()
    assert worker.wait() == 130


def test_a_stopped_worker_loses_its_lease_and_its_late_finish_is_refused(tmp_path):
    store = a_store(tmp_path, runs(1, steps=1000, sleep=0.02))
    slow = start(tmp_path, WorkerSettings(lease_seconds=0.6))
    until(store, lambda states: "step" in states[0].progress)
    os.kill(slow.pid, signal.SIGSTOP)
    until(store, lambda states: states[0].is_claimable)
    quick = store.claim("quick", STUDY)
    store.finish(quick, {"outcome": "ok", "by": "quick"}, {}, {})
    os.kill(slow.pid, signal.SIGCONT)
    assert "passed to another worker" in slow.communicate()[1]
    assert slow.returncode == 0
    assert store.load_records(STUDY)[0].result == {"outcome": "ok", "by": "quick"}


def test_the_heartbeat_outlives_a_step_longer_than_the_lease(tmp_path):
    store = a_store(tmp_path, runs(1, steps=1, sleep=4.0))
    worker = start(tmp_path, WorkerSettings(lease_seconds=1.5))
    until(store, lambda states: states[0].state == "running")
    while worker.poll() is None:
        assert not store.load_statuses(STUDY)[0].is_claimable or store.load_statuses(STUDY)[0].ended
        time.sleep(0.02)
    assert store.load_statuses(STUDY)[0].attempt == 1
    assert store.load_statuses(STUDY)[0].outcome == "ok"


def test_a_lost_lease_is_raised_in_the_run(tmp_path):
    store = a_store(tmp_path, runs(1))
    claim = store.claim("slow", STUDY, lease_seconds=0.2)
    with pytest.raises(StaleClaimError), Leases(store, 0.2, StopRequest()) as leases:
        renewed = leases.add(claim)
        store.release(claim)
        for step in range(6000):
            renewed.report({"step": step})
            time.sleep(0.02)


def test_a_worker_without_a_store_says_so(tmp_path):
    worker = start(tmp_path / "nowhere")
    assert "no store of studies" in worker.communicate()[1]
    assert worker.returncode == 6
