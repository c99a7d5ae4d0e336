"""The store's file: blobs, formats, damage, and what it cannot hold."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny_runs import STUDY, a_store, runs

from paretune.errors import StoreError
from paretune.files import part_path
from paretune.store import Predictions, Store, blobs
from paretune.store.blobs import blob_path
from paretune.store.encoding import decode_predictions, encode_predictions


def finished(folder: Path, result=None, contents=None) -> Store:
    store = a_store(folder, runs(1))
    store.finish(store.claim("a", STUDY), result or {"outcome": "ok"}, {}, contents or {})
    return store


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"scores": {"test": [1.0, math.nan]}}, r"result\.scores\.test\[1\] is nan.*None"),
        ({"loss": math.inf}, r"result\.loss is inf"),
        ({"curve": {3: 1.0}}, "the key 3"),
        ({"rows": {1, 2}}, r"result\.rows is a set"),
        ({"text": "\ud800"}, "surrogate"),
        ({"weights": "taken"}, "weights"),
    ],
)
def test_what_json_cannot_hold_is_refused_and_nothing_changes(tmp_path, result, message):
    store = a_store(tmp_path, runs(1))
    claim = store.claim("a", STUDY)
    with pytest.raises(ValueError, match=message):
        store.finish(claim, result, {}, {"weights": b"w"})
    assert store.load_statuses(STUDY)[0].state == "running"
    assert list(tmp_path.glob("blobs/*/*")) == []


def test_what_a_run_leaves_comes_back_bit_for_bit_and_scores_with_the_digits_of_fp32(tmp_path):
    numbers = [0.1 + 0.2, 1 / 3, 1e-308, -0.0, 5e-324, math.pi]
    part = Predictions(("a", "b"), (0, 1), (1, 1), ((-2.415913778, 1e-45), (0.5, 3.0)))
    contents = {"weights": b"tensors", "predictions": encode_predictions({"test": part})}
    store = finished(tmp_path, {"outcome": "ok", "numbers": numbers, "notes": ["č"]}, contents)
    assert store.load_records(STUDY)[0].predictions == {}
    (record,) = store.load_records(STUDY, predictions=True)
    assert [n.hex() for n in record.result["numbers"]] == [n.hex() for n in numbers]
    assert record.result["notes"] == ["č"]
    assert store.read_blob(record.result["weights"]) == b"tensors"
    assert record.predictions["test"].scores == ((-2.4159138, 1e-45), (0.5, 3.0))


def test_predictions_of_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        encode_predictions({"test": Predictions(("a",), (0, 1), (0, 1), ((0.0,), (0.0,)))})
    for broken in (b"[]", b"{", b'{"test": {"uid": []}}'):
        with pytest.raises(StoreError, match=r"run x: .*cannot be read"):
            decode_predictions(broken, "run x")


def test_a_damaged_or_missing_blob_is_told_and_healed_by_the_same_content(tmp_path):
    store = finished(tmp_path, contents={"weights": b"tensors"})
    sha256 = store.load_records(STUDY)[0].result["weights"]
    path = blob_path(store.folder / "blobs", sha256)
    assert store.verify() == []
    path.write_bytes(b"tensorz")
    with pytest.raises(StoreError, match=r"damaged.*copy of the store"):
        store.read_blob(sha256)
    assert ["damaged" in problem for problem in store.verify()] == [True]
    assert blobs.write_blob(tmp_path / "blobs", b"tensors") == sha256
    assert store.verify() == []
    path.unlink()
    assert ["No such file" in problem for problem in store.verify()] == [True]
    for name in ("../../study.db", "0" * 63, "", "A" * 64):
        with pytest.raises(StoreError, match=r"study\.db: names a blob .*no sha256.*Restore"):
            store.read_blob(name)


def test_a_failed_blob_write_leaves_nothing_and_ends_no_run(tmp_path, monkeypatch):
    store = a_store(tmp_path, runs(1))
    claim = store.claim("a", STUDY)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.finish(claim, {"outcome": "ok"}, {}, {"weights": b"tensors"})
    monkeypatch.undo()
    assert [p for p in tmp_path.glob("blobs/*/*") if p.is_file()] == []
    store.finish(claim, {"outcome": "ok"}, {}, {"weights": b"tensors"})
    assert store.verify() == []


def test_a_write_killed_half_way_leaves_no_half_blob_and_its_part_is_swept(tmp_path):
    a_store(tmp_path, runs(1)).close()
    killed = """
import os, signal, sys
from pathlib import Path
from paretune.store import Store, blobs
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
blobs.write_blob(Path(sys.argv[1]) / "blobs", b"tensors" * 1000)
"""
    ended = subprocess.run([sys.executable, "-c", killed, str(tmp_path)])
    assert ended.returncode == -9
    assert [p.parent.name for p in tmp_path.glob("blobs/*/*")] == ["part"]
    mine = part_path(tmp_path / "blobs" / "part" / "blob")
    mine.write_bytes(b"of a living process")
    Store.open(tmp_path, create=True).close()
    assert list(tmp_path.glob("blobs/*/*")) == [mine]


def test_checkpoints_of_ended_runs_are_swept_others_stay(tmp_path):
    store = a_store(tmp_path, runs(2))
    done, running = store.claim("a", STUDY), store.claim("a", STUDY)
    store.finish(done, {"outcome": "ok"}, {}, {})
    for claim in (done, running):
        store.checkpoint_path(claim.run_id).write_bytes(b"state")
    Store.open(tmp_path, create=True).close()
    assert not store.checkpoint_path(done.run_id).exists()
    assert store.checkpoint_path(running.run_id).exists()


def test_there_is_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"no store of studies.*paretune run"):
        Store.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(tmp_path / "file", create=True)


def test_a_store_that_was_only_begun_is_finished_by_the_next_command(tmp_path):
    (tmp_path / "study.db").touch()
    with pytest.raises(StoreError, match="holds no study yet"):
        Store.open(tmp_path)
    Store.open(tmp_path, create=True).close()
    assert Store.open(tmp_path).list_studies() == []


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 99", r"newer paretune \(format 99.*Upgrade"),
        ("PRAGMA user_version = 2", r"older paretune \(format 2; .* format 3\).*another folder"),
    ],
)
def test_a_store_of_another_version_is_refused_untouched(tmp_path, statement, message):
    finished(tmp_path).close()
    db = sqlite3.connect(tmp_path / "study.db")
    db.execute(statement)
    db.close()
    before = (tmp_path / "study.db").read_bytes()
    for create in (False, True):
        with pytest.raises(StoreError, match=message):
            Store.open(tmp_path, create=create)
    assert (tmp_path / "study.db").read_bytes() == before


def test_another_programs_database_is_refused(tmp_path):
    db = sqlite3.connect(tmp_path / "study.db")
    db.execute("CREATE TABLE bookmarks (url)")
    db.close()
    with pytest.raises(StoreError, match="another program"):
        Store.open(tmp_path, create=True)


@pytest.mark.parametrize("start", [0, 4096])
def test_a_damaged_database_is_told_with_a_remedy(tmp_path, start):
    finished(tmp_path).close()
    with (tmp_path / "study.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(start)
        file.write(b"\xff" * (size - start))
    with pytest.raises(StoreError, match=r"study\.db: the database file is damaged.*recover"):
        Store.open(tmp_path).load_records(STUDY)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    finished(tmp_path).close()
    tmp_path.chmod(0o500)
    (tmp_path / "study.db").chmod(0o400)
    try:
        with pytest.raises(StoreError, match="permissions"):
            a_store(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_verify_names_a_study_that_was_changed(tmp_path):
    store = finished(tmp_path)
    store.save_study("0123456789abcdef", "tiny", "text", {"study": "another"})
    assert store.verify() == ["study 0123456789abcdef: its form does not give its hash"]
