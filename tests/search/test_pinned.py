"""A hub model is pinned to the commit that was found when the study was planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import small

from paretune.errors import ModelError
from paretune.models.sources.resolve import resolve_source
from paretune.planning.prepare import prepare_study
from paretune.search.expand import expand_study, plan_pending_runs
from paretune.study import ModelSpec, Study

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with two commits of one model; ``main`` is the older."""
    from huggingface_hub import constants

    repo = tmp_path / "hub" / "models--someone--tiny"
    for commit in (OLD, NEW):
        tiny_model("bert", repo / "snapshots" / commit)
    (repo / "snapshots" / NEW / "tokenizer_config.json").write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(OLD)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repo


def of_hub(folder: Path) -> Study:
    return small(folder, Path("m"), models=["someone/tiny"])


def test_runs_carry_the_commit_and_workers_find_it_when_the_branch_moves(
    cache: Path, tmp_path: Path
) -> None:
    study = of_hub(tmp_path)
    planned = expand_study(prepare_study(study), [])
    models = {p.run.model.name: p.run.model for p in planned}
    assert models["someone/tiny"].revision == OLD
    assert models["someone/tiny"].key == "tiny" and models["-"].revision is None

    (cache / "refs" / "main").write_text(NEW)
    assert resolve_source(models["someone/tiny"]).revision == OLD  # what a worker does
    later = {p.run_id for p in expand_study(prepare_study(study), [])}
    shared = later & {p.run_id for p in planned}
    # Other weights are other runs; only the baselines without a model are the same.
    assert {p.run_id for p in planned if p.run.model.name == "-"} == shared


def test_what_waits_for_its_rate_is_pinned_too(cache: Path, tmp_path: Path) -> None:
    study = of_hub(tmp_path).model_copy(update={"protocol": small(tmp_path, Path("m")).protocol})
    study = study.model_copy(update={"protocol": study.protocol.model_copy(update={"trials": 3})})
    _, waiting = plan_pending_runs(prepare_study(study), [])
    assert waiting and {run.model.revision for run in waiting} == {OLD}


def test_folders_and_packages_have_no_revision(tmp_path: Path, tiny_model: Any) -> None:
    study = small(tmp_path, tiny_model("bert"))
    assert {p.run.model.revision for p in expand_study(prepare_study(study), [])} == {None}


def test_offline_nothing_is_fetched(cache: Path, tmp_path: Path) -> None:
    study = of_hub(tmp_path).model_copy(update={"models": (ModelSpec(name="someone/other"),)})
    with pytest.raises(ModelError, match="offline nothing is fetched"):
        expand_study(prepare_study(study), [])
