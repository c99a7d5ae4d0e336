"""`method: auto` in a study: trials of configurations, then final runs of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import end_run, planning_study

from paretune import methods
from paretune.analysis.cells import group_into_cells
from paretune.errors import MethodError
from paretune.execution.progress import Observer
from paretune.planning.prepare import PlannedRun, prepare_study
from paretune.search.expand import expand_study, find_possible_run_ids, plan_pending_runs
from paretune.search.race import plan_runs
from paretune.store import Store
from paretune.store.record import Record
from paretune.study import Run, Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.verbs.run import plan_first_runs

AUTO = {
    "name": "auto", "members": ["lora", "ia3"], "groups": 2, "budget": 2.0, "controls": False
}  # fmt: skip


@pytest.fixture
def ask(tmp_path: Path, tiny_model: Any) -> Any:
    """``ask(*methods)`` is a study of them on a tiny task and model."""

    def make(*of: Any, limits: Any = None, **changes: Any) -> Study:
        tasks = {"tasks": changes.pop("tasks")} if "tasks" in changes else {}
        protocol = {"seeds": [1, 2], "outer": "split", "folds": 1, "trials": 3, **changes}
        options = {"methods": list(of), "protocol": protocol, "limits": limits or {}, **tasks}
        return planning_study(tmp_path, tiny_model("bert"), **options)

    return make


def score(run: Run) -> float:
    """IA3 alone is nearly as good as LoRA; nothing in the lower layer helps."""
    members = run.method.options.get("methods", [])
    upper = [m for m in members if m.get("layers", "1") == "1"]
    ranks = [m.get("rank", 1) for m in upper]
    return 0.5 + 0.1 * bool(ranks) + 0.005 * sum(ranks) - 0.01 * len(members)


def ended(planned: PlannedRun) -> Record:
    return end_run(planned, score(planned.run))


def finish(study: Study, each: int = 100) -> list[PlannedRun]:
    """All runs of a study, as if each had ended; ``each`` at a time."""
    prepared, records = prepare_study(study), dict[str, Record]()
    while True:
        planned = expand_study(prepared, list(records.values()))
        waiting = [p for p in planned if p.run_id not in records]
        if not waiting:
            ids = {p.run_id for p in planned}
            assert ids <= find_possible_run_ids(prepared, list(records.values()))
            return planned
        records |= {p.run_id: ended(p) for p in waiting[:each]}


def of_auto(planned: list[PlannedRun], stage: str) -> list[Run]:
    return [p.run for p in planned if p.run.stage == stage and p.run.method.name == "auto"]


@pytest.mark.slow
def test_a_search_ends_in_final_runs_of_one_combination(ask: Any) -> None:
    study = ask(AUTO, "lora")
    planned = finish(study)
    trials, finals = of_auto(planned, "tune"), of_auto(planned, "final")
    assert {run.method.key for run in finals} == {"auto"} and [r.seed for r in finals] == [1, 2]
    assert len(of_auto(planned, "cost")) == 1
    assert all(run.seed == study.protocol.tuning_seed and run.fold == 0 for run in trials)
    assert 4 <= len(trials) == len({p.run_id for p in planned if p.run.method.key != "auto"
                                    and p.run.method.name == "auto"})  # fmt: skip
    assert all(run.method.key.startswith("auto.") for run in trials)
    options = finals[0].method.options
    own = {k: v for k, v in AUTO.items() if k != "controls"}  # no part of a run
    assert {**own, "methods": options["methods"]} == {"name": "auto", **options}
    assert options["methods"] in [run.method.options["methods"] for run in trials]
    best = max(trials, key=score)
    assert score(finals[0]) >= score(best) - 0.05
    configured = methods.configure_method(finals[0].method)
    assert not configured.trains_alone and configured.method.merge is not None
    # No other method's runs are other runs than without the search.
    plain = {p.run_id for p in finish(ask("lora"))}
    assert plain <= {p.run_id for p in planned}


@pytest.mark.slow
def test_stopped_and_continued_it_is_the_same_search(ask: Any) -> None:
    study = ask(AUTO)
    whole, in_pieces = (finish(study, each) for each in (100, 1))
    assert [p.run_id for p in whole] == [p.run_id for p in in_pieces]


@pytest.mark.slow
def test_searches_of_a_study_share_their_trials(ask: Any) -> None:
    control = {**AUTO, "label": "random", "sampler": "random"}
    knee = {**AUTO, "label": "knee", "pick": "cheapest"}
    planned = finish(ask(AUTO, knee, control))
    alone = finish(ask(AUTO))
    both = {p.run_id for p in planned}
    assert {p.run_id for p in alone} <= both
    keys = {
        p.run.method.key for p in planned if p.run.stage == "final" and p.run.method.name == "auto"
    }
    assert keys == {"auto", "knee", "random"}


@pytest.mark.slow
def test_the_next_task_begins_with_what_the_last_has_found(ask: Any, tmp_path: Path) -> None:
    tasks = []
    for name in ("one", "two"):
        task = tiny_task(tmp_path / name).model_dump(exclude_none=True)
        tasks.append({**task, "name": name})
    study = ask(AUTO, tasks=tasks)
    first = expand_study(prepare_study(study), [])
    assert {p.run.task.key for p in first if p.run.method.name == "auto"} == {"one"}
    planned = finish(study)
    by_task = {
        name: [r.method.options["methods"] for r in of_auto(planned, "tune") if r.task.key == name]
        for name in ("one", "two")
    }
    final_run = next(r for r in of_auto(planned, "final") if r.task.key == "one")
    assert final_run.method.options["methods"] in by_task["two"]


@pytest.mark.slow
def test_each_outer_fold_has_a_search_of_its_own(ask: Any) -> None:
    study = ask({**AUTO, "budget": 1.0}, outer=2, seeds=[1, 2])
    planned = finish(study)
    folds = [run.outer.index for run in of_auto(planned, "final") if run.outer is not None]
    assert folds == [0, 1] and len(of_auto(planned, "cost")) == 1
    records = [ended(p) for p in planned]
    cell = next(c for c in group_into_cells(study, records) if c.method == "auto")
    assert len(cell.final) == 2 and not cell.tuning


def test_a_report_has_one_cell_of_it(ask: Any) -> None:
    study = ask(AUTO, "lora")
    planned = finish(study)
    cells = {c.method: c for c in group_into_cells(study, [ended(p) for p in planned])}
    assert {"auto", "lora"} <= set(cells) and not any("." in name for name in cells)
    assert len(cells["auto"].final) == 2 and len(cells["auto"].cost) == 1
    assert not cells["auto"].other_settings


def test_what_waits_for_a_search_is_not_planned(ask: Any) -> None:
    ready, waiting = plan_pending_runs(prepare_study(ask(AUTO)), [])
    assert of_auto(ready, "tune") and not [r for r in waiting if r.method.name == "auto"]


def test_a_trial_of_several_searches_is_counted_once(ask: Any, tmp_path: Path) -> None:
    """In what a run says that it has before it, and how long it will take."""
    small = {**AUTO, "budget": 0.7}
    study = ask(small, {**small, "label": "other", "pick": "cheapest"})
    with Store.open(tmp_path / "store", create=True) as opened:
        prepared = prepare_study(study).in_store(opened, "cpu")
        ready, waiting = plan_pending_runs(prepared, [])
        _, coming, count = plan_first_runs(prepared, opened, Observer())
    shared = [p.run_id for p in ready]
    assert len(set(shared)) < len(shared)
    assert count == len(set(shared)) + len(waiting) == len(coming)


def test_a_race_counts_a_trial_of_several_searches_once(ask: Any) -> None:
    small = {**AUTO, "budget": 0.7}
    others = [{**small, "label": f"other-{i}"} for i in (1, 2)]
    study = ask("lora", small, *others, race="recommendation")
    raced = plan_runs(prepare_study(study), [])
    trials = [run for run in raced.undecided if run.method.key.startswith("auto.")]
    assert trials and len({run.cell for run in trials}) == len(trials)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"members": ["lora", "full"]}, "full: it trains everything already"),
        ({"members": ["prompt"]}, "prompt: it does not stand in layers"),
        ({"members": ["dora"]}, "dora: it measures the weights that it finds"),
        ({"members": ["tfidf"]}, "tfidf trains no model"),
        ({"learning_rates": [1e-3, 1e-3, 1e-3]}, "a search chooses its own learning rates"),
        ({"by": "price"}, "is not one of parameters, memory, time"),
    ],
)
def test_what_cannot_be_searched_is_refused(ask: Any, changes: Any, reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        expand_study(prepare_study(ask({**AUTO, **changes})), [])


def test_a_search_enters_with_its_controls(ask: Any) -> None:
    study = ask({**AUTO, "budget": 0.7, "finalists": 2, "controls": True})
    planned = finish(study)
    finals = {p.run.method.key: p.run.method.options for p in planned if p.run.stage == "final"
              and p.run.method.name == "auto"}  # fmt: skip
    assert set(finals) == {"auto", "auto-2", "auto-random", "auto-tuned-lora"}
    assert finals["auto"]["methods"] != finals["auto-2"]["methods"]
    assert [m["name"] for m in finals["auto-tuned-lora"]["methods"]] == ["lora"]
    cells = {c.method: c for c in group_into_cells(study, [ended(p) for p in planned])}
    assert all(len(cells[key].final) == 2 and cells[key].complete for key in finals)


@pytest.mark.slow
def test_what_exceeds_a_limit_is_never_a_trial(ask: Any) -> None:
    limits = {"max_parameters": 400}
    study = ask(AUTO, limits=limits)
    planned = finish(study)
    trials = of_auto(planned, "tune")
    predictor = prepare_study(study).predictor
    assert trials and all(predictor.count_trained(run) <= 400 for run in trials)
    free = of_auto(finish(ask(AUTO)), "tune")
    assert any(predictor.count_trained(run) > 400 for run in free)


def test_a_search_of_which_nothing_is_within_the_limits_ends(ask: Any) -> None:
    planned = finish(ask(AUTO, "lora", limits={"max_parameters": 1}))
    assert "lora" in {p.run.method.name for p in planned}  # the study goes on without it
    assert not any(of_auto(planned, stage) for stage in ("tune", "final", "cost"))


def test_memory_is_predicted_from_one_measurement_of_lora(ask: Any) -> None:
    study = ask(AUTO, "lora", limits={"max_memory": 10_000_000})
    first = expand_study(prepare_study(study), [])
    (reference,) = {
        p.run_id: p for p in first if p.run.stage == "cost" and p.run.method.name == "lora"
    }.values()  # that of the study's own LoRA
    assert not of_auto(first, "tune")

    def continued(peak: int) -> tuple[list[Run], Any]:
        measured: Any = {"phases": {"train": {"peak_bytes": peak}}}
        record = Record(
            reference.run_id, reference.run, "done", None, None, {"outcome": "ok"}, measured
        )
        again = prepare_study(study)
        return of_auto(expand_study(again, [record]), "tune"), again.predictor

    trials, predictor = continued(9_999_000)  # LoRA in all layers is just within the limit
    counted = [predictor.predict_work(r.model_copy(update={"stage": "cost"})) for r in trials]
    unit = predictor.predict_work(reference.run)
    peaks = [work.held_bytes + work.saved_bytes for work in counted]
    assert peaks and max(peaks) <= unit.held_bytes + unit.saved_bytes + 1000
    assert not continued(20_000_000)[0]
