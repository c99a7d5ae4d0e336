"""Runs of outer cross-validation: one for each seed and fold, each with rates of its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from paretune.planning.prepare import prepare_study
from paretune.search.expand import (
    PlannedRun,
    expand_study,
    find_possible_run_ids,
    plan_pending_runs,
)
from paretune.store.record import Record
from paretune.study import OuterFold, Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.fleet import fleet_key


@pytest.fixture
def ask(tmp_path: Path, tiny_model: Any) -> Any:
    """``ask(outer, seeds)`` is a study of LoRA on 52 rows, with two rates."""
    # In one file: a test file is the test.
    task = tiny_task(tmp_path / "data", train=52).model_dump(exclude_none=True, exclude={"test"})

    def make(outer: Any = "auto", seeds: int = 3) -> Study:
        raw: dict[str, Any] = {
            "study": "tiny",
            "tasks": [task],
            "models": [{"name": str(tiny_model("bert")), "label": "tiny"}],
            "methods": ["lora"],
            "protocol": {"seeds": list(range(1, seeds + 1)), "trials": 2, "outer": outer},
            "training": {"precision": "fp32"},
        }
        return Study.parse(raw)

    return make


def ended(planned: PlannedRun, primary: float = 0.5, outcome: str = "ok") -> Record:
    scores = {"selection": {"primary": primary, "loss": 1.0}} if outcome == "ok" else {}
    result: Any = {"outcome": outcome, "scores": scores}
    return Record(planned.run_id, planned.run, "done", None, None, result=result)


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
    assert len({fleet_key(p.run) for p in of(runs, "lora", "tune")}) == 1


def test_the_rate_is_chosen_in_each_fold(ask: Any) -> None:
    study, caches = ask(), ProcessCache()
    trials = of(expand_study(prepare_study(study, caches), []), "lora", "tune")
    low, high = sorted({p.run.learning_rate for p in trials})
    best = {0: low, 1: high}
    records = [
        ended(p, 0.9 if p.run.learning_rate == best[p.run.outer.index] else 0.5)
        for p in trials
        if p.run.outer.index in best
    ]
    records += [ended(p, outcome="diverged") for p in trials if p.run.outer.index == 2]
    finals = of(expand_study(prepare_study(study, caches), records[:-1]), "lora", "final")
    assert [(p.run.outer.index, p.run.seed, p.run.learning_rate) for p in finals] == [
        (0, 1, low),
        (1, 2, high),
    ]
    _, waiting = plan_pending_runs(prepare_study(study, caches), records[:-1])
    assert [(r.outer.index, r.seed) for r in waiting if r.method.name == "lora"] == [(2, 3)]
    # All trials of the third fold have failed: it has no final run.
    assert of(expand_study(prepare_study(study, caches), records), "lora", "final") == finals
    _, waiting = plan_pending_runs(prepare_study(study, caches), records)
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
    records = [ended(p) for p in trials]
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
