"""A node's side: a small store, a worker on it, and what it sends."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace

import pytest
from support.fake_worker import FakeExecutor
from support.tiny_runs import a_run
from support.tiny_study import finish, small

from paretune.execution.cluster import node
from paretune.execution.cluster.executor import Assignment, collect_inputs
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.prepare import prepare_study
from paretune.search.expand import expand_study
from paretune.study import ModelSpec
from paretune.training.caches import ProcessCache

pytestmark = pytest.mark.usefixtures("kept_thread_variables")


def an_assignment(*runs, **changes):
    named = {f"run{i}": run for i, run in enumerate(runs)}
    return replace(Assignment(1, named, WorkerSettings()), **changes)


def execute(assignment, *, stop=False):
    """What is sent, and why nothing can be executed here (or None)."""
    events = []

    def post(sent):
        events.extend(sent)
        return stop

    return events, node.execute_assignment(assignment, post, FakeExecutor())


def is_end(event):
    return event.outcome is not None or event.failure is not None


def ends(events):
    return {event.run_id: event for event in events if is_end(event)}


def test_each_run_is_sent_once_with_what_it_left_and_a_failure_stops_no_other(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assignment = an_assignment(a_run(1), a_run(2, act="raise"), a_run(3))
    events, refusal = execute(assignment)
    assert refusal is None
    first, failed, last = (ends(events)[name] for name in ("run0", "run1", "run2"))
    assert len([e for e in events if is_end(e)]) == 3
    result = first.outcome.result
    assert result == {"outcome": "ok", "steps": 4, "scores": result["scores"]}
    assert set(first.outcome.blobs) == {"weights"} and first.outcome.blobs != last.outcome.blobs
    assert (failed.failure[0], "ZeroDivisionError" in failed.failure[1]) == ("error", True)
    assert "traceback" in failed.failure[2]
    (folders,) = tmp_path.iterdir()
    assert not list(folders.iterdir()), "nothing stays on the node"


def test_a_run_goes_on_from_the_checkpoint_that_comes_with_it():
    whole = ends(execute(an_assignment(a_run(1, steps=6)))[0])["run0"]
    events, _ = execute(an_assignment(a_run(1, steps=6, hold=True)), stop=True)
    (checkpoint,) = [e for e in events if e.checkpoint is not None]
    assert not ends(events) and json.loads(checkpoint.checkpoint)[0] == 2
    sent = {"run0": checkpoint.checkpoint}
    resumed = ends(execute(an_assignment(a_run(1, steps=6), checkpoints=sent))[0])["run0"]
    assert resumed.outcome.blobs == whole.outcome.blobs
    assert resumed.outcome.result == whole.outcome.result


def test_what_its_process_could_not_remove_is_removed_by_the_next(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    execute(an_assignment(a_run()))
    (folders,) = tmp_path.iterdir()
    killed = folders / f"{node.owner_tag().rpartition('-')[0]}-1.left"
    killed.mkdir()
    execute(an_assignment(a_run()))
    assert not killed.exists()


def test_a_node_with_another_version_says_so_and_executes_nothing():
    events, refusal = execute(an_assignment(a_run(), version="0.0.1"))
    assert not events and "the study runs with 0.0.1. Install the same version" in refusal


def plan(study):
    """What its first runs read, the contents of it, and those runs by id; costs are left out."""
    caches = ProcessCache()
    inputs, contents = collect_inputs(prepare_study(study, caches))
    planned = expand_study(prepare_study(study, caches), [])
    runs = {p.run_id: p.run for p in planned if p.run.stage != "cost"}
    return {"inputs": inputs, "contents": contents}, runs


def test_a_node_with_other_models_or_code_says_so_and_executes_nothing(tmp_path, tiny_model):
    study = small(tmp_path, tiny_model("bert"))
    sent, named = plan(study)

    def refuse(runs, **changes):
        assignment = Assignment(1, runs, WorkerSettings(), **{**sent, **changes})
        events = []
        refusal = node.execute_assignment(assignment, lambda more: events.extend(more))
        assert not events
        return refusal

    trained = {i: run for i, run in named.items() if run.method.name == "lora"}
    (model,) = study.models
    other = replace(sent["inputs"], weights_hashes={model: "0" * 64})
    assert "has other files on this node" in refuse(trained, inputs=other)
    missing = ModelSpec(name="/no/such/model")
    gone = replace(sent["inputs"], weights_hashes={missing: "0"})
    moved = {i: run.model_copy(update={"model": missing}) for i, run in trained.items()}
    assert "model /no/such/model" in refuse(moved, inputs=gone)
    wrong = {"another": next(iter(trained.values()))}
    assert "would be another run on this node" in refuse(wrong)


@pytest.mark.thorough
def test_a_node_needs_no_data_and_comes_to_the_same_bits(tmp_path, tiny_model):
    study = small(tmp_path / "data", tiny_model("bert"))
    with finish(study, tmp_path / "store", costs=0) as store:
        expected = {record.run_id: record for record in store.load_records(study.study_hash)}
    sent, runs = plan(study)
    shutil.rmtree(tmp_path / "data")
    events = []
    assignment = Assignment(1, runs, WorkerSettings(), **sent)
    refusal = node.execute_assignment(assignment, lambda more: events.extend(more))
    assert refusal is None and ends(events).keys() == runs.keys() <= expected.keys()
    for run_id, done in ends(events).items():
        assert done.outcome.result["scores"] == expected[run_id].result["scores"]
        weights = done.outcome.blobs.get("weights", b"")
        sha256 = expected[run_id].result.get("weights")
        assert sha256 is None or hashlib.sha256(weights).hexdigest() == sha256
