"""A node's side: a small store, a worker on it, and what it sends."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from support.fake_worker import FakeExecutor
from support.tiny_runs import a_run

from paretune.execution.cluster import node
from paretune.execution.cluster.assignment import (
    Assignment,
    Checkpoint,
    Done,
    Failed,
    NodeOptions,
)

pytestmark = pytest.mark.usefixtures("kept_thread_variables")


def an_assignment(*runs, **changes):
    named = {f"run{i}": run for i, run in enumerate(runs)}
    return replace(Assignment(1, version("paretune"), named, NodeOptions()), **changes)


def execute(assignment, *, stop=False):
    """What is sent, and why nothing can be executed here (or None)."""
    events = []

    def post(sent):
        events.extend(sent)
        return stop

    return events, node.execute_assignment(assignment, post, FakeExecutor())


def ends(events):
    return {event.run_id: event for event in events if isinstance(event, Done | Failed)}


def test_each_run_is_sent_once_with_what_it_left_and_a_failure_stops_no_other(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assignment = an_assignment(a_run(1), a_run(2, act="raise"), a_run(3))
    events, refusal = execute(assignment)
    assert refusal is None
    first, failed, last = (ends(events)[name] for name in ("run0", "run1", "run2"))
    assert len([e for e in events if isinstance(e, Done | Failed)]) == 3
    assert first.result == {"outcome": "ok", "steps": 4, "scores": first.result["scores"]}
    assert set(first.blobs) == {"weights"} and first.blobs != last.blobs
    assert (failed.kind, "ZeroDivisionError" in failed.message) == ("error", True)
    assert "traceback" in failed.measured
    (folders,) = tmp_path.iterdir()
    assert not list(folders.iterdir()), "nothing stays on the node"


def test_a_run_goes_on_from_the_checkpoint_that_comes_with_it():
    whole = ends(execute(an_assignment(a_run(1, steps=6)))[0])["run0"]
    events, _ = execute(an_assignment(a_run(1, steps=6, hold=True)), stop=True)
    (checkpoint,) = [event for event in events if isinstance(event, Checkpoint)]
    assert not ends(events) and json.loads(checkpoint.content)[0] == 2
    sent = {"run0": checkpoint.content}
    resumed = ends(execute(an_assignment(a_run(1, steps=6), checkpoints=sent))[0])["run0"]
    assert resumed.blobs == whole.blobs and resumed.result == whole.result


def test_what_its_process_could_not_remove_is_removed_by_the_next(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    execute(an_assignment(a_run()))
    (folders,) = tmp_path.iterdir()
    killed = folders / f"{node.owner_tag().rpartition('-')[0]}-1.left"
    killed.mkdir()
    execute(an_assignment(a_run()))
    assert not killed.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "0.0.1"}, "the study runs with 0.0.1. Install the same version"),
        ({"paths": (Path("/no/such/train.csv"),)}, "/no/such/train.csv: not on this node."),
    ],
)
def test_a_node_that_lacks_something_says_what_and_executes_nothing(changes, message):
    events, refusal = execute(an_assignment(a_run(), **changes))
    assert not events and message in refusal
