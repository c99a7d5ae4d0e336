"""A digit that changed in study.db is told by run, and never shown as a result."""

import random
import re
import sqlite3
from pathlib import Path

import pytest
from support.stored_records import tamper
from support.tiny_runs import FORM, STUDY, a_store, runs

from paretune.errors import StoreError
from paretune.store import Store, tables
from paretune.store.tables import PROTECTED_COLUMNS

RESULT = {"outcome": "ok", "trained_parameters": 1234, "scores": {"selection": {"primary": 0.5}}}
MEASURED = {"phases": {"train": {"peak_bytes": 5_000_000}}}


def a_finished_store(folder: Path) -> Store:
    """Two runs that are done, one that failed, one that waits, and a setting."""
    store = a_store(folder, runs(4))
    for _ in range(2):
        store.finish(store.claim("a", STUDY), RESULT, MEASURED, {"weights": b"tensors"})
    store.fail(store.claim("a", STUDY), "error", "a defect", {"traceback": "..."})
    store.set_setting("precision/cpu", "fp32")
    return store


CHANGES = [
    ("study_runs", "run", "replace(run, '\"learning_rate\":0.001', '\"learning_rate\":0.002')"),
    ("study_runs", "run", "replace(run, '\"seed\":1', '\"seed\":7')"),
    ("study_runs", "position", "position + 40"),
    ("study_runs", "left_out", "1"),
    ("runs", "result", "replace(result, '1234', '1235')"),
    ("runs", "result", "replace(result, '\"ok\"', '\"oK\"')"),
    ("runs", "result", "replace(result, '0.5', '0.6')"),
    ("runs", "result", "'{'"),
    ("runs", "measured", "replace(measured, '5000000', '6000000')"),
    ("runs", "started", "started - 1"),
    ("runs", "attempt", "attempt + 1"),
    ("runs", "stage", "'cost'"),
    ("runs", "state", "'todo'"),
    ("runs", "checksum", "NULL"),
    ("runs", "checksum", "'x'"),
]


FAILED_CHANGES = [("runs", column, "'other'") for column in ("message", "measured", "fail_kind")]
"""Of a run that failed."""


@pytest.mark.parametrize(
    ("run_id", "table", "column", "to"),
    [("run001", *change) for change in CHANGES]
    + [("run002", *change) for change in FAILED_CHANGES],
)
def test_a_change_in_a_run_is_told_by_run(tmp_path, run_id, table, column, to):
    store = a_finished_store(tmp_path)
    assert store.verify() == []
    store.close()
    tamper(tmp_path, f"UPDATE {table} SET {column} = {to} WHERE run_id = '{run_id}'")  # noqa: S608
    with Store.open(tmp_path) as store:
        for read in (store.load_records, store.load_statuses):
            with pytest.raises(StoreError, match=rf"run {run_id} .* changed.*run STUDY --retry"):
                read(STUDY)
        assert any(run_id in problem for problem in store.verify())
        assert not any("run000" in problem for problem in store.verify())


def test_every_protected_column_is_in_the_database(tmp_path):
    a_finished_store(tmp_path).close()
    db = sqlite3.connect(tmp_path / "study.db")
    for table, columns in PROTECTED_COLUMNS.items():
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        assert {*columns, "checksum"} <= there
    db.close()


def test_a_run_that_waits_is_not_trained_as_something_else(tmp_path):
    a_finished_store(tmp_path).close()
    tamper(
        tmp_path,
        "UPDATE study_runs SET run = replace(run, '0.001', '0.002') WHERE run_id = 'run003'",
    )
    with Store.open(tmp_path) as store:
        with pytest.raises(StoreError, match=r"run003.*seed 3.*its request changed"):
            store.claim("a", STUDY)
        # The study itself knows what it asked for.
        assert store.add_runs(STUDY, runs(4)) == 0
        assert store.claim("a", STUDY).run.learning_rate == 1e-3


def test_a_done_run_that_says_todo_is_not_claimed_again(tmp_path):
    a_finished_store(tmp_path).close()
    tamper(tmp_path, "UPDATE runs SET state = 'todo' WHERE run_id = 'run000'")
    with Store.open(tmp_path) as store:
        assert [store.claim("a", STUDY).run_id, store.claim("a", STUDY)] == ["run003", None]


def test_settings_and_studies_are_protected(tmp_path):
    a_finished_store(tmp_path).close()
    tamper(tmp_path, "UPDATE settings SET value = 'bf16' WHERE key = 'precision/cpu'")
    tamper(tmp_path, "UPDATE studies SET text = 'study: other'")
    with Store.open(tmp_path) as store:
        for read in (
            lambda: store.get_setting("precision/cpu"),
            lambda: store.get_settings("precision/"),
        ):
            with pytest.raises(StoreError, match="setting precision/cpu: its record changed"):
                read()
        with pytest.raises(StoreError, match=f"study {STUDY}: its record changed"):
            store.list_studies()
        assert len(store.verify()) == 2
        store.save_study(STUDY, "tiny", "study: tiny\n", FORM)
        assert [row.text for row in store.list_studies()] == ["study: tiny\n"]


def test_what_is_damaged_is_made_again_by_a_retry(tmp_path):
    a_finished_store(tmp_path).close()
    tamper(tmp_path, "UPDATE runs SET result = replace(result, '1234', '9') WHERE run_id='run000'")
    tamper(tmp_path, "UPDATE study_runs SET position = 90 WHERE run_id = 'run001'")
    tamper(tmp_path, "UPDATE settings SET value = 'bf16'")
    tamper(tmp_path, "UPDATE studies SET text = 'study: other'")
    with Store.open(tmp_path) as store:
        assert len(store.verify()) == 4
        assert store.retry(STUDY) == 3
        store.save_study(STUDY, "tiny", "study: tiny\n", FORM)
        # Both are todo for the study again: one from its beginning, the other is only named again.
        assert store.add_runs(STUDY, runs(4)) == 1
        assert {s.run_id: s.state for s in store.load_statuses(STUDY)} == {
            "run000": "todo",
            "run002": "todo",
            "run003": "todo",
            "run001": "done",
        }
        assert store.get_setting("precision/cpu") is None
        while (claim := store.claim("a", STUDY)) is not None:
            store.finish(claim, RESULT, MEASURED, {})
        assert store.verify() == []


def test_a_guard_that_was_taken_away_is_told(tmp_path):
    a_finished_store(tmp_path).close()
    db = sqlite3.connect(tmp_path / "study.db")
    for guard in tables.TRIGGERS:
        db.execute(f"DROP TRIGGER {guard}")
    db.execute("UPDATE runs SET result = '{}' WHERE run_id = 'run000'")
    db.commit()
    db.close()
    with Store.open(tmp_path) as store:
        assert len(store.verify()) == 4


@pytest.mark.parametrize("read", ["load_records", "load_statuses"])
def test_as_many_statements_read_few_runs_as_many(tmp_path, read):
    counts = {}
    for number in (2, 40):
        with a_store(tmp_path / str(number), runs(number)) as store:
            while (claim := store.claim("a", STUDY)) is not None:
                store.finish(claim, RESULT, MEASURED, {})
            statements: list[str] = []
            store._db.set_trace_callback(statements.append)
            assert len(getattr(store, read)(STUDY)) == number
            store._db.set_trace_callback(None)
            counts[number] = len(statements)
    assert counts[2] == counts[40] <= 8


def flip_bit(folder: Path, content: bytes, place: int, bit: int) -> None:
    """Write a database anew, with another bit."""
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    for file in folder.glob("study.db*"):
        file.unlink()
    (folder / "study.db").write_bytes(damaged)


def test_a_flipped_bit_in_progress_is_told_alike_by_verify_and_by_what_reads(tmp_path):
    progress = {"step": 40, "steps": 120, "loss": 1.25e-05, "note": "micro-batch 4"}
    with a_store(tmp_path, runs(3)) as store:
        done, waiting, running = (store.claim(owner, STUDY, lease_seconds=3000) for owner in "abc")
        for claim in (done, waiting, running):
            store.renew(claim, progress)
        store.finish(done, RESULT, MEASURED, {})
        store.release(waiting)
    content = (tmp_path / "study.db").read_bytes()
    texts = re.finditer(rb'{"loss":[^}]*}', content)
    places = [place for text in texts for place in range(*text.span())]
    refusals = 0
    for place in places[::5]:
        flip_bit(tmp_path, content, place, place % 7)
        with Store.open(tmp_path) as store:
            problems = store.verify()
            if not problems:  # a digit, a letter of a name: it shows how far a run is, no more
                assert len(store.load_statuses(STUDY)) == 3
                continue
            refusals += 1
            assert "its progress changed after it was written" in problems[0]
            for read in (store.load_statuses, store.load_records):
                with pytest.raises(StoreError, match=re.escape(problems[0])):
                    read(STUDY)
            if waiting.run_id in problems[0]:
                with pytest.raises(StoreError, match=re.escape(problems[0])):
                    store.claim("d", STUDY)
            assert store.retry(STUDY) == 1
            assert store.verify() == []
    assert 0 < refusals < len(places[::5])


@pytest.mark.parametrize(
    "change",
    ["owner = NULL", "lease_until = NULL", "state = 'todo'", "state = 'tpdo'", "result = '{'"],
)
def test_a_change_in_a_run_that_is_executed_is_told(tmp_path, change):
    with a_store(tmp_path, runs(1)) as store:
        store.claim("a", STUDY)
    tamper(tmp_path, f"UPDATE runs SET {change}")  # noqa: S608
    with Store.open(tmp_path) as store:
        for read in (store.load_statuses, store.load_records):
            with pytest.raises(StoreError, match=r"run000.*its record changed"):
                read(STUDY)
        assert any("its record changed" in problem for problem in store.verify())


@pytest.mark.parametrize("flips", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_a_flipped_bit_anywhere_in_the_file_changes_no_result_silently(tmp_path, flips):
    with a_finished_store(tmp_path) as store:
        whole = {record.run_id: record for record in store.load_records(STUDY)}
        precision = store.get_settings("precision/")
    content, draw = (tmp_path / "study.db").read_bytes(), random.Random(flips)  # noqa: S311
    refused = 0
    for _ in range(flips):
        flip_bit(tmp_path, content, draw.randrange(len(content)), draw.randrange(8))
        try:
            with Store.open(tmp_path) as store:
                records = {record.run_id: record for record in store.load_records(STUDY)}
                assert store.get_settings("precision/") == precision
                store.load_statuses(STUDY), store.list_studies()
                problems = store.verify()
        except StoreError:
            refused += 1  # any other error would be a traceback, and fails here
            continue
        assert all(record == whole[run] for run, record in records.items())
        assert {*records} == {*whole} or problems
    assert refused > 0
