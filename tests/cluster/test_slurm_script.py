"""examples/cluster/slurm.sh on a fake SLURM: its workers are signalled, saved and queued again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.fake_slurm import WORKER, FakeSlurm, read_options, seconds_of

SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "slurm.sh"
SERVER = {"PARETUNE_SERVER": "http://10.0.0.1:8765", "PARETUNE_TOKEN_FILE": "/home/a b/token"}


@pytest.fixture
def slurm(tmp_path):
    path = tmp_path / "bin"
    path.mkdir()
    (path / "paretune").write_text(WORKER)
    (path / "paretune").chmod(0o755)
    return FakeSlurm(tmp_path, path)


@pytest.fixture
def two_tasks(tmp_path):
    """The script with a shorter array."""
    script = tmp_path / "slurm.sh"
    script.write_text(re.sub(r"--array=\d+-\d+\n", "--array=0-1\n", SCRIPT.read_text("utf-8")))
    assert read_options(script)["array"] == "0-1"
    return script


def test_every_task_is_a_worker_that_knows_its_time(slurm, two_tasks):
    assert slurm.sbatch(two_tasks, "--fleet", "1", limit="01:30:30", **SERVER) == [0, 0]
    minutes = str((seconds_of("01:30:30") - 120) // 60)
    for index in (0, 1):
        arguments = json.loads(slurm.read_log(index))
        assert arguments[:1] == ["work"] and arguments[-2:] == ["--fleet", "1"]
        options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        assert options["--server"] == SERVER["PARETUNE_SERVER"]
        assert options["--token-file"] == SERVER["PARETUNE_TOKEN_FILE"]
        assert options["--threads"] == read_options(SCRIPT)["cpus-per-task"]
        # A second may pass between the two looks at the clock.
        assert int(minutes) - int(options["--minutes"]) in (0, 1)


def test_before_the_limit_a_run_is_saved_and_its_task_alone_is_queued_again(slurm, two_tasks):
    assert slurm.sbatch(two_tasks, signals=2, INTERRUPTED="2", **SERVER) == [0, 0]
    assert slurm.restarts == {0: 2, 1: 2}
    for index in (0, 1):
        assert re.findall(r"goes on from (\d)", slurm.read_log(index)) == ["0", "1"]


def test_a_worker_that_ends_by_itself_is_not_queued_again(slurm, two_tasks):
    """Also where it had just ended its last run when the signal came."""
    assert slurm.sbatch(two_tasks, signals=1, INTERRUPTED="1", SAVED="0", **SERVER) == [0, 0]
    assert slurm.sbatch(two_tasks, CODE="6", **SERVER) == [6, 6]
    assert slurm.restarts == {0: 0, 1: 0}


@pytest.mark.parametrize("code", ["130", "138"])
def test_a_worker_whose_minutes_are_over_is_queued_again_like_one_with_a_signal(
    slurm, two_tasks, code
):
    """138: the signal came before paretune had begun to listen."""
    options = {"CODE": code, "PARETUNE_MAX_RESTARTS": "1", **SERVER}
    assert slurm.sbatch(two_tasks, **options) == [1, 1]
    assert slurm.restarts == {0: 1, 1: 1}


def test_without_a_route_every_task_takes_a_bundle_of_its_own(slurm, two_tasks, tmp_path):
    """Its results are made on the node's disk; what it had before it was queued again is kept."""
    part = tmp_path / "a b" / "part"
    part.parent.mkdir()
    options = {"PARETUNE_BUNDLE": str(part), "INTERRUPTED": "1"}
    assert slurm.sbatch(two_tasks, signals=1, **options) == [0, 0]
    for index in (0, 1):
        arguments = json.loads(slurm.read_log(index).splitlines()[0])
        assert arguments[:3] == ["work", "--bundle", f"{part}-{index}.zip"]
        assert "--server" not in arguments
        results = Path(f"{part}-{index}-results")
        assert sorted(p.name for p in results.iterdir()) == ["attempt-0", "attempt-1"]
    assert sorted(p.name for p in part.parent.iterdir()) == ["part-0-results", "part-1-results"]
    assert not list((tmp_path / "scratch of this node").iterdir())


def test_it_is_not_queued_again_without_an_end(slurm, two_tasks):
    options = {"INTERRUPTED": "99", "PARETUNE_MAX_RESTARTS": "3", **SERVER}
    assert slurm.sbatch(two_tasks, signals=99, **options) == [1, 1]
    assert slurm.restarts == {0: 3, 1: 3}
    assert "queued again 3 times, and the study is not done" in slurm.read_log(0)


def test_what_is_missing_is_said(slurm, two_tasks):
    assert slurm.sbatch(two_tasks, PARETUNE_SERVER="http://10.0.0.1:1") == [1, 1]
    assert "PARETUNE_TOKEN_FILE: the file with the token" in slurm.read_log(0)
    assert slurm.sbatch(two_tasks, limit="00:02:30", **SERVER) == [2, 2]
    assert "give more --time" in slurm.read_log(1)


def test_the_margin_is_the_time_of_the_signal():
    margin = re.search(r"^margin_seconds=(\d+)$", SCRIPT.read_text("utf-8"), re.MULTILINE)
    assert margin is not None
    assert read_options(SCRIPT)["signal"] == f"B:USR1@{margin[1]}"
    assert "requeue" in read_options(SCRIPT)
