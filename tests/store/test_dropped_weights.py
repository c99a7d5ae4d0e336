"""Trained weights that are let go: told, gone when nobody names them, and never lost by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_runs import FORM, STUDY, a_store, runs

from paretune.store import Store, blobs
from paretune.store.blobs import blob_path
from paretune.study import digest

CANONICAL = {"study": "other"}
OTHER = digest(CANONICAL)[:16]


def ended(folder: Path, weights: list[bytes]) -> Store:
    """A store in which as many runs have ended, each with its weights and answers."""
    store = a_store(folder, runs(len(weights), "final"))
    for content in weights:
        claim = store.claim("a", STUDY)
        assert claim is not None
        answers = b'{"run": "%s"}' % claim.run_id.encode()
        blobs = {"weights": content, "predictions": answers}
        store.finish(claim, {"outcome": "ok", "trained_bytes": len(content)}, {}, blobs)
    return store


def files(store: Store) -> list[bool]:
    """Whether the weights of each run are there."""
    return [
        blob_path(store.folder / "blobs", r.result["weights"]).exists()
        for r in store.load_records(STUDY)
    ]


def test_dropped_weights_are_gone_and_all_else_is_there(tmp_path: Path) -> None:
    store = ended(tmp_path, [b"one", b"two", b"three"])
    before = store.load_records(STUDY)
    assert store.sum_weight_bytes(STUDY) == len(b"onetwothree")
    assert store.drop_weights(STUDY, ["run001"]) == ["run001"]
    assert store.sum_weight_bytes(STUDY) == len(b"onethree")
    assert store.list_dropped_runs() == {"run001"} and files(store) == [True, False, True]
    assert store.load_records(STUDY) == before, "a run that is done never changes"
    assert store.verify() == []
    assert all(blob_path(store.folder / "blobs", r.result["predictions"]).exists() for r in before)
    store.close()
    with Store.open(tmp_path) as again:
        assert again.list_dropped_runs() == {"run001"}


def test_what_another_run_or_study_needs_stays(tmp_path: Path) -> None:
    store = ended(tmp_path, [b"same", b"same", b"own"])
    store.save_study(OTHER, "another", "", CANONICAL)
    store.add_runs(OTHER, [runs(3, "final")[2]])
    assert store.drop_weights(STUDY, ["run000", "run002"]) == ["run000"]
    assert files(store) == [True, True, True], "run001 names what run000 named"
    assert store.drop_weights(STUDY, ["run001"]) == ["run001"]
    assert files(store) == [False, False, True] and store.verify() == []


def test_an_older_version_of_the_same_study_does_not_hold_weights_back(tmp_path: Path) -> None:
    store = ended(tmp_path, [b"one"])
    store.save_study(OTHER, "tiny", "", CANONICAL)
    store.add_runs(OTHER, runs(1, "final"))
    assert store.drop_weights(OTHER, ["run000"]) == ["run000"] and files(store) == [False]


def test_a_kill_between_mark_and_removal_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ended(tmp_path, [b"one", b"two"])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(blobs, "remove_dropped_blobs", killed)
        with pytest.raises(KeyboardInterrupt):
            store.drop_weights(STUDY, ["run000"])
    assert store.list_dropped_runs() == {"run000"} and files(store) == [True, True]
    assert store.verify() == []
    store.close()
    with Store.open(tmp_path, create=True) as again:
        assert files(again) == [False, True] and again.verify() == []


def test_a_run_that_ends_while_its_content_is_dropped_has_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob is there when the run looks, and goes before its result is written."""
    store = a_store(tmp_path, runs(2, "final"))
    first = store.claim("a", STUDY)
    store.finish(first, {"outcome": "ok"}, {}, {"weights": b"same"})
    second = store.claim("a", STUDY)
    begin = store._write

    def meanwhile() -> Any:
        with Store.open(tmp_path) as other:
            assert other.drop_weights(STUDY, ["run000"]) == ["run000"]
            assert files(other) == [False]
        return begin()

    monkeypatch.setattr(store, "_write", meanwhile)
    store.finish(second, {"outcome": "ok"}, {}, {"weights": b"same"})
    assert files(store) == [True, True] and store.verify() == []
    assert store.list_dropped_runs() == {"run000"}


def test_weights_that_were_never_kept_and_runs_that_are_not_done_are_no_matter(
    tmp_path: Path,
) -> None:
    store = a_store(tmp_path, runs(2, "final"))
    store.finish(store.claim("a", STUDY), {"outcome": "ok"}, {}, {})
    assert store.drop_weights(STUDY, ["run000", "run001", "unknown"]) == []
    assert store.list_dropped_runs() == set()
    store.finish(store.claim("a", STUDY), {"outcome": "ok"}, {}, {"weights": b"late"})
    assert store.verify() == [] and FORM == {"study": "tiny"}
