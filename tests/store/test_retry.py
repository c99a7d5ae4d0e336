"""Runs that are executed again although they had ended, and what a wrong clock does to claims."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.stored_records import tamper
from support.tiny_runs import STUDY, a_store, runs

from paretune.errors import StoreError
from paretune.store import Predictions, Store
from paretune.store.blobs import blob_path
from paretune.store.encoding import encode_predictions

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
