"""`method: auto` in a study: trials of configurations, then final runs of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import tiny_study
from support.fake_records import LEVELS, end, finals
from support.report_texts import texts_by_method
from support.tiny_study import end_run, planning_study

from paretune import methods
from paretune.analysis.cells import group_into_cells
from paretune.errors import MethodError, StudyError
from paretune.execution.progress import Observer
from paretune.methods.core.titles import title_of
from paretune.planning.budget import select_within_time
from paretune.planning.expand import expand_study, find_possible_run_ids, plan_runs
from paretune.planning.prepare import PlannedRun, prepare_study
from paretune.planning.shard import Shard
from paretune.store import Store
from paretune.store.record import Record
from paretune.study import Run, Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.verbs.export import export
from paretune.verbs.report import report
from paretune.verbs.run import plan_first_runs
from paretune.verbs.stores import merge

AUTO = {
    "name": "auto", "members": ["lora", "ia3"], "groups": 2, "budget": 2.0, "controls": False
}  # fmt: skip
SMALL = {**AUTO, "budget": 0.7}
PROTOCOL = {"seeds": [1, 2], "outer": "split", "folds": 1, "trials": 3}
SHORT = {**PROTOCOL, "trials": 2, "cost_seconds": 1}


@pytest.fixture
def ask(tmp_path: Path, tiny_model: Any) -> Any:
    """``ask(*methods)`` is a study of them on a tiny task and model."""

    def make(*of: Any, limits: Any = None, tasks: Any = None, **changes: Any) -> Study:
        protocol = {**PROTOCOL, **changes}
        if protocol.get("preset") == "passes":
            protocol = {k: v for k, v in protocol.items() if k not in ("folds", "trials")}
        options = {"methods": list(of), "protocol": protocol, "limits": limits or {}}
        options |= {} if tasks is None else {"tasks": tasks}
        return planning_study(tmp_path, tiny_model("bert"), **options)

    return make


def score(run: Run) -> float:
    """IA3 alone is nearly as good as LoRA; nothing in the lower layer helps."""
    members = run.method.options.get("methods", [])
    upper = [m for m in members if m.get("layers", "1") == "1"]
    ranks = [m.get("rank", 1) for m in upper]
    return 0.5 + 0.1 * bool(ranks) + 0.005 * sum(ranks) - 0.01 * len(members)


def finish(study: Study, each: int = 100) -> dict[str, Record]:
    """The records of a study in the order of its runs, ``each`` of which end at a time."""
    prepared, records = prepare_study(study), dict[str, Record]()
    while True:
        planned = expand_study(prepared, list(records.values()))
        waiting = [p for p in planned if p.run_id not in records]
        if not waiting:
            ids = [p.run_id for p in planned]
            assert {*ids} <= find_possible_run_ids(prepared, list(records.values()))
            return {run_id: records[run_id] for run_id in ids}
        records |= {p.run_id: end_run(p, score(p.run)) for p in waiting[:each]}


def of_auto(runs: Any, stage: str) -> list[Run]:
    """The searched ones of a stage, of planned runs or of records."""
    return [r.run for r in runs if r.run.stage == stage and r.run.method.name == "auto"]


def cells_of(study: Study, records: dict[str, Record]) -> dict[str, Any]:
    return {cell.method: cell for cell in group_into_cells(study, records.values())}


def test_a_search_ends_in_final_runs_of_one_combination(ask: Any) -> None:
    study = ask(AUTO, "lora")
    records = finish(study)
    trials, final = of_auto(records.values(), "tune"), of_auto(records.values(), "final")
    assert {run.method.key for run in final} == {"auto"} and [r.seed for r in final] == [1, 2]
    assert len(of_auto(records.values(), "cost")) == 1
    assert all(run.seed == study.protocol.tuning_seed and run.fold == 0 for run in trials)
    assert len(trials) >= 4 and all(run.method.key.startswith("auto.") for run in trials)
    options = final[0].method.options
    expected = {k: v for k, v in AUTO.items() if k != "controls"}  # no part of a run
    assert {**expected, "methods": options["methods"]} == {"name": "auto", **options}
    assert options["methods"] in [run.method.options["methods"] for run in trials]
    assert score(final[0]) >= max(map(score, trials)) - 0.05
    configured = methods.configure_method(final[0].method)
    assert configured.method.merge is not None
    cells = cells_of(study, records)
    assert {"auto", "lora"} <= set(cells) and not any("." in name for name in cells)
    assert len(cells["auto"].final) == 2 and len(cells["auto"].cost) == 1
    assert not cells["auto"].other_settings
    # No other method's runs are other runs than without the search.
    assert finish(ask("lora")).keys() <= records.keys()


@pytest.mark.slow
def test_stopped_and_continued_it_is_the_same_search(ask: Any) -> None:
    assert list(finish(ask(AUTO), each=1)) == list(finish(ask(AUTO)))


@pytest.mark.slow
def test_searches_of_a_study_share_their_trials(ask: Any) -> None:
    control = {**AUTO, "label": "random", "sampler": "random"}
    knee = {**AUTO, "label": "knee", "pick": "cheapest"}
    records = finish(ask(AUTO, knee, control))
    assert finish(ask(AUTO)).keys() <= records.keys()
    keys = {run.method.key for run in of_auto(records.values(), "final")}
    assert keys == {"auto", "knee", "random"}


@pytest.mark.slow
def test_the_next_task_begins_with_what_the_last_has_found(ask: Any, tmp_path: Path) -> None:
    tasks = [
        {**tiny_task(tmp_path / name).model_dump(exclude_none=True), "name": name}
        for name in ("one", "two")
    ]
    study = ask(AUTO, tasks=tasks)
    first = expand_study(prepare_study(study), [])
    assert {run.task.key for run in of_auto(first, "tune")} == {"one"}
    records = finish(study).values()
    final, _ = [r for r in of_auto(records, "final") if r.task.key == "one"]
    tried = [r.method.options["methods"] for r in of_auto(records, "tune") if r.task.key == "two"]
    assert final.method.options["methods"] in tried


@pytest.mark.slow
def test_each_outer_fold_has_a_search_of_its_own(ask: Any) -> None:
    study = ask({**AUTO, "budget": 1.0}, outer=2)
    records = finish(study)
    folds = [r.outer.index for r in of_auto(records.values(), "final") if r.outer is not None]
    assert folds == [0, 1] and len(of_auto(records.values(), "cost")) == 1
    cell = cells_of(study, records)["auto"]
    assert len(cell.final) == 2 and not cell.tuning


def test_a_trial_of_several_searches_is_counted_once(ask: Any, tmp_path: Path) -> None:
    """In what a run says that it has before it."""
    searches = [{**SMALL, "label": label, "pick": "cheapest"} for label in ("two", "three")]
    with Store.open(tmp_path / "store", create=True) as opened:
        prepared = prepare_study(ask(SMALL, *searches)).in_store(opened, "cpu")
        ready, waiting = expand_study(prepared, []), plan_runs(prepared, []).later
        planned = plan_first_runs(prepared, opened, Observer())
    shared = [p.run_id for p in ready]
    assert len(set(shared)) < len(shared)
    assert planned.run_count == len(set(shared)) + len(waiting) == len(planned.coming)
    # What waits for a search is not planned.
    assert of_auto(ready, "tune") and not [r for r in waiting if r.method.name == "auto"]


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
    study = ask({**SMALL, "finalists": 2, "controls": True})
    records = finish(study)
    stacks = {r.method.key: r.method.options["methods"] for r in of_auto(records.values(), "final")}
    assert set(stacks) == {"auto", "auto-2", "auto-random", "auto-tuned-lora"}
    assert stacks["auto"] != stacks["auto-2"]
    assert [m["name"] for m in stacks["auto-tuned-lora"]] == ["lora"]
    cells = cells_of(study, records)
    assert all(len(cells[key].final) == 2 and cells[key].complete for key in stacks)


def rows_of(*of: Any) -> dict[str, dict[str, Any]]:
    """What enters a study with these methods, by its key."""
    tasks = [{"name": "rte", "language": "en"}]
    study = Study.parse({"study": "s", "tasks": tasks, "models": ["m"], "methods": list(of)})
    return {method.key: method.options for method in study.all_methods}


def test_what_enters_with_a_search_enters_once() -> None:
    assert rows_of("lora", {"name": "auto", "budget": 2}) == {
        "lora": {},
        "auto": {"budget": 2},
        "auto-random": {"budget": 2, "sampler": "random"},
        "auto-tuned-lora": {"budget": 2, "members": ["lora"], "groups": 1, "pick": "best"},
    }
    assert rows_of({"name": "auto", "finalists": 3, "controls": False, "pick": "knee"}) == {
        "auto": {"finalists": 3, "controls": False, "pick": "knee"},
        "auto-2": {"pick": "knee", "finalist": 2},
        "auto-3": {"pick": "knee", "finalist": 3},
    }
    by_hand = {"name": "auto", "label": "by chance", "sampler": "random"}
    rows = rows_of("auto", by_hand)
    assert list(rows) == ["auto", "auto-tuned-lora", "by chance"]
    assert rows_of(*({"name": "auto", "label": key, **row} for key, row in rows.items())) == rows
    # A control has no controls.
    assert list(rows_of({"name": "auto", "members": ["lora"]})) == ["auto"]
    assert list(rows_of({"name": "auto", "sampler": "random"})) == ["auto"]


def test_what_exceeds_a_limit_is_never_a_trial(ask: Any) -> None:
    study = ask(AUTO, limits={"max_parameters": 400})
    count, trials = prepare_study(study).predictor.count_trained, finish(study).values()
    assert trials and all(count(run) <= 400 for run in of_auto(trials, "tune"))
    assert any(count(run) > 400 for run in of_auto(finish(ask(AUTO)).values(), "tune"))
    records = finish(ask(AUTO, "lora", limits={"max_parameters": 1}))  # nothing is within it
    assert {"lora"} <= {record.run.method.name for record in records.values()}
    assert not any(of_auto(records.values(), stage) for stage in ("tune", "final", "cost"))


def test_memory_is_predicted_from_one_measurement_of_lora(ask: Any) -> None:
    study = ask(AUTO, "lora", limits={"max_memory": 10_000_000})
    first = expand_study(prepare_study(study), [])
    reference, *same = [p for p in first if p.run.stage == "cost" and p.run.method.name == "lora"]
    assert {p.run_id for p in same} <= {reference.run_id}  # that of the study's own LoRA
    assert not of_auto(first, "tune")

    def continued(peak: int) -> tuple[list[Run], Any]:
        record = end_run(reference)
        record.measured["phases"] = {"train": {"peak_bytes": peak}}
        again = prepare_study(study)
        return of_auto(expand_study(again, [record]), "tune"), again.predictor

    trials, predictor = continued(9_999_000)  # LoRA in all layers is just within the limit
    counted = [predictor.predict_work(r.model_copy(update={"stage": "cost"})) for r in trials]
    unit = predictor.predict_work(reference.run)
    peaks = [work.held_bytes + work.saved_bytes for work in counted]
    assert peaks and max(peaks) <= unit.held_bytes + unit.saved_bytes + 1000
    assert not continued(20_000_000)[0]
    with pytest.raises(StudyError, match="leave out shard="):  # a share measures no costs
        for index in (1, 2):
            expand_study(prepare_study(study, shard=Shard(index, 2)), [])


@pytest.mark.parametrize("outer", ["split", pytest.param(5, marks=pytest.mark.slow)])
def test_what_a_search_finds_is_trained_in_passes_like_any_method(ask: Any, outer: Any) -> None:
    protocol = {"preset": "passes", "seeds": [1, 2, 3, 4, 5], "outer": outer}
    study = ask("full", "lora", SMALL, **protocol)
    prepared, records, rounds = prepare_study(study), list[Record](), list[list[PlannedRun]]()
    while not rounds or rounds[-1]:
        ended = {record.run_id for record in records}
        planned = expand_study(prepared, records)
        rounds.append([p for p in planned if p.run_id not in ended])
        records += [end(p, LEVELS | {"auto": 0.8}) for p in rounds[-1]]
    by_method = finals(records)
    assert by_method["auto"] == by_method["full"] == by_method["lora"] == 5
    assert of_auto(records, "tune") and not plan_runs(prepared, records).list_coming(records)


def test_a_search_has_its_part_of_a_time_budget(ask: Any) -> None:
    search = {**AUTO, "members": ["ia3"], "groups": 1, "budget": 0.5}
    study = ask("lora", search, preset="passes", seeds=[1, 2, 3, 4, 5])
    prepared, records, left = prepare_study(study), list[Record](), [200.0]

    def seconds_of(run: Run) -> float:
        return 2.0 if run.stage == "cost" else 10.0

    while True:
        ended = {record.run_id for record in records}
        planned = expand_study(prepared, records)
        selected = select_within_time(planned, records, left[0], 1, seconds_of)
        chosen = [p for p in selected if p.run_id not in ended]
        if not chosen:
            break
        left[0] -= sum(seconds_of(p.run) for p in chosen)
        records += [end(p) for p in chosen]
    by_method = finals(records)
    assert by_method["auto"] >= 1 and by_method["lora"] >= 1


@pytest.mark.slow
def test_a_searched_combination_is_a_row_like_any_other(tmp_path: Path, tiny_model: Any) -> None:
    """And a search that was done in a share of the study has found the same."""
    study = tiny_study.small(
        tmp_path / "data",
        Path(tiny_model("bert")),
        methods=[{**AUTO, "budget": 1.0}, {"name": "lora", "rank": 2}],
        protocol=SHORT,
    )
    folder = tmp_path / "store"
    with tiny_study.finish(study, folder, costs=0) as store:
        records = store.load_records(study.study_hash)
        digests = tiny_study.digests(store, study.study_hash)
    trials = [r for r in records if r.run.method.key.startswith("auto.")]
    measured: list[Any] = [r.measured for r in trials]
    assert trials and all(len(values["layer_gradients"]) == 2 for values in measured)
    assert all("test" not in r.result["scores"] for r in trials)
    page = tmp_path / "page.html"
    (task,) = report(study, store=folder, page=page).tasks
    assert "What the search found" in page.read_text(encoding="utf-8")
    row = next(r for r in task.methods if r.method == "auto")
    assert row.score is not None
    texts = texts_by_method(task.find_table("search"))[title_of("auto")]
    assert texts[0] and texts[3] == str(len(trials))
    exported = export(
        study, store=folder, output=tmp_path / "out", method="auto", allow_collapsed=True
    )
    assert exported.largest_difference < 1e-4
    shares = [tmp_path / f"share{index}" for index in (1, 2)]
    for index, share in enumerate(shares, 1):
        tiny_study.finish(study, share, shard=Shard(index, 2)).close()
    merge(shares, tmp_path / "merged")
    with Store.open(tmp_path / "merged") as merged:
        assert tiny_study.digests(merged, study.study_hash) == digests
