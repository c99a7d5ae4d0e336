"""What is read once, and then only where it has changed."""

import random
import sqlite3
from dataclasses import replace

import pytest
from support.tiny_runs import STUDY, a_run, a_store, runs

from paretune.store import RunStatus, Store
from paretune.store.sqlite import queries
from paretune.store.status_view import Moment, StatusChanges, StatusView, StoredStatus

MOMENT = Moment(now=100.0, training_waits=False, cost_waits=True)


def states(store):
    return {status.run_id: status.state for status in store.load_statuses(STUDY)}


def change_by_hand(folder, statement):
    with sqlite3.connect(folder / "study.db") as db:
        db.execute(statement)
    db.close()


def test_a_look_reads_what_has_changed_and_no_more(tmp_path):
    store = a_store(tmp_path, runs(20))
    before = store.load_statuses(STUDY)
    plan = store._db.execute(f"EXPLAIN QUERY PLAN {queries._CHANGED_STATUSES_SQL}", (STUDY, 1))
    assert not [row["detail"] for row in plan if row["detail"].startswith("SCAN")]
    claim = store.claim("a", STUDY)
    after = store.load_statuses(STUDY)
    assert [a.run_id for a, b in zip(after, before, strict=True) if a is not b] == [claim.run_id]


def test_what_another_program_writes_is_seen(tmp_path):
    """An older paretune, say: the numbers come from the file, not from the program."""
    store = a_store(tmp_path, runs(3))
    store.load_statuses(STUDY)
    change_by_hand(tmp_path, "DELETE FROM study_runs WHERE run_id = 'run001'")
    assert [*states(store)] == ["run000", "run002"]
    change_by_hand(
        tmp_path,
        "UPDATE runs SET state = 'failed', fail_kind = 'x', ended = 1 WHERE run_id = 'run000'",
    )
    with pytest.raises(Exception, match="run000"):  # without a checksum it is no result
        store.load_statuses(STUDY)


def test_runs_that_are_left_out_and_come_back_are_seen(tmp_path):
    store = a_store(tmp_path, runs(3))
    with Store.open(tmp_path) as other:
        assert len(states(other)) == 3
        store.leave_out(STUDY, ["run000", "run002"])
        assert [*states(other)] == ["run000", "run002"]
        assert [other.claim("a", STUDY).run_id, other.claim("a", STUDY).run_id] == [*states(other)]
        store.leave_out(STUDY, ["run000", "run001", "run002"])
        assert [*states(other)] == ["run000", "run001", "run002"]
        assert other.claim("a", STUDY).run_id == "run001"


def test_a_change_that_is_taken_back_was_not_seen(tmp_path):
    store = a_store(tmp_path, runs(2))
    store.prepare_to_serve(60.0)
    store.load_statuses(STUDY)
    store.get_settings("a/")

    def change():
        store.claim("a", STUDY)
        store.set_setting("a/1", "x")
        assert states(store)["run000"] == "running" and store.get_settings("a/") == {"1": "x"}
        raise KeyError

    with pytest.raises(KeyError):
        store.call_once("a-key-of-a-test-0", change)
    with Store.open(tmp_path) as other:  # takes the numbers that were given back
        other.claim("b", STUDY)
        other.set_setting("a/2", "y")
    assert store.get_settings("a/") == {"2": "y"}
    assert store.load_statuses(STUDY)[0].owner == "b"


def test_a_store_whose_changes_are_not_numbered_is_read_as_a_whole(tmp_path):
    a_store(tmp_path, runs(3)).close()
    change_by_hand(tmp_path, "DROP TRIGGER runs_update_is_numbered")
    with Store.open(tmp_path) as reader, Store.open(tmp_path) as writer:
        assert reader.load_status_changes(STUDY, None, 0)[0].complete
        claim = writer.claim("a", STUDY)
        assert states(reader)[claim.run_id] == "running"
        with Store.open(tmp_path, create=True) as repaired:
            repaired.release(claim)
        assert states(reader)[claim.run_id] == "todo"
        writer.finish(writer.claim("a", STUDY), {"outcome": "ok"}, {}, {})
        assert states(reader)[claim.run_id] == "done"


def test_a_view_that_follows_another_one_is_at_the_same(tmp_path):
    draw, source, follower, revision = random.Random(4), StatusView(), StatusView(), 0  # noqa: S311
    positions: dict[str, int] = {}
    for step in range(600):
        run_id = f"run{draw.randrange(12)}"
        state = draw.choice(["todo", "running", "done", "gone"])
        revision += 1
        if state == "gone":
            changes = StatusChanges(revision, [], [run_id])
            positions.pop(run_id, None)
        else:
            position = positions.setdefault(run_id, draw.randrange(10**9))
            status = RunStatus(run_id, a_run(), state, False, None, step)
            started = 40.0 if state == "running" else None
            stored = StoredStatus(revision, position, status, started)
            changes = StatusChanges(revision, [stored], complete=step == 0)
        source.apply(changes)
        if draw.random() < 0.3:
            follower.apply(source.list_changes(follower.revision))
            moment = replace(MOMENT, training_waits=draw.random() < 0.5)
            assembled = follower.assemble(moment)
            assert assembled == source.assemble(moment)
            assert [s.run_id for s in assembled] == sorted(positions, key=positions.__getitem__)
            assert {s.seconds for s in assembled if s.state == "running"} <= {60.0}
            assert [s.status.run_id for s in follower.iterate_open()] == [
                s.run_id for s in assembled if not s.ended
            ]
    elsewhere = StatusView(revision=revision + 5)  # of a newer copy of the store
    elsewhere.apply(source.list_changes(elsewhere.revision))
    assert elsewhere.assemble(MOMENT) == source.assemble(MOMENT)
