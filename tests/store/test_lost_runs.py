"""What a damaged write-ahead log takes back is told, and a kill at any moment is no alarm."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.tampering import tamper
from support.tiny_runs import STUDY, a_store, runs

from paretune.errors import StoreError
from paretune.store import Store, reader
from paretune.store.journal import EndedRun, append_ended_runs, read_ended_runs

FINISH = """
import os, signal, sys
from pathlib import Path
from paretune.store import Store, journal, store as module
from paretune.owner import current_owner
folder, study, many, where = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
store = Store.open(folder)
for n in range(many):
    if n == many - 1 and where == "before the note":
        module.append_ended_runs = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if n == many - 1 and where == "in the commit":
        module.writes.write_checksums = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if n == many - 1 and where == "in the note":
        journal.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    store.finish(store.claim(current_owner(), study), {"outcome": "ok"}, {}, {})
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_after(folder: Path, runs_to_end: int, where: str = "at the end") -> None:
    """A process ends so many runs and is killed, so that its write-ahead log stays."""
    command = [sys.executable, "-c", FINISH, str(folder), STUDY, str(runs_to_end), where]
    assert subprocess.run(command).returncode == -signal.SIGKILL


def test_runs_that_a_damaged_log_takes_back_are_told_by_name_until_they_are_made_again(tmp_path):
    a_store(tmp_path, runs(6)).close()
    killed_after(tmp_path, 5)
    log = tmp_path / "study.db-wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    with Store.open(tmp_path) as store:
        remaining = {record.run_id for record in store.load_records(STUDY)}
        assert 0 < len(remaining) < 5
        lost = store.find_lost_runs(STUDY)
        assert {run.run_id for run in lost} == {f"run{n:03d}" for n in range(5)} - remaining
        assert lost[-1].description == "cb-sl x tiny x lora, tune, seed 4"
        assert [
            f"run {run.run_id} ({run.description}) was done, and the database has lost it"
            in problem
            for run, problem in zip(lost, store.verify(), strict=True)
        ] == [True] * len(lost)
        assert store.find_lost_runs("another study") == []
        store.add_runs(STUDY, runs(6))
        while (claim := store.claim("a", STUDY)) is not None:
            store.finish(claim, {"outcome": "ok"}, {}, {})
        assert store.find_lost_runs() == [] and store.verify() == []


def test_a_lost_database_is_told(tmp_path):
    a_store(tmp_path, runs(2)).close()
    killed_after(tmp_path, 2)
    for file in tmp_path.glob("study.db*"):
        file.unlink()
    with a_store(tmp_path, runs(2)) as store:
        assert [run.run_id for run in store.find_lost_runs(STUDY)] == ["run000", "run001"]


@pytest.mark.parametrize(
    ("where", "done", "journalled"),
    [
        ("in the commit", 1, 1),
        ("before the note", 2, 1),
        ("in the note", 2, 2),
        ("at the end", 2, 2),
    ],
)
def test_a_kill_at_any_moment_is_no_alarm_and_what_was_not_noted_is_noted_later(
    tmp_path, where, done, journalled
):
    a_store(tmp_path, runs(3)).close()
    killed_after(tmp_path, 2, where)
    assert len(read_ended_runs(tmp_path / "done.jsonl")) == journalled
    with Store.open(tmp_path) as store:
        assert len(store.load_records(STUDY)) == done
        assert store.find_lost_runs() == [] and store.verify() == []
    Store.open(tmp_path, create=True).close()
    assert len(read_ended_runs(tmp_path / "done.jsonl")) == done


def test_a_run_of_two_studies_is_noted_for_both_and_a_retried_one_is_not_lost(tmp_path):
    store = a_store(tmp_path, runs(2))
    store.save_study("other", "tiny", "text", {})
    store.add_runs("other", runs(1))
    store.finish(store.claim("a", STUDY), {"outcome": "ok"}, {}, {})
    store.fail(store.claim("a", STUDY), "error", "a defect", {})
    notes = [
        (run.study_hash, run.run_id, run.failed) for run in read_ended_runs(tmp_path / "done.jsonl")
    ]
    assert notes == [(STUDY, "run000", False), ("other", "run000", False), (STUDY, "run001", True)]
    assert store.retry(STUDY) == 1 and store.find_lost_runs() == []
    store.finish(store.claim("a", STUDY), {"outcome": "ok"}, {}, {})
    assert store.find_lost_runs() == [] and len(read_ended_runs(tmp_path / "done.jsonl")) == 4


def test_a_failed_run_that_the_study_no_longer_has_is_lost(tmp_path):
    with a_store(tmp_path, runs(1)) as store:
        store.fail(store.claim("a", STUDY), "out_of_memory", "too large", {})
    tamper(tmp_path, "DELETE FROM study_runs")
    with Store.open(tmp_path) as store:
        (lost,) = store.find_lost_runs(STUDY)
        assert str(lost).startswith("run run000 (cb-sl x tiny x lora, tune, seed 0) had failed")
        store.add_runs(STUDY, runs(1))
        assert store.find_lost_runs() == []


def test_a_run_that_another_process_ends_meanwhile_is_not_lost(tmp_path, monkeypatch):
    store, other = a_store(tmp_path, runs(3)), Store.open(tmp_path)
    usual = reader.read_ended_runs

    def late(path):
        other.finish(other.claim("b", STUDY), {"outcome": "ok"}, {}, {})
        return usual(path)

    monkeypatch.setattr(reader, "read_ended_runs", late)
    assert (
        store.find_lost_runs() == [] and store.verify() == [] and store.find_lost_runs(STUDY) == []
    )


def test_a_torn_or_damaged_line_says_nothing_and_spoils_no_other(tmp_path):
    path = tmp_path / "done.jsonl"
    first, second, third = (EndedRun("s", f"run{n}", "which \n it is") for n in range(3))
    append_ended_runs(path, [first, second])
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    append_ended_runs(path, [third])
    assert read_ended_runs(path) == [first, third]
    path.write_bytes(path.read_bytes().replace(b"run0", b"run9"))
    assert read_ended_runs(path) == [third]
    path.write_bytes(b"\xff\xfe\n[]\n\n 1 [1]\n")
    assert read_ended_runs(path) == []


def test_a_full_disk_loses_the_note_and_not_the_run(tmp_path, monkeypatch):
    store = a_store(tmp_path, runs(1))
    claim = store.claim("a", STUDY)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paretune.store.journal.os.write", full)
    with pytest.raises(StoreError, match=r"done\.jsonl: .*No space left"):
        store.finish(claim, {"outcome": "ok"}, {}, {})
    monkeypatch.undo()
    assert [record.outcome for record in store.load_records(STUDY)] == ["ok"]
    store.close()
    with Store.open(tmp_path, create=True) as store:
        assert store.find_lost_runs() == []
    assert len(read_ended_runs(tmp_path / "done.jsonl")) == 1
