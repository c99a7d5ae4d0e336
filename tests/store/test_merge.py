"""Ended runs of several stores in one: each once, whole, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.stored_records import tamper
from support.tiny_runs import STUDY, a_store, runs

from paretune.errors import StoreError, StudyError
from paretune.store import Store
from paretune.study import digest
from paretune.verbs.stores import merge


def finish(store: Store, score: float = 0.5, study: str = STUDY, **result: Any) -> str:
    """The next run of the store is done; its id."""
    claim = store.claim("a", study)
    assert claim is not None
    scores = {"scores": {"selection": {"primary": score}}, "outcome": "ok", **result}
    blobs = {"weights": claim.run_id.encode()}
    store.finish(claim, scores, {"seconds": 1.5}, blobs)
    return claim.run_id


def fail(store: Store) -> None:
    claim = store.claim("a", STUDY)
    assert claim is not None
    store.fail(claim, "error", "it broke", {})


def records(folder: Path, study: str = STUDY) -> list[Any]:
    with Store.open(folder) as store:
        assert store.verify() == []
        return store.load_records(study)


def test_two_halves_are_the_whole(tmp_path: Path) -> None:
    all_runs = runs(6)
    with a_store(tmp_path / "whole", all_runs) as whole:
        for _ in all_runs:
            finish(whole)
    for name, own in (("a", all_runs[:2]), ("b", all_runs[2:])):
        with a_store(tmp_path / name, own) as half:
            for _ in own:
                finish(half)
    results = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both").stores
    assert [(r.added, r.present, r.contradictory, r.running) for r in results] == [
        (2, 0, 0, 0),
        (4, 0, 0, 0),
    ]
    merged, once = records(tmp_path / "both"), records(tmp_path / "whole")
    assert [(r.run_id, r.run, r.result, r.measured) for r in merged] == [
        (r.run_id, r.run, r.result, r.measured) for r in once
    ]
    with Store.open(tmp_path / "both") as both:
        assert both.read_blob(merged[3].result["weights"]) == b"run003"


def test_again_nothing_is_new_and_the_sources_stay_as_they_are(tmp_path: Path) -> None:
    with a_store(tmp_path / "a", runs(2)) as store:
        finish(store)
    before = (tmp_path / "a" / "study.db").read_bytes()
    merge([tmp_path / "a"], tmp_path / "both")
    (again,) = merge([tmp_path / "a"], tmp_path / "both").stores
    assert (again.added, again.present) == (0, 1)
    assert (tmp_path / "a" / "study.db").read_bytes() == before
    assert len(records(tmp_path / "both")) == 1


def test_what_has_not_ended_there_is_left_to_the_study(tmp_path: Path) -> None:
    with a_store(tmp_path / "a", runs(3)) as store:
        finish(store)
        assert store.claim("a", STUDY) is not None  # running
    with a_store(tmp_path / "both", runs(3)) as both:
        merge([tmp_path / "a"], tmp_path / "both")
        assert [s.state for s in both.load_statuses(STUDY)] == ["done", "todo", "todo"]


def test_a_run_that_was_done_replaces_one_that_failed_and_not_the_reverse(tmp_path: Path) -> None:
    with a_store(tmp_path / "failed", runs(1)) as store:
        fail(store)
    with a_store(tmp_path / "done", runs(1)) as store:
        finish(store)
    merge([tmp_path / "failed"], tmp_path / "both")
    assert [r.state for r in records(tmp_path / "both")] == ["failed"]
    merge([tmp_path / "done"], tmp_path / "both")
    assert [r.state for r in records(tmp_path / "both")] == ["done"]
    merge([tmp_path / "failed"], tmp_path / "both")
    assert [r.state for r in records(tmp_path / "both")] == ["done"]


def test_a_run_that_is_being_executed_is_left_to_its_worker(tmp_path: Path) -> None:
    with a_store(tmp_path / "a", runs(1)) as store:
        finish(store)
    with a_store(tmp_path / "both", runs(1)) as both:
        claim = both.claim("another", STUDY)
        assert claim is not None
        (result,) = merge([tmp_path / "a"], tmp_path / "both").stores
        assert (result.added, result.running) == (0, 1)
        both.finish(claim, {"outcome": "ok"}, {}, {})
    assert records(tmp_path / "both")[0].result == {"outcome": "ok"}


def test_contradictory_results_are_named_and_nothing_is_taken(tmp_path: Path) -> None:
    for name, score in (("a", 0.5), ("b", 0.6)):
        with a_store(tmp_path / name, runs(2)) as store:
            finish(store, score)
            finish(store)
    with a_store(tmp_path / "b", runs(1, prefix="new")) as store:
        finish(store)
    merge([tmp_path / "a"], tmp_path / "both")
    with pytest.raises(StoreError, match=r"cb-sl x tiny x lora, tune, seed 0: done in both") as no:
        merge([tmp_path / "b"], tmp_path / "both")
    assert "keep_own=True" in str(no.value)
    assert len(records(tmp_path / "both")) == 2
    (result,) = merge([tmp_path / "b"], tmp_path / "both", keep_own=True).stores
    assert (result.added, result.present, result.contradictory) == (1, 1, 1)
    assert [r.result["scores"]["selection"]["primary"] for r in records(tmp_path / "both")] == [
        0.5,
        0.5,
        0.5,
    ]


def test_studies_that_share_a_run_share_it_after_the_merge(tmp_path: Path) -> None:
    other = digest({"study": "other"})[:16]
    with a_store(tmp_path / "a", runs(2)) as store:
        finish(store)
        finish(store)
        store.save_study(other, "other", "study: other\n", {"study": "other"})
        store.add_runs(other, runs(1))
    merge([tmp_path / "a"], tmp_path / "both")
    assert len(records(tmp_path / "both")) == 2
    assert len(records(tmp_path / "both", other)) == 1


def test_settings_come_with_their_runs_and_those_of_the_output_stay(tmp_path: Path) -> None:
    with a_store(tmp_path / "a", runs(2)) as store:
        finish(store)
        store.set_settings({"of run/run000": "1", "of run/run001": "2", "precision": "bf16"})
    with a_store(tmp_path / "both") as both:
        both.set_setting("precision", "fp32")
        merge([tmp_path / "a"], tmp_path / "both")
        assert both.get_setting("precision") == "fp32"
        assert both.get_setting("of run/run000") == "1"


def test_dropped_weights_stay_dropped(tmp_path: Path) -> None:
    with a_store(tmp_path / "a", runs(1, "final")) as store:
        finish(store)
        assert store.drop_weights(STUDY, ["run000"]) == ["run000"]
    merge([tmp_path / "a"], tmp_path / "both")
    with Store.open(tmp_path / "both") as both:
        assert both.list_dropped_runs() == {"run000"} and both.verify() == []


def test_a_damaged_or_missing_store_gives_nothing(tmp_path: Path) -> None:
    with a_store(tmp_path / "a", runs(1)) as store:
        finish(store)
    with pytest.raises(StoreError):
        merge([tmp_path / "a", tmp_path / "none"], tmp_path / "both")
    assert not (tmp_path / "both").exists()
    blob = next((tmp_path / "a" / "blobs").glob("??/*"))
    content = blob.read_bytes()
    blob.write_bytes(b"changed")
    with pytest.raises(StoreError, match="blob is damaged"):
        merge([tmp_path / "a"], tmp_path / "both")
    blob.write_bytes(content)
    tamper(tmp_path / "a", "UPDATE runs SET result = '{}'")
    with pytest.raises(StoreError, match="its record changed"):
        merge([tmp_path / "a"], tmp_path / "both")
    assert records(tmp_path / "both") == []


def test_a_store_is_not_merged_with_itself(tmp_path: Path) -> None:
    a_store(tmp_path / "a").close()
    with pytest.raises(StudyError, match="both a source and the output"):
        merge([tmp_path / "a"], tmp_path / "a")
    with pytest.raises(StudyError, match="names no store"):
        merge([], tmp_path / "a")
