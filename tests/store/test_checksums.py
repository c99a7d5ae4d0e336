"""A digit that changed in study.db is told by run, and never shown as a result."""

import random
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


@pytest.mark.parametrize(("table", "column", "to"), CHANGES)
def test_a_change_in_a_run_is_told_by_run(tmp_path, table, column, to):
    store = a_finished_store(tmp_path)
    assert store.verify() == []
    store.close()
    tamper(tmp_path, f"UPDATE {table} SET {column} = {to} WHERE run_id = 'run001'")  # noqa: S608
    with Store.open(tmp_path) as store:
        for read in (store.load_records, store.load_statuses):
            with pytest.raises(StoreError, match=r"run run001 .* changed.*run STUDY --retry"):
                read(STUDY)
        assert any("run001" in problem for problem in store.verify())
        assert not any("run000" in problem for problem in store.verify())


@pytest.mark.parametrize("column", ["message", "measured", "fail_kind"])
def test_a_change_in_a_failed_run_is_told_too(tmp_path, column):
    a_finished_store(tmp_path).close()
    tamper(tmp_path, f"UPDATE runs SET {column} = 'other' WHERE run_id = 'run002'")  # noqa: S608
    with Store.open(tmp_path) as store, pytest.raises(StoreError, match=r"run002.*record changed"):
        store.load_records(STUDY)


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


@pytest.mark.parametrize("flips", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_a_flipped_bit_anywhere_in_the_file_changes_no_result_silently(tmp_path, flips):
    with a_finished_store(tmp_path) as store:
        whole = {record.run_id: record for record in store.load_records(STUDY)}
        precision = store.get_settings("precision/")
    content, draw = (tmp_path / "study.db").read_bytes(), random.Random(flips)  # noqa: S311
    refused = 0
    for _ in range(flips):
        damaged = bytearray(content)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        for file in tmp_path.glob("study.db*"):
            file.unlink()
        (tmp_path / "study.db").write_bytes(damaged)
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
