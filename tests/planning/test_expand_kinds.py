"""Runs of outer folds, of translations, of searched combinations, at pinned revisions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import end_run, planning_study, small

from paretune.errors import MethodError, ModelError
from paretune.models.sources.resolve import resolve_source
from paretune.planning.expand import expand_study, find_possible_run_ids, plan_runs
from paretune.planning.prepare import PlannedRun, prepare_study
from paretune.preparation import ProcessCache
from paretune.study import ModelSpec, OuterFold, Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.testing.translator_folders import tiny_pairs


@pytest.fixture
def ask(tmp_path: Path, tiny_model: Any) -> Any:
    """``ask(outer, seeds)`` is a study of LoRA on 52 rows, with two rates."""
    # In one file: a test file is the test.
    task = tiny_task(tmp_path / "rows", train=52).model_dump(exclude_none=True, exclude={"test"})

    def make(outer: Any = "auto", seeds: int = 3) -> Study:
        seeds_of = list(range(1, seeds + 1))
        protocol = {"preset": "trials", "seeds": seeds_of, "trials": 2, "outer": outer}
        changes = {"tasks": [task], "methods": ["lora"], "protocol": protocol}
        return planning_study(tmp_path, tiny_model("bert"), **changes)

    return make


def of(runs: list[PlannedRun], method: str, stage: str) -> list[PlannedRun]:
    return [p for p in runs if (p.run.method.name, p.run.stage) == (method, stage)]


def test_each_fold_has_its_trials_and_baselines(ask: Any) -> None:
    runs = expand_study(prepare_study(ask()), [])
    folds = [OuterFold(folds=3, index=i) for i in range(3)]
    for name in ("majority", "tfidf"):
        own = of(runs, name, "final")
        assert [(p.run.outer, p.run.seed) for p in own] == [*zip(folds, (1, 2, 3), strict=True)]
    for name in ("lora", "head_only"):
        trials = of(runs, name, "tune")
        assert Counter(p.run.outer for p in trials) == dict.fromkeys(folds, 2)
        assert {(p.run.fold, p.run.seed) for p in trials} == {(0, 0)}
        assert [p.run.outer for p in of(runs, name, "cost")] == [None]  # as under the split
    assert len({p.run_id for p in runs}) == len(runs)


def test_the_rate_is_chosen_in_each_fold(ask: Any) -> None:
    study, caches = ask(), ProcessCache()
    trials = of(expand_study(prepare_study(study, caches), []), "lora", "tune")
    low, high = sorted({p.run.learning_rate for p in trials})
    best = {0: low, 1: high}
    records = [
        end_run(p, 0.9 if p.run.learning_rate == best[p.run.outer.index] else 0.5)
        for p in trials
        if p.run.outer.index in best
    ]
    records += [end_run(p, outcome="diverged") for p in trials if p.run.outer.index == 2]
    finals = of(expand_study(prepare_study(study, caches), records[:-1]), "lora", "final")
    assert [(p.run.outer.index, p.run.seed, p.run.learning_rate) for p in finals] == [
        (0, 1, low),
        (1, 2, high),
    ]
    waiting = plan_runs(prepare_study(study, caches), records[:-1]).later
    assert [(r.outer.index, r.seed) for r in waiting if r.method.name == "lora"] == [(2, 3)]
    # All trials of the third fold have failed: it has no final run.
    assert of(expand_study(prepare_study(study, caches), records), "lora", "final") == finals
    waiting = plan_runs(prepare_study(study, caches), records).later
    assert not [run for run in waiting if run.method.name == "lora"]


def test_more_seeds_divide_the_rows_again_and_reuse_the_first_folds(ask: Any) -> None:
    once = {p.run_id for p in of(expand_study(prepare_study(ask(3)), []), "lora", "tune")}
    twice = of(expand_study(prepare_study(ask(3, 6)), []), "lora", "tune")
    assert once < {p.run_id for p in twice}
    assert {(p.run.outer.repeat, p.run.outer.index) for p in twice} == {
        (repeat, index) for repeat in range(2) for index in range(3)
    }


def test_possible_runs_are_those_of_every_rate_in_every_fold(ask: Any) -> None:
    study, caches = ask(), ProcessCache()
    possible = find_possible_run_ids(prepare_study(study, caches))
    trials = of(expand_study(prepare_study(study, caches), []), "lora", "tune")
    records = [end_run(p) for p in trials]
    assert {p.run_id for p in expand_study(prepare_study(study, caches), records)} < possible
    split = {
        p.run_id
        for p in expand_study(prepare_study(ask("split"), caches), [])
        if p.run.stage != "cost"
    }
    assert not split & possible


def test_auto_says_how_the_rows_are_tested(ask: Any) -> None:
    (note,) = [f for f in prepare_study(ask(), audited=True).findings if f.code == "test-design"]
    assert "all rows are tested by 3-fold cross-validation" in note.what


def test_training_and_selection_rows_lie_outside_the_fold(ask: Any) -> None:
    caches = ProcessCache()
    planned = expand_study(prepare_study(ask(), caches), [])
    tested: Counter[str] = Counter()
    for trial in of(planned, "lora", "tune")[::2]:
        assert not caches.parts(trial.run).test  # trials never see it
        parts = caches.parts(trial.run.model_copy(update={"stage": "final"}))
        uids = [{e.uid for e in part} for part in (parts.train, parts.selection, parts.test)]
        assert not (uids[0] & uids[1] or uids[0] & uids[2] or uids[1] & uids[2])
        assert sum(map(len, uids)) == 52
        assert len(uids[1]) == pytest.approx(len(uids[0] | uids[1]) / 5, abs=2)
        tested.update(uids[2])
    assert len(tested) == 52 and set(tested.values()) == {1}


@pytest.fixture
def study(tmp_path: Path, tiny_model: Any) -> Study:
    """One method on pairs of sentences; nothing is opened but the files."""
    return small(
        tmp_path,
        tiny_model("bert"),
        tasks=[tiny_pairs(tmp_path).model_dump(exclude_none=True)],
        methods=["full"],
        protocol={"seeds": [1, 2], "folds": 1},
        generation={"num_beams": 2},
        training={"precision": "fp32"},
    )


def test_the_baselines_run_once_without_a_rate(study: Study) -> None:
    runs = [planned.run for planned in expand_study(prepare_study(study), [])]
    assert {r.method.name for r in runs} == {"full", "untuned", "copy_source"}
    copied = [r for r in runs if r.method.name == "copy_source"]
    assert [(r.stage, r.model.name, r.learning_rate) for r in copied] == [("final", "-", None)]
    untuned = [(r.stage, r.seed, r.learning_rate) for r in runs if r.method.name == "untuned"]
    assert untuned == [("final", 1, None), ("cost", 1, None)]
    assert sum(r.stage == "tune" for r in runs if r.method.name == "full") == 3
    assert all(r.generation == study.generation for r in runs)


def test_nothing_of_the_baselines_waits_for_a_rate(study: Study) -> None:
    waiting = plan_runs(prepare_study(study), []).later
    assert {(r.method.name, r.stage, r.seed) for r in waiting} == {
        ("full", "final", 1),
        ("full", "final", 2),
    }


def test_the_untuned_model_may_be_named_and_the_probe_may_not(study: Study) -> None:
    named = study.model_copy(update={"methods": (*study.methods, *_named("untuned"))})
    assert len(expand_study(prepare_study(named), [])) == len(
        expand_study(prepare_study(study), [])
    )
    with pytest.raises(MethodError, match="head that is drawn for the task"):
        probe = study.model_copy(update={"methods": _named("head_only")})
        expand_study(prepare_study(probe), [])


def _named(name: str) -> Any:
    one = [{"name": name}]
    return Study.parse({"study": "x", "tasks": ["cb"], "models": ["x"], "methods": one}).methods


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
    waiting = plan_runs(prepare_study(study), []).later
    assert waiting and {run.model.revision for run in waiting} == {OLD}


def test_folders_and_packages_have_no_revision(tmp_path: Path, tiny_model: Any) -> None:
    study = small(tmp_path, tiny_model("bert"))
    assert {p.run.model.revision for p in expand_study(prepare_study(study), [])} == {None}


def test_offline_nothing_is_fetched(cache: Path, tmp_path: Path) -> None:
    study = of_hub(tmp_path).model_copy(update={"models": (ModelSpec(name="someone/other"),)})
    with pytest.raises(ModelError, match="offline nothing is fetched"):
        expand_study(prepare_study(study), [])
