"""Claims and retries."""

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


def test_what_did_not_fit_in_memory_is_tried_again(tmp_path: Path) -> None:
    with a_store(tmp_path, runs(2)) as store:
        finish(store, 0, "out_of_memory")
        finish(store, 1)
        assert store.retry(STUDY) == 1
        assert [s.state for s in store.load_statuses(STUDY)] == ["todo", "done"]
        finish(store, 0)
        assert {r.outcome for r in store.load_records(STUDY)} == {"ok"}
        assert store.verify() == []


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
