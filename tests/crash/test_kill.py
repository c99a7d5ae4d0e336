"""kill -9 of a study, parent and workers, at random moments: nothing lost, nothing double."""

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.tiny_runs import STUDY, a_store, runs

from paretune.store import Store

FAKE = Path(__file__).parents[1] / "support" / "fake_worker.py"

STUDY_COMMAND = """
import sys
from pathlib import Path
from paretune.execution.executor import StudyCallbacks
from paretune.execution.local import LocalExecutor
from paretune.execution.progress import open_observer
from paretune.execution.worker_settings import WorkerSettings
from paretune.store import Store
with Store.open(Path(sys.argv[1]), create=True) as store, open_observer() as observer:
    executor = LocalExecutor([WorkerSettings(device_workers=2)], (sys.executable, sys.argv[2]))
    executor.execute(store, sys.argv[3], StudyCallbacks(observer, add_runs=lambda: 0))
"""


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", STUDY_COMMAND, str(folder), str(FAKE), STUDY]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def ended_runs(store: Store) -> dict[str, tuple[object, str]]:
    """What the done runs left, and which process did them."""
    return {r.run_id: (dict(r.result), str(r.measured)) for r in store.load_records(STUDY)}


def contents(store: Store) -> dict[str, tuple[object, bytes]]:
    return {
        r.run_id: (dict(r.result), store.read_blob(r.result["weights"]))
        for r in store.load_records(STUDY)
    }


def wait_for_work(study: subprocess.Popen, ledger: Path) -> None:
    """Until a worker of this start of the study has begun a run."""
    before = ledger.stat().st_size if ledger.exists() else 0
    while not ledger.exists() or ledger.stat().st_size == before:
        assert study.poll() is None, "the study ended before it was killed often enough"
        time.sleep(0.002)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_nothing(tmp_path, kills):
    all_runs = [
        *runs(kills * 5, steps=10, sleep=0.01),
        *runs(2, "cost", "cost", steps=10, sleep=0.01),
    ]
    whole = a_store(tmp_path / "whole", all_runs)
    assert start(tmp_path / "whole").wait() == 0

    killed = a_store(tmp_path / "killed", all_runs)
    chance = random.Random(20)  # noqa: S311 (the same moments every time)
    done: dict[str, object] = {}
    for _ in range(kills):
        study = start(tmp_path / "killed")
        wait_for_work(study, tmp_path / "killed" / "ledger.txt")
        time.sleep(chance.uniform(0, 0.12))
        # The parent first, or the workers first (the parent may have started others by then).
        parent = psutil.Process(study.pid)
        workers = parent.children(recursive=True)
        for process in chance.choice([[parent, *workers], [*workers, parent]]):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        study.wait()
        now = ended_runs(killed)
        assert {run_id: now[run_id] for run_id in done} == done  # done rows never change
        done = now
    assert start(tmp_path / "killed").wait() == 0

    assert contents(killed) == contents(whole)
    assert [r.run_id for r in killed.load_records(STUDY)] == [run_id for run_id, _ in all_runs]
    assert killed.verify() == []
    ledger = (tmp_path / "killed" / "ledger.txt").read_text().splitlines()
    ends = [line.split()[1:3] for line in ledger if line.startswith("end")]
    # A run ends twice only where a kill fell between its end and its commit (two workers each).
    assert len(all_runs) <= len(ends) <= len(all_runs) + 2 * kills
    assert list((tmp_path / "killed" / "checkpoints").glob("*.safetensors")) == []
    assert list((tmp_path / "killed" / "blobs").glob("part/*")) == []
