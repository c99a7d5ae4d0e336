import os
import sqlite3
import subprocess
import sys
import time

import pytest
from support.tiny_runs import STUDY, a_run, a_store, runs

from paretune.errors import StaleClaimError
from paretune.store import Store
from paretune.store.owner import current_owner, is_provably_dead, owner_of


@pytest.fixture
def clock(monkeypatch):
    """Moves the time of day on; real waiting would be a race on a busy machine."""
    ahead = [0.0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])

    def wait(seconds):
        ahead[0] += seconds

    return wait


def claims(store, **options):
    run_ids = []
    while (claim := store.claim("somebody", STUDY, **options)) is not None:
        run_ids.append(claim.run_id)
    return run_ids


def test_runs_are_claimed_in_the_order_asked_for_and_by_stage(tmp_path):
    store = a_store(tmp_path, [*runs(2), ("final", a_run(9, "final"))])
    assert store.claim("somebody", STUDY, stages=("final",)).run_id == "final"
    assert claims(store) == ["run000", "run001"]


def test_a_claim_gives_back_the_very_run(tmp_path):
    run = a_run(3, rank=8, targets=["query", "value"], alpha=0.1 + 0.2)
    store = a_store(tmp_path, [("x", run)])
    assert store.claim("somebody", STUDY).run == run


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


def test_an_expired_lease_passes_the_run_on_and_the_late_worker_is_refused(tmp_path, clock):
    store = a_store(tmp_path, runs(1))
    late = store.claim("slow", STUDY, lease_seconds=300)
    assert store.claim("quick", STUDY) is None
    clock(301)
    now = store.claim("quick", STUDY)
    assert (now.run_id, now.attempt) == (late.run_id, 2)
    for refused in (
        lambda: store.finish(late, {"outcome": "ok"}, {}, {"predictions": b"late"}),
        lambda: store.fail(late, "error", "late", {}),
        lambda: store.renew(late, {"step": 1}),
    ):
        with pytest.raises(StaleClaimError, match="passed to another worker"):
            refused()
    assert store.release(late) is False
    store.finish(now, {"outcome": "ok", "by": "quick"}, {}, {})
    with pytest.raises(StaleClaimError):
        store.finish(now, {"outcome": "ok", "by": "nobody"}, {}, {})
    assert store.load_records(STUDY)[0].result["by"] == "quick"


def test_a_renewed_lease_holds(tmp_path, clock):
    store = a_store(tmp_path, runs(1))
    claim = store.claim("steady", STUDY, lease_seconds=300)
    for step in range(4):
        clock(100)
        store.renew(claim, {"step": step})
    assert store.claim("other", STUDY) is None
    assert store.load_statuses(STUDY)[0].progress == {"step": 3}


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


def test_a_cost_run_is_alone(tmp_path):
    store = a_store(tmp_path, [*runs(1, "cost", "cost"), *runs(2)])
    training = store.claim("a", STUDY, stages=("tune",))
    assert store.claim("b", STUDY, stages=("cost",)) is None
    assert [s.is_claimable for s in store.load_statuses(STUDY)] == [False, False, True]
    store.finish(training, {"outcome": "ok"}, {}, {})
    cost = store.claim("b", STUDY, stages=("cost",))
    assert cost.run_id == "cost000"
    assert store.claim("a", STUDY) is None
    store.finish(cost, {"outcome": "ok"}, {}, {})
    assert store.claim("a", STUDY).run_id == "run001"


def test_release_and_retry(tmp_path):
    store = a_store(tmp_path, runs(3))
    first = store.claim("a", STUDY)
    assert store.release(first)
    assert store.claim("b", STUDY).run_id == first.run_id
    second, third = store.claim("a", STUDY), store.claim("a", STUDY)
    store.checkpoint_path(second.run_id).write_bytes(b"state")
    store.fail(second, "error", "a defect", {"traceback": "..."})
    store.fail(third, "out_of_memory", "too big", {})
    assert not store.checkpoint_path(second.run_id).exists()
    assert [r.outcome for r in store.load_records(STUDY)] == ["error", "out_of_memory"]
    assert store.retry(STUDY) == 1
    assert [s.state for s in store.load_statuses(STUDY)] == ["running", "todo", "failed"]
    assert store.claim("a", STUDY).attempt == 2


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
from paretune.store.owner import current_owner
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


def test_the_first_writer_of_a_setting_wins(tmp_path):
    store, other = a_store(tmp_path), Store.open(tmp_path)
    assert store.get_setting("rate") is None
    assert store.set_default_setting("rate", "1") == "1"
    assert other.set_default_setting("rate", "2") == "1"
    other.set_setting("rate", "3")
    assert store.get_setting("rate") == "3"
