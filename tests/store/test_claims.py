import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from support.tiny_runs import STUDY, a_run, a_store, runs

from paretune.errors import StaleClaimError
from paretune.owner import current_owner, is_provably_dead, owner_of


def test_a_number_that_json_cannot_hold_is_refused_in_a_run(tmp_path):
    store = a_store(tmp_path)
    with pytest.raises(ValueError, match=r"run\.method\.alpha is nan"):
        store.add_runs(STUDY, [("x", a_run(alpha=float("nan")))])
    assert store.load_statuses(STUDY) == []


def test_adding_is_idempotent_and_two_studies_share_a_run(tmp_path):
    store = a_store(tmp_path, runs(2))
    assert store.add_runs(STUDY, runs(3)) == 1
    assert store.add_runs(STUDY, runs(3)) == 0
    store.save_study("other", "tiny", "text", {})
    claim = store.claim("somebody", STUDY)
    store.finish(claim, {"outcome": "ok"}, {}, {})
    assert store.add_runs("other", runs(1)) == 1
    assert [s.state for s in store.load_statuses("other")] == ["done"]
    assert store.claim("somebody", "other") is None
    assert {s.study_hash: dict(s.runs) for s in store.list_studies()} == {
        STUDY: {"done": 1, "todo": 2},
        "other": {"done": 1},
    }


def test_a_dead_owner_on_this_machine_loses_its_run_at_once(tmp_path):
    store = a_store(tmp_path, runs(1))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(child.pid)
    store.claim(owner, STUDY, lease_seconds=1000)
    assert not is_provably_dead(owner)
    assert store.claim("other", STUDY) is None
    child.kill()
    while not is_provably_dead(owner):  # a zombie: not yet waited for, and gone all the same
        time.sleep(0.01)
    assert store.load_statuses(STUDY)[0].is_claimable
    assert store.claim("other", STUDY).attempt == 2
    child.wait()
    child.stdin.close()
    assert is_provably_dead(owner)


def test_only_proof_counts_as_death():
    host, boot, pid, start = current_owner().split(":")
    assert not is_provably_dead(current_owner())
    assert is_provably_dead(f"{host}:{boot}:{pid}:1{start}")  # the pid was given to another process
    assert not is_provably_dead(f"elsewhere:{boot}:{pid}:1{start}")
    assert not is_provably_dead(f"{host}:another-boot:{pid}:1{start}")
    assert not is_provably_dead("somebody")
    assert os.getpid() == int(pid)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET result = '{}'",
        "UPDATE runs SET state = 'todo', result = NULL, ended = NULL",
        "UPDATE runs SET measured = NULL",
        "DELETE FROM runs",
    ],
)
def test_done_rows_never_change_even_by_sql(tmp_path, statement):
    store = a_store(tmp_path, runs(1))
    store.finish(store.claim("a", STUDY), {"outcome": "ok"}, {"seconds": 1.5}, {})
    db = sqlite3.connect(tmp_path / "study.db")
    with pytest.raises(sqlite3.IntegrityError, match="a run that is done"):
        db.execute(statement)
    db.close()
    assert store.load_records(STUDY)[0].measured == {"seconds": 1.5}


_RACER = """
import sys
from pathlib import Path
from paretune.store import Store
from paretune.errors import StaleClaimError
from paretune.owner import current_owner
store = Store.open(Path(sys.argv[1]))
while (claim := store.claim(current_owner(), sys.argv[2])) is not None:
    print(claim.run_id)
    result = {"outcome": "ok", "owner": claim.owner}
    store.finish(claim, result, {}, {"weights": claim.run_id.encode()})
"""


@pytest.mark.thorough
def test_two_processes_never_get_the_same_run(tmp_path):
    store = a_store(tmp_path, runs(60))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(tmp_path), STUDY], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    claimed = [racer.communicate()[0].split() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert sorted(claimed[0] + claimed[1]) == [run_id for run_id, _ in runs(60)]
    assert {s.attempt for s in store.load_statuses(STUDY)} == {1}
    assert store.verify() == []


def test_a_renewal_waits_for_no_disk_and_everything_else_does(tmp_path):
    store = a_store(tmp_path, runs(1))
    claim = store.claim("a", STUDY)
    levels = []

    def watch(statement):
        if statement.startswith(("UPDATE runs", "PRAGMA")):
            levels.append(statement.partition("= ")[2] if "PRAGMA" in statement else "write")

    store._db.set_trace_callback(watch)
    store.renew(claim, {"step": 1})
    store._db.set_trace_callback(None)
    assert [level for level in levels if level in ("NORMAL", "FULL", "write")][:2] == [
        "NORMAL",
        "write",
    ]
    assert levels[-1] == "FULL"
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    with pytest.raises(StaleClaimError):
        store.renew(replace(claim, owner="b"))
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2
