"""From a study and what it has left so far to the runs that should exist."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import end_run, planning_study

from paretune.errors import MethodError, StudyError
from paretune.execution.local import LocalExecutor
from paretune.execution.worker_settings import WorkerSettings
from paretune.methods import lora
from paretune.planning.expand import (
    choose_learning_rates,
    count_folds,
    expand_study,
    find_possible_run_ids,
)
from paretune.planning.prepare import PlannedRun, prepare_study
from paretune.preparation import ProcessCache
from paretune.study import MethodSpec, Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.verbs.workers import choose_executor

METHODS = ("full", "lora", "prompt")


@pytest.fixture
def ask(tmp_path: Path, tiny_model: Any) -> Any:
    """``ask(**changes)`` is a study of three methods on a tiny task and model."""

    def make(folder: Path | None = None, **changes: Any) -> Study:
        return planning_study(folder or tmp_path, tiny_model("bert"), **changes)

    return make


def stages(runs: list[PlannedRun], method: str | None = None) -> Counter[str]:
    return Counter(p.run.stage for p in runs if method in (None, p.run.method.name))


def trials(runs: list[PlannedRun], method: str) -> list[PlannedRun]:
    return [p for p in runs if p.run.method.name == method and p.run.stage == "tune"]


def test_at_first_there_are_trials_baselines_and_costs(ask: Any) -> None:
    study = ask()
    runs = expand_study(prepare_study(study), [])
    assert [p.run.method.name for p in runs[:2]] == ["majority", "tfidf"]  # they take a moment
    order = [p.run.stage for p in runs[2:]]
    assert order == ["tune"] * 24 + ["cost"] * 4
    for method in (*METHODS, "head_only"):  # the probe was not asked for, and stands beside
        own = trials(runs, method)
        assert len(own) == 3 * 2  # rates x folds: the same budget for every method
        assert len({p.run.learning_rate for p in own}) == 3
        assert {p.run.fold for p in own} == {0, 1} and {p.run.seed for p in own} == {0}
        assert stages(runs, method) == {"tune": 6, "cost": 1}
    assert len({p.run_id for p in runs}) == len(runs)
    assert {p.run.training.precision for p in runs} == {"fp32"}


def test_final_runs_appear_when_all_trials_of_their_cell_have_ended(ask: Any) -> None:
    study, caches = ask(), ProcessCache()
    first = expand_study(prepare_study(study, caches), [])
    own = trials(first, "lora")
    rates = sorted({p.run.learning_rate for p in own})
    records = [end_run(p, 0.9 if p.run.learning_rate == rates[1] else 0.5) for p in own]
    assert expand_study(prepare_study(study, caches), records[:-1]) == first
    then = expand_study(prepare_study(study, caches), records)
    final = [p.run for p in then if p.run.stage == "final" and p.run.method.name == "lora"]
    assert [run.seed for run in final] == [1, 2, 3]
    assert {(run.learning_rate, run.fold) for run in final} == {(rates[1], 0)}
    assert stages(then, "full") == {"tune": 6, "cost": 1}  # the others still wait
    assert [p for p in then if p in first] == first
    order = [p.run.stage for p in then[2:]]
    assert order == ["tune"] * 24 + ["final"] * 3 + ["cost"] * 4


def test_a_cell_whose_trials_all_failed_ends(ask: Any) -> None:
    study, caches = ask(), ProcessCache()
    first = expand_study(prepare_study(study, caches), [])
    records = [end_run(p, outcome="diverged") for p in trials(first, "full")]
    records += [end_run(p, outcome="out_of_memory") for p in trials(first, "lora")]
    assert expand_study(prepare_study(study, caches), records) == first


def test_one_trial_needs_no_tuning(ask: Any) -> None:
    study = ask(protocol={"preset": "trials", "seeds": [1, 2, 3], "outer": "split", "trials": 1})
    runs = expand_study(prepare_study(study), [])
    assert stages(runs, "lora") == {"final": 3, "cost": 1}
    assert {p.run.learning_rate for p in runs if p.run.method.name == "lora"} == {2e-3}


def test_baselines_that_are_asked_for_are_there_once(ask: Any) -> None:
    study = ask(methods=["lora", "majority", "tfidf", "head_only"])
    names = Counter(p.run.method.name for p in expand_study(prepare_study(study), []))
    assert names == {"majority": 1, "tfidf": 1, "lora": 7, "head_only": 7}


@pytest.mark.parametrize(("rows", "expected"), [(499, 5), (500, 1), (9427, 1)])
def test_folds_only_under_500_rows(ask: Any, rows: int, expected: int) -> None:
    assert count_folds(ask(protocol={"folds": 5}), rows) == expected


def test_a_large_task_is_not_folded(tmp_path: Path, ask: Any) -> None:
    task = tiny_task(tmp_path / "large", train=500)
    study = ask(tasks=[task.model_dump(exclude_none=True)], methods=["lora"])
    runs = expand_study(prepare_study(study), [])
    assert len(trials(runs, "lora")) == 3 and {p.run.fold for p in runs} == {0}


def test_given_rates_are_taken_and_must_be_as_many_as_the_trials(ask: Any) -> None:
    method = {"name": "lora", "learning_rates": [1e-4, 1e-3, 5e-3]}
    runs = expand_study(prepare_study(ask(methods=[method])), [])
    assert {p.run.learning_rate for p in trials(runs, "lora")} == {1e-4, 1e-3, 5e-3}
    short = ask(methods=[{"name": "lora", "learning_rates": [1e-3]}])
    with pytest.raises(MethodError, match=r"1 learning rates, but every method gets 3 trials"):
        expand_study(prepare_study(short), [])


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_rates_span_the_methods_own_range(number: int) -> None:
    low, middle, high = lora.METHOD.learning_rates
    rates = choose_learning_rates(MethodSpec(name="lora"), (low, middle, high), number)
    assert len(rates) == number and list(rates) == sorted(set(rates))
    assert rates == ((middle,) if number == 1 else (low, *rates[1:-1], high))


def test_identity_does_not_depend_on_places_and_labels(
    tmp_path: Path, ask: Any, tiny_model: Any
) -> None:
    """Data and model in other folders, other labels, another study's name: the same runs."""
    copied = tiny_model("bert", tmp_path / "elsewhere" / "model")
    one = expand_study(prepare_study(ask()), [])
    other = ask(
        folder=tmp_path / "elsewhere" / "data",
        study="renamed",
        models=[{"name": str(copied), "label": "other"}],
        methods=["full", {"name": "lora", "label": "my LoRA"}, "prompt"],
    )
    assert [p.run_id for p in expand_study(prepare_study(other), [])] == [p.run_id for p in one]


def test_whatever_can_change_a_result_changes_the_identity(ask: Any) -> None:
    protocol = {"seeds": [1, 2, 3], "outer": "split", "folds": 2}
    changes: list[dict[str, Any]] = [
        *({"protocol": {**protocol, name: 9}} for name in ("tuning_seed", "split_seed")),
        *(
            {"methods": [{"name": "lora", **options}]}
            for options in (
                {"rank": 4},
                {"target_modules": ["key"]},
                {"learning_rates": [1e-4, 2e-4, 5e-4]},
            )
        ),
        *(
            {"training": {"precision": "fp32", **settings}}
            for settings in (
                {"batch_size": 4},
                {"epochs": 9},
                {"weight_decay": 0.0},
                {"dropout": 0.0},
                {"precision": "bf16"},
                {"max_length": 99},
            )
        ),
    ]
    known: set[str] = set()
    for change in ({}, *changes):
        study = ask(**{"methods": ["lora"], **change})
        ids = {p.run_id for p in trials(expand_study(prepare_study(study), []), "lora")}
        assert ids and not ids & known, change
        known |= ids


def test_other_data_or_another_model_is_another_run(
    ask: Any, tmp_path: Path, tiny_model: Any
) -> None:
    before = {p.run_id for p in expand_study(prepare_study(ask(methods=["lora"])), [])}
    folder = tmp_path / "changed"
    tiny_task(folder)
    test = folder / "test.csv"
    test.write_text(test.read_text().replace("cat", "dog", 1) + "one more row,a\n")
    data = ask(methods=["lora"]).tasks[0].model_copy(
        update={"train": str(folder / "train.csv"), "test": str(test)}
    )  # fmt: skip
    others = ask(methods=["lora"], tasks=[data.model_dump(exclude_none=True)])
    assert not before & {p.run_id for p in expand_study(prepare_study(others), [])}
    model = ask(methods=["lora"], models=[str(tiny_model("electra"))])
    after = expand_study(prepare_study(model), [])
    assert {p.run.method.name for p in after if p.run_id in before} == {"majority", "tfidf"}


@pytest.mark.parametrize(
    ("flags", "precision", "warned"),
    [([], "bf16", True), (["amx_bf16"], "bf16", False), ([], "fp32", False)],
)
def test_a_processor_that_is_slow_in_bf16_is_said_so(
    ask: Any, caches: Any, monkeypatch: Any, flags: list[str], precision: str, warned: bool
) -> None:
    monkeypatch.setattr("paretune.measuring.devices.read_bf16_flags", lambda: flags)
    prepared = prepare_study(ask(training={"precision": precision}, methods=["lora"]), caches)
    text = prepared.describe_precisions("cpu")
    assert text.startswith(precision) and ("slow in bf16" in text) == warned


def test_automatic_precision_is_that_of_the_device(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "paretune.planning.prepare.resolve_auto_precision", lambda device, width: "bf16"
    )
    study = ask(training={}, methods=["lora"])
    assert {
        p.run.training.precision
        for p in expand_study(prepare_study(study).in_store(None, "cpu"), [])
    } == {"bf16"}
    study = ask(training={"precision": "fp32"}, methods=["lora"])
    assert {
        p.run.training.precision
        for p in expand_study(prepare_study(study).in_store(None, "cpu"), [])
    } == {"fp32"}


def test_two_cells_that_differ_in_name_only_are_refused(ask: Any) -> None:
    twice = [{"name": "lora", "label": "one"}, {"name": "lora", "label": "other"}]
    with pytest.raises(StudyError, match=r"x one and .* x other are the same run\. .*remove one"):
        expand_study(prepare_study(ask(methods=twice)), [])
    apart = [{"name": "lora", "label": "one"}, {"name": "lora", "label": "other", "rank": 4}]
    assert expand_study(prepare_study(ask(methods=apart)), [])


def test_costs_may_be_left_out_and_it_makes_no_other_study(ask: Any) -> None:
    protocol = {"seeds": [1, 2, 3], "outer": "split", "folds": 2, "trials": 1}
    study, without = ask(protocol=protocol), ask(protocol={**protocol, "cost_seconds": 0})
    assert study.study_hash == without.study_hash
    caches = ProcessCache()
    runs, fewer = (expand_study(prepare_study(one, caches), []) for one in (study, without))
    assert stages(runs)["cost"] == 4 and stages(fewer)["cost"] == 0
    assert [p.run_id for p in fewer] == [p.run_id for p in runs if p.run.stage != "cost"]
    costs = {p.run_id for p in runs if p.run.stage == "cost"}
    assert costs <= find_possible_run_ids(
        prepare_study(without, caches)
    )  # measured ones are not stale


def test_costs_that_are_left_out_are_not_measured_either(ask: Any) -> None:
    """An earlier call may have asked for them."""
    without = ask(protocol={"cost_seconds": 0})
    executor = choose_executor(prepare_study(without), [WorkerSettings()], 0.0)
    assert isinstance(executor, LocalExecutor)
    assert executor.devices[0].stages == ("tune", "final")
