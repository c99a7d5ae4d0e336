"""Claims, leases, settings and retries."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.stored_records import tamper
from support.tiny_runs import STUDY, a_run, a_store, runs

from paretune.errors import StaleClaimError, StoreError
from paretune.owner import current_owner, is_provably_dead, owner_of
from paretune.store import Predictions, Store
from paretune.store.blobs import blob_path
from paretune.store.encoding import encode_predictions


def claim_next(store, owner="worker", **options):
    claim = store.claim(owner, STUDY, **options)
    assert claim is not None
    return claim


def test_runs_are_claimed_once_in_their_order_and_by_stage(tmp_path):
    store = a_store(tmp_path, [*runs(3), *runs(1, "final", "final")])
    assert claim_next(store, stages=("final",)).run_id == "final000"
    assert store.claim("worker", STUDY, stages=("final",)) is None
    claims = [claim_next(store) for _ in range(3)]
    assert [(claim.run_id, claim.run) for claim in claims] == runs(3)
    assert store.claim("another", STUDY) is None


def test_a_stale_claim_writes_nothing_and_a_run_that_is_done_never_changes(tmp_path):
    store = a_store(tmp_path, runs(1))
    stale = claim_next(store)
    checkpoint = store.checkpoint_path(stale.run_id)
    checkpoint.write_bytes(b"state")
    assert store.release(stale) and checkpoint.exists()
    latest = claim_next(store)
    assert (latest.run_id, latest.attempt) == (stale.run_id, stale.attempt + 1)

    def refused(claim):
        with pytest.raises(StaleClaimError):
            store.renew(claim, {"step": 9})
        with pytest.raises(StaleClaimError):
            store.finish(claim, {"outcome": "collapsed"}, {}, {})
        with pytest.raises(StaleClaimError):
            store.fail(claim, "error", "late", {})
        assert not store.release(claim)

    refused(stale)
    status = store.load_statuses(STUDY)[0]
    assert status.state == "running" and status.progress.get("step") != 9
    store.finish(latest, {"outcome": "ok"}, {}, {})
    before = store.load_records(STUDY)
    refused(latest)
    assert store.retry(STUDY) == 0 and store.load_records(STUDY) == before


def test_a_lease_that_ran_out_frees_the_run_and_renewing_keeps_it(tmp_path):
    store = a_store(tmp_path, runs(2))
    kept, lost = claim_next(store, lease_seconds=60.0), claim_next(store, lease_seconds=0.01)
    store.renew(kept, {"step": 3, "steps": 4})
    while not store.load_statuses(STUDY)[1].is_claimable:
        time.sleep(0.01)
    again = claim_next(store)
    assert (again.run_id, again.attempt) == (lost.run_id, 2)
    status = store.load_statuses(STUDY)[0]
    assert not status.is_claimable and status.progress["step"] == 3


def test_a_failed_run_is_recorded_and_can_be_retried(tmp_path):
    store = a_store(tmp_path, runs(4))
    claim = claim_next(store)
    store.checkpoint_path(claim.run_id).write_bytes(b"state")
    store.fail(claim, "error", "a defect", {"traceback": "..."})
    assert not store.checkpoint_path(claim.run_id).exists()
    store.fail(claim_next(store), "out_of_memory", "too large", {})
    for outcome in ("out_of_memory", "ok"):  # the process that did not fit said so itself
        store.finish(claim_next(store), {"outcome": outcome}, {}, {})
    failed, too_large, _, _ = store.load_records(STUDY)
    assert (failed.outcome, failed.message) == ("error", "a defect")
    assert too_large.outcome == "out_of_memory"
    store.set_setting(f"halve/{too_large.run_id}", "2")
    assert store.retry(STUDY) == 3
    assert [s.state for s in store.load_statuses(STUDY)] == ["todo", "todo", "todo", "done"]
    # What was learnt of an attempt is no reason to begin the next one smaller.
    assert store.get_setting(f"halve/{too_large.run_id}") is None


def test_a_cost_has_its_device_for_itself(tmp_path):
    store = a_store(tmp_path, [*runs(4), *runs(1, "cost", "cost")])
    first, second = (current_owner(device) for device in ("cuda:0", "cuda:1"))
    trained = claim_next(store, second, stages=("tune",))
    for owner, claimable in ((second, False), (current_owner("cpu"), False), (first, True)):
        assert store.load_statuses(STUDY, owner)[-1].is_claimable == claimable
        cost = store.claim(owner, STUDY, stages=("cost",))
        assert (cost is not None) == claimable
    for owner in (first, "at a place that is not known"):
        assert store.claim(owner, STUDY, stages=("tune",)) is None
    store.release(trained)
    assert claim_next(store, second, stages=("tune",)).run_id == trained.run_id
    store.finish(cost, {"outcome": "ok"}, {}, {})
    assert claim_next(store, first).run_id == "run001"


def test_a_run_that_may_not_start_is_passed_over(tmp_path):
    store, seen = a_store(tmp_path, runs(3)), []

    def may_start(run_id, running):
        seen.append((run_id, list(running)))
        return run_id != "run001"

    claim_next(store)
    assert claim_next(store, may_start=may_start).run_id == "run002"
    assert seen == [("run001", ["run000"]), ("run002", ["run000"])]


def test_a_handle_that_has_looked_before_sees_every_change(tmp_path):
    """What it has seen is not read again: it equals what a new handle reads as a whole."""
    store, watcher = a_store(tmp_path, runs(4)), Store.open(tmp_path)
    owner, opened = current_owner("cpu"), []

    def look(handle):
        statuses = handle.load_statuses(STUDY, owner)
        return [replace(status, seconds=None) for status in statuses]

    def check():
        opened.append(Store.open(tmp_path))
        with Store.open(store.folder) as again:
            assert look(watcher) == look(store) == look(opened[-1]) == look(again)

    check()
    store.add_runs(STUDY, [*runs(5), *runs(2, "cost", "cost")])
    check()
    first, second = claim_next(store), claim_next(store)
    check()
    store.renew(first, {"step": 1, "steps": 9})
    check()
    store.release(first)
    store.fail(second, "error", "a defect", {})
    check()
    store.save_study("other", "other", "study: other\n", {"study": "other"})
    store.add_runs("other", [*runs(1), ("alone", a_run(9))])
    claim = store.claim(owner, "other")
    assert claim.run_id == "run000"
    check()
    store.finish(claim, {"outcome": "ok", "scores": {"test": {"primary": 0.5}}}, {}, {})
    assert store.retry(STUDY) == 1
    check()
    assert claim_next(watcher).run_id == "run001"  # put back by another handle
    check()
    for handle in (watcher, *opened):
        handle.close()


def test_a_handle_that_has_read_settings_before_sees_every_change(tmp_path):
    store, reader = a_store(tmp_path, runs(1)), Store.open(tmp_path)
    assert store.get_setting("key") is None
    store.set_settings({"a/1": "x", "b/1": "y"})
    assert reader.get_settings("a/") == {"1": "x"} and reader.get_settings("") != {}
    assert store.set_default_setting("b/1", "later") == "y"
    store.set_settings({"a/2": "č", "b/1": "changed"})
    reader.get_settings("a/")["1"] = "of the caller alone"
    assert reader.get_settings("a/") == {"1": "x", "2": "č"}
    assert reader.get_settings("b/") == {"1": "changed"}
    claim = claim_next(store)
    assert store.set_default_setting(f"halve/{claim.run_id}", "1") == "1"
    assert reader.get_settings("halve/") == {claim.run_id: "1"}
    store.fail(claim, "error", "a defect", {})
    store.retry(STUDY)
    assert reader.get_settings("halve/") == {}


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


def test_a_run_that_trained_together_took_its_share(tmp_path):
    store = a_store(tmp_path, runs(1))
    measured = {"fleet": 1, "wall_seconds": {"load": 0.5, "train": 1000.0}}
    store.finish(store.claim("a", STUDY), {"outcome": "ok"}, measured, {})
    assert store.load_statuses(STUDY)[0].seconds == 1000.5


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


RESULT = {"outcome": "ok", "scores": {"selection": {"primary": 0.5}}}
ANSWERS = {"selection": Predictions(("a", "b"), (0, 1), (1, 1), ((0.1, 0.2), (0.0, 3.0)))}


def finish(store: Store, seed: int, outcome: str = "ok") -> None:
    claim = store.claim("a", STUDY)
    assert claim is not None
    content = encode_predictions({**ANSWERS, "test": Predictions((), (), (), ())})
    blobs = {"predictions": content + b" " * seed, "weights": b"w%d" % seed}
    store.finish(claim, {**RESULT, "outcome": outcome}, {}, blobs)


def damage(store: Store, run_id: str, name: str) -> Path:
    (record,) = [r for r in store.load_records(STUDY) if r.run_id == run_id]
    path = blob_path(store.folder / "blobs", record.result[name])
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["predictions", "weights"])
@pytest.mark.parametrize("stage", ["tune", "final"])
def test_a_run_with_a_damaged_blob_is_made_again_and_heals_it(
    tmp_path: Path, stage: str, name: str
) -> None:
    with a_store(tmp_path, runs(2, stage)) as store:
        for seed in range(2):
            finish(store, seed)
        whole = store.load_records(STUDY, predictions=True)
        damage(store, "run001", name)
        if name == "predictions" and stage == "final":
            with pytest.raises(StoreError, match=r"blob is damaged.*paretune run --retry"):
                store.load_records(STUDY, predictions=True)
        else:
            records = store.load_records(STUDY, predictions=True)
            assert [r.lacks_predictions for r in records] == [False, name == "predictions"]
            assert [r.result for r in records] == [r.result for r in whole]
        (problem,) = store.verify()
        assert problem.startswith("run run001: ") and "damaged" in problem
        assert store.retry("another study") == 0 and store.retry(STUDY) == 1
        assert [s.state for s in store.load_statuses(STUDY)] == ["done", "todo"]
        finish(store, 1)
        assert store.load_records(STUDY, predictions=True) == whole
        assert store.verify() == [] and store.retry(STUDY) == 0


def test_weights_that_were_dropped_are_no_reason_to_train_again(tmp_path: Path) -> None:
    with a_store(tmp_path, runs(1)) as store:
        finish(store, 0)
        assert store.drop_weights(STUDY, ["run000"]) == ["run000"]
        assert store.verify() == [] and store.retry(STUDY) == 0


def test_a_clock_that_was_set_back_neither_blocks_a_run_nor_counts_below_zero(
    tmp_path: Path,
) -> None:
    with a_store(tmp_path, runs(2)) as store:
        for _ in range(2):
            store.claim("another machine", STUDY)
        later = time.time() + 365 * 24 * 3600
        tamper(tmp_path, "UPDATE runs SET started = ?", later)
        tamper(tmp_path, "UPDATE runs SET lease_until = ? WHERE run_id = 'run001'", later)
        statuses = store.load_statuses(STUDY)
        assert [s.is_claimable for s in statuses] == [False, True]
        assert [s.seconds for s in statuses] == [0.0, 0.0]
        assert store.claim("a", STUDY).run_id == "run001"
        with pytest.raises(ValueError, match="a lease of 7200 s"):
            store.claim("a", STUDY, lease_seconds=7200)
