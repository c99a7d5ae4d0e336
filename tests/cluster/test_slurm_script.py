"""examples/cluster/slurm.sh on a fake SLURM: its shares are signalled, saved and queued again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.fake_slurm import WORKER, FakeSlurm, read_options

SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "slurm.sh"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin"
    path.mkdir()
    (path / "paretune").write_text(WORKER)
    (path / "paretune").chmod(0o755)
    return FakeSlurm(tmp_path, path)


@pytest.fixture
def two_tasks(tmp_path):
    """The script with a shorter array."""
    script = tmp_path / "slurm.sh"
    script.write_text(re.sub(r"--array=\d+-\d+\n", "--array=1-2\n", SCRIPT.read_text("utf-8")))
    assert read_options(script)["array"] == "1-2"
    return script


def test_every_task_runs_its_share_of_the_array(slurm, two_tasks, tmp_path):
    assert slurm.sbatch(two_tasks, "a study.yaml", "--retry") == [0, 0]
    for index in (1, 2):
        *arguments, scratch = json.loads(slurm.read_log(index))
        expected = ["run", "a study.yaml", "--retry", "--shard", f"{index}/2", "--store"]
        assert arguments == expected and "scratch of this node" in scratch
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == ["1-of-2", "2-of-2"]
    assert not list((tmp_path / "scratch of this node").iterdir())


def test_one_share_is_run_again_alone(slurm, two_tasks):
    """Where one task of the array is submitted again, SLURM says that it is the only one."""
    assert slurm.sbatch(two_tasks, "s.yaml", PARETUNE_SHARDS="8") == [0, 0]
    assert "2/8" in json.loads(slurm.read_log(2))


def test_before_the_limit_runs_are_saved_and_the_task_alone_is_queued_again(
    slurm, two_tasks, tmp_path
):
    assert slurm.sbatch(two_tasks, "s.yaml", signals=2, INTERRUPTED="2") == [0, 0]
    assert slurm.restarts == {1: 2, 2: 2}
    for index in (1, 2):
        assert re.findall(r"goes on from (\d)", slurm.read_log(index)) == ["0", "1"]
        results = tmp_path / "shards" / f"{index}-of-2"
        names = ["attempt-0", "attempt-1", "attempt-2"]
        assert sorted(p.name for p in results.iterdir()) == names


def test_what_was_killed_while_its_results_were_exchanged_is_found(slurm, two_tasks, tmp_path):
    for index in (1, 2):
        old = tmp_path / "shards" / f"{index}-of-2.old"
        old.mkdir(parents=True)
        (old / "earlier").touch()
    assert slurm.sbatch(two_tasks, "s.yaml") == [0, 0]
    results = tmp_path / "shards" / "1-of-2"
    assert sorted(p.name for p in results.iterdir()) == ["attempt-0", "earlier"]


def test_a_share_that_ends_by_itself_is_not_queued_again(slurm, two_tasks):
    """Also where it had just ended its last run when the signal came."""
    assert slurm.sbatch(two_tasks, "s.yaml", signals=1, INTERRUPTED="1", SAVED="0") == [0, 0]
    assert slurm.sbatch(two_tasks, "s.yaml", CODE="6") == [6, 6]
    assert slurm.restarts == {1: 0, 2: 0}


@pytest.mark.parametrize("code", ["130", "138"])
def test_a_share_that_was_stopped_is_queued_again(slurm, two_tasks, code):
    """138: the signal came before paretune had begun to listen."""
    assert slurm.sbatch(two_tasks, "s.yaml", CODE=code, PARETUNE_MAX_RESTARTS="1") == [1, 1]
    assert slurm.restarts == {1: 1, 2: 1}


def test_it_is_not_queued_again_without_an_end(slurm, two_tasks):
    options = {"INTERRUPTED": "99", "PARETUNE_MAX_RESTARTS": "3"}
    assert slurm.sbatch(two_tasks, "s.yaml", signals=99, **options) == [1, 1]
    assert slurm.restarts == {1: 3, 2: 3}
    assert "queued again 3 times, and share 1 is not done" in slurm.read_log(1)


def test_what_is_missing_is_said(slurm, two_tasks):
    assert slurm.sbatch(two_tasks) == [1, 1]
    assert "sbatch slurm.sh STUDY.yaml" in slurm.read_log(1)


def test_its_options_are_those_that_the_comments_promise():
    options = read_options(SCRIPT)
    assert options["signal"] == "B:USR1@120" and "requeue" in options
