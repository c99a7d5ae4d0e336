"""Stores that cannot be written, are in use, or belong to an earlier version of the study."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, digests, finish, small

from paretune.execution.signals import StopRequest
from paretune.execution.study_runs import add_missing_runs
from paretune.execution.worker import make_executor, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.expand import leave_out_stale_runs
from paretune.planning.prepare import prepare_study
from paretune.store import Store, database
from paretune.verbs.report import report


def test_a_store_that_another_process_keeps_locked(
    capsys: Any, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = as_file(small(tmp_path, tiny_model("bert")), tmp_path / "s.yaml")
    Store.open(tmp_path / "store", create=True).close()
    other = sqlite3.connect(tmp_path / "store" / "study.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.2)
    code, _, err = command(capsys, "run", file, "--store", tmp_path / "store")
    other.execute("ROLLBACK")
    other.close()
    assert code == 6 and "another process kept the store locked" in err


def test_an_edited_study_adds_runs_and_never_mixes_results(
    capsys: Any, tmp_path: Path, tiny_model: Any
) -> None:
    first = small(tmp_path, tiny_model("bert"))
    with finish(first, tmp_path / "store", costs=0) as store:
        before = digests(store, first.study_hash)
        edited = small(
            tmp_path,
            tiny_model("bert"),
            methods=[{"name": "lora", "rank": 4}],
            protocol={"trials": 1, "folds": 1, "outer": "split", "seeds": [1, 2, 3]},
        )
        assert edited.study_hash != first.study_hash
        code, _, err = command(
            capsys, "report", as_file(edited, tmp_path / "e.yaml"), "--store", store.folder
        )
        assert code == 6 and "an edited study file is a new study" in err

        finish(edited, tmp_path / "store", costs=0).close()
        after = digests(store, edited.study_hash)
        # Shared: both baselines and two seeds of the linear probe. New: LoRA of another rank.
        assert len(before) == 6 and len(after) == 8
        assert len(set(before) & set(after)) == 4
        assert digests(store, first.study_hash) == before
        ranks = {
            record.run.method.options["rank"]
            for record in store.load_records(edited.study_hash)
            if record.run.method.name == "lora"
        }
        assert ranks == {4}
    (task,) = report(edited, store=tmp_path / "store").tasks
    (row,) = task.methods
    assert len(row.runs) == 3 and not any("other settings" in flag for flag in row.flags)


def test_runs_of_changed_data_are_left_out_not_averaged_and_not_trained_on_the_new_data(
    tmp_path: Path, tiny_model: Any
) -> None:
    study = small(tmp_path, tiny_model("bert"))
    with finish(study, tmp_path / "store", costs=0) as store:
        before = digests(store, study.study_hash)
        waiting = [s.run_id for s in store.load_statuses(study.study_hash) if not s.ended]
    train = tmp_path / "train.csv"
    original = train.read_text(encoding="utf-8")
    train.write_text(original.replace("cat", "cow"), encoding="utf-8")
    with finish(study, tmp_path / "store", costs=0) as store:
        prepared = prepare_study(study).in_store(store, "cpu")
        assert leave_out_stale_runs(prepared, store) == len(before) + len(waiting)
        after = digests(store, study.study_hash)
        assert len(after) == len(before) and not set(after) & set(before)
        claim = store.claim("somebody", study.study_hash)
        assert claim is not None and claim.run_id not in waiting
        store.release(claim)
        # As the data was before, its runs are back; no process that still works is disturbed.
        train.write_text(original, encoding="utf-8")
        leave_out_stale_runs(prepare_study(study).in_store(store, "cpu"), store)
        assert digests(store, study.study_hash) == before
        assert store.verify() == []


@pytest.mark.parametrize("ended", [0, 6])
def test_what_a_study_may_ask_for_does_not_hang_on_what_has_ended(
    tmp_path: Path, tiny_model: Any, ended: int
) -> None:
    protocol = {"trials": 2, "folds": 1, "seeds": [1, 2]}
    study = small(tmp_path, tiny_model("bert"), protocol=protocol)
    with Store.open(tmp_path / "store", create=True) as store:
        prepared = prepare_study(study).in_store(store, "cpu")
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        add_missing_runs(prepared, store)
        run_worker(
            store,
            study.study_hash,
            make_executor(),
            StopRequest(),
            WorkerSettings(stages=("tune", "final"), limit=ended),
        )
        add_missing_runs(prepared, store)
        assert len([s for s in store.load_statuses(study.study_hash) if s.ended]) == ended
        finals = {
            s.stage for s in store.load_statuses(study.study_hash) if s.run.method.name == "lora"
        }
        assert ("final" in finals) == (ended == 6)
        assert leave_out_stale_runs(prepared, store) == 0
