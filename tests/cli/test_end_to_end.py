"""A user's way from a data file to a report, with the machine taken away in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import assert_equal_to_rounding, command, digests, finish, two_files

from paretune.store import Store
from paretune.study import Study

PARETUNE = (sys.executable, "-c", "from paretune.cli import main; main()")
REPLACED = {
    "trials: 3 ": "trials: 1 ",
    "seeds: [1, 2, 3, 4, 5]": "seeds: [1, 2]",
    "epochs: 10": "max_steps: 12",
    "max_length: 256": "max_length: 32",
    "precision: auto": "precision: fp32",
    "  - full\n": "",
    "  - {name: loha, rank: 8}\n": "",
    "  - {name: prompt, num_virtual_tokens: 20}\n": "",
}


@pytest.mark.parametrize(
    "fleet", [pytest.param(1, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.wide)]
)
def test_new_check_plan_run_kill_run_report(
    fleet: int, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Alone the runs come to the same bits as uninterrupted ones, in a fleet to rounding."""
    monkeypatch.chdir(tmp_path)
    two_files(tmp_path)
    tiny_model("bert", tmp_path / "model")
    assert command(capsys, "new", "train.csv", "-o", "mine.yaml", "--model", "./model")[0] == 0
    text = Path("mine.yaml").read_text(encoding="utf-8")
    for before, after in REPLACED.items():
        assert before in text
        text = text.replace(before, after)
    Path("mine.yaml").write_text(text, encoding="utf-8")
    study = Study.load("mine.yaml")
    assert command(capsys, "check", "mine.yaml")[0] == 0
    assert "8 runs, 0 done" in command(capsys, "plan", "mine.yaml")[1]

    folder = Path("studies") / study.study
    argv = [*PARETUNE, "run", "mine.yaml", "--workers", "1", "--fleet", str(fleet)]
    argv.append("protocol.cost_seconds=1")
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    database = folder / "study.db"
    while not database.exists() or not _ended(folder, study) >= 2:
        assert process.poll() is None, "the study ended before it was killed"
        time.sleep(0.1)  # to ask costs the study more than a second's wait
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = _ended(folder, study)
    assert 2 <= before < 8

    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "are done already." in ended.stdout
    assert "Score: accuracy, 20 test examples, " in ended.stdout
    assert (folder / "report.html").is_file()
    code, out, _ = command(capsys, "report", "mine.yaml")
    assert code == 0 and "Page: " in out
    assert "8 of 8 runs ended" in " ".join(command(capsys, "ls", "studies")[1].split())

    # Another process, another place, never interrupted, each run alone.
    with finish(study, tmp_path / "whole", costs=0) as whole, Store.open(folder) as killed:
        expected = digests(whole, study.study_hash)
        actual = digests(killed, study.study_hash)
        assert len(expected) == 6
        if fleet == 1:
            assert {run: actual[run] for run in expected} == expected
        assert_equal_to_rounding(killed, whole, study.study_hash)
        assert killed.verify() == []


def _ended(folder: Path, study: Study) -> int:
    with Store.open(folder, create=True) as store:
        return sum(state.ended for state in store.load_statuses(study.study_hash))
