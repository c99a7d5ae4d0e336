"""kill -9 of a study that really trains, parent and workers, 20 times: the same bits come out."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
from support.tiny_study import as_file, digests, small

from paretune.store import Store
from paretune.study import Study

KILLS = 20
PARETUNE = (sys.executable, "-c", "from paretune.cli import main; main()", "run")


def start(file: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [*PARETUNE, str(file), "--store", str(folder)]
    command += ["--workers", "2", "--no-report"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kill(study: subprocess.Popen[bytes], chance: random.Random) -> None:
    """The parent and all its workers, in any order; workers are sessions of their own."""
    parent = psutil.Process(study.pid)
    family = [parent, *parent.children(recursive=True)]
    chance.shuffle(family)
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family)
    study.wait()


def in_hand(folder: Path, study: Study) -> bool:
    """Whether a worker of this start has begun a run (an abandoned run counts as free)."""
    if not (folder / "study.db").exists():
        return False
    with Store.open(folder, create=True) as store:
        states = store.load_statuses(study.study_hash)
    return any(state.state == "running" and not state.is_claimable for state in states)


def ended(folder: Path, study: Study) -> int:
    with Store.open(folder) as store:
        return sum(state.ended for state in store.load_statuses(study.study_hash))


@pytest.mark.slow
def test_twenty_kills_of_real_training_change_no_bit(tmp_path: Path, tiny_model: Any) -> None:
    study = small(
        tmp_path / "data",
        tiny_model("bert"),
        methods=["full", {"name": "lora", "rank": 2}, {"name": "loha", "rank": 2}],
        protocol={"trials": 3, "folds": 1, "outer": "split", "seeds": [1, 2, 3, 4, 5]},
        training={"max_steps": 200, "eval_every": 50, "max_length": 32, "precision": "fp32"},
    )
    file = as_file(study, tmp_path / "study.yaml")
    assert start(file, tmp_path / "whole").wait() == 0
    with Store.open(tmp_path / "whole") as whole:
        trials = [
            s.seconds or 0.0 for s in whole.load_statuses(study.study_hash) if s.stage == "tune"
        ]
    # So that two thirds of the kills fall into the first run of a worker, and some runs end.
    longest = 1.5 * median(trials)

    folder = tmp_path / "killed"
    chance = random.Random(20)  # noqa: S311 (the same moments every time)
    done: dict[str, str] = {}
    unfinished = 0
    for turn in range(KILLS):
        process = start(file, folder)
        # Every fourth kill comes after a run has ended, however slow the machine has become.
        while not in_hand(folder, study) or (turn % 4 == 3 and ended(folder, study) <= len(done)):
            assert process.poll() is None, "the study ended before it was killed often enough"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, longest))
        kill(process, chance)
        with Store.open(folder) as store:
            now = digests(store, study.study_hash)
            unfinished += sum(s.state == "running" for s in store.load_statuses(study.study_hash))
        assert {run: now[run] for run in done} == done  # what is done never changes
        done = now
    assert unfinished >= KILLS / 2, "most kills must fall into the middle of a run"
    assert len(done) > 2, "some runs must end between the kills"
    assert start(file, folder).wait() == 0

    with Store.open(tmp_path / "whole") as whole, Store.open(folder) as killed:
        hash_ = study.study_hash
        assert digests(killed, hash_) == digests(whole, hash_)
        # Runs are asked for in the order in which results come in; there are the same, each once.
        run_ids = [state.run_id for state in killed.load_statuses(hash_)]
        assert sorted(run_ids) == sorted(state.run_id for state in whole.load_statuses(hash_))
        assert len(run_ids) == len(set(run_ids)) == 2 + 4 * (3 + 5 + 1)
        assert {state.state for state in killed.load_statuses(hash_)} == {"done"}
        for record in killed.load_records(hash_):
            for blob in ("predictions", "weights"):
                if blob in record.result:
                    assert killed.read_blob(record.result[blob]) == whole.read_blob(
                        record.result[blob]
                    )
        assert killed.verify() == []
    assert list((folder / "checkpoints").iterdir()) == []
    assert list((folder / "blobs").glob("part/*")) == []
