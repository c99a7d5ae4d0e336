"""Runs that travel in files: three parts in three folders are the study done at once."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from support.fake_worker import FakeExecutor
from support.tiny_study import digests, finish, small

from paretune.errors import ModelError, StoreError, StudyError
from paretune.execution.signals import StopRequest
from paretune.execution.worker import WorkerOptions, run_worker
from paretune.planning.context import StudyContext
from paretune.store import Store
from paretune.verbs.merge import merge
from paretune.verbs.pack import pack
from paretune.verbs.work_bundle import unpack, work_bundle


def execute(bundle: Path, folder: Path, models: dict[str, str] | None = None) -> list[str]:
    """The runs of a bundle as a machine elsewhere executes them; their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    with unpack(bundle, folder / "store", models or {}, StudyContext()) as (packed, store):
        options = WorkerOptions(("tune", "final"))
        study_hash = packed.study["study_hash"]
        run_worker(store, study_hash, FakeExecutor(), StopRequest(), options)
        assert store.verify() == []
        return [record.run_id for record in store.load_records(study_hash)]


@pytest.fixture
def model(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model("bert")


def test_bundles_share_the_runs_and_come_back_once(tmp_path: Path, model: Path) -> None:
    study = small(tmp_path, model)
    bundles = pack(study, tmp_path / "part.zip", bundles=3, store=tmp_path / "store")
    assert [one.file.name for one in bundles] == ["part-1.zip", "part-2.zip", "part-3.zip"]
    assert pack(study, tmp_path / "none.zip", store=tmp_path / "store") == ()
    (tmp_path / "train.csv").unlink()  # the machines elsewhere have no data
    (tmp_path / "test.csv").unlink()
    ids = [execute(one.file, tmp_path / f"node{i}") for i, one in enumerate(bundles)]
    assert [len(part) for part in ids] == [one.runs for one in bundles]
    with Store.open(tmp_path / "store") as store:
        before = store.load_statuses(study.study_hash)
    training = [status for status in before if status.stage != "cost"]
    assert all(s.state == "running" and not s.is_claimable for s in training)
    assert sorted(chain(*ids)) == sorted(status.run_id for status in training)
    folders = [tmp_path / f"node{i}" / "store" for i in range(3)]
    results = merge(folders, tmp_path / "store")
    assert [one.added for one in results] == [one.runs for one in bundles]
    assert [one.added for one in merge(folders, tmp_path / "store")] == [0, 0, 0]
    with Store.open(tmp_path / "store") as store:
        after = store.load_statuses(study.study_hash)
        assert [s.run_id for s in after] == [s.run_id for s in before]
        assert {s.state for s in after if s.stage != "cost"} == {"done"}
        assert [s.run.task.source for s in after] == [None] * len(after)
        assert store.verify() == []


def test_a_bundle_that_never_comes_back_holds_its_runs_for_its_days(
    tmp_path: Path, model: Path
) -> None:
    study = small(tmp_path, model)
    (bundle,) = pack(study, tmp_path / "a.zip", runs=1, days=1e-9, store=tmp_path / "store")
    assert bundle.runs == 1
    (again,) = pack(study, tmp_path / "b.zip", runs=1, store=tmp_path / "store")
    assert again.runs == 1
    first, second = (
        json.loads(zipfile.ZipFile(b.file).read("manifest.json")) for b in (bundle, again)
    )
    assert first["runs"][0][0] == second["runs"][0][0]
    with pytest.raises(StudyError, match="--days 31: is not between 0 and 30"):
        pack(study, tmp_path / "c.zip", days=31, store=tmp_path / "store")


def test_a_bundle_keeps_no_cost_from_being_measured(tmp_path: Path, model: Path) -> None:
    study = small(tmp_path, model)
    pack(study, tmp_path / "a.zip", store=tmp_path / "store")
    with Store.open(tmp_path / "store") as store:
        claim = store.claim("here", study.study_hash)
        assert claim is not None and claim.run.stage == "cost"


def test_another_model_is_refused_with_both_hashes(
    tmp_path: Path, model: Path, tiny_model: Callable[..., Path]
) -> None:
    study = small(tmp_path, model)
    (bundle,) = pack(study, tmp_path / "a.zip", store=tmp_path / "store")
    other = str(tiny_model("roberta"))
    with pytest.raises(ModelError, match=r"has other files here \(\w{12}\) than where .*--model"):
        execute(bundle.file, tmp_path / "node", {str(model): other})
    with pytest.raises(ModelError, match="on this machine"):
        execute(bundle.file, tmp_path / "node", {str(model): str(tmp_path / "nowhere")})
    with pytest.raises(StudyError, match="the study has no model other"):
        execute(bundle.file, tmp_path / "node", {"other": str(model)})
    moved = tiny_model("bert", tmp_path / "moved")
    assert len(execute(bundle.file, tmp_path / "node", {str(model): str(moved)})) == bundle.runs


def test_what_is_no_bundle_is_said(tmp_path: Path, model: Path) -> None:
    (bundle,) = pack(small(tmp_path, model), tmp_path / "a.zip", store=tmp_path / "store")
    whole = bundle.file.read_bytes()
    bundle.file.write_bytes(whole[:-100])
    with pytest.raises(StoreError, match="is no whole bundle"):
        execute(bundle.file, tmp_path / "node")
    with pytest.raises(StoreError, match="no such bundle"):
        execute(tmp_path / "none.zip", tmp_path / "node")
    changed = whole.replace(whole[whole.index(b"inputs/") + 90 :][:40], b"x" * 40, 1)
    bundle.file.write_bytes(changed)
    with pytest.raises(StoreError, match="is no whole bundle"):
        execute(bundle.file, tmp_path / "node")


@pytest.mark.slow
def test_three_parts_in_three_folders_are_the_study_done_at_once(
    tmp_path: Path, model: Path
) -> None:
    """Trials first, merged; then the final runs at the chosen rates."""
    changes: dict[str, Any] = {"protocol": {"trials": 3, "folds": 1, "seeds": [1, 2]}}
    study = small(tmp_path, model, **changes)
    whole = finish(study, tmp_path / "whole", costs=0)
    rounds = 0
    while bundles := pack(
        study, tmp_path / f"round{rounds}.zip", bundles=3, store=tmp_path / "parts"
    ):
        folders = []
        for one in bundles:
            folders.append(tmp_path / f"{one.file.stem}-node")
            work_bundle(one.file, folder=folders[-1], workers=1, fleet=1, devices="cpu")
        merge(folders, tmp_path / "parts")
        rounds += 1
    assert rounds == 2
    with Store.open(tmp_path / "parts") as parts:
        assert digests(parts, study.study_hash) == digests(whole, study.study_hash)
        assert parts.verify() == []
    whole.close()
