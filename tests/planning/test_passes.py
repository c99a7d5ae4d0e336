"""Which runs a study in passes asks for, in which order, and within a time budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from support.fake_records import LEVELS, end, finals

from paretune.planning.budget import fit_within_time, select_within_time
from paretune.planning.expand import (
    expand_study,
    find_possible_run_ids,
    hold_back_folds,
    plan_runs,
    put_long_runs_first,
)
from paretune.planning.prepare import PlannedRun, PreparedStudy, prepare_study
from paretune.planning.shard import Shard
from paretune.store.record import Record
from paretune.study import Run

CLOSE = LEVELS | {"full": 0.87, "lora": 0.85}
SECONDS = {"full": 40.0, "lora": 10.0, "prompt": 8.0, "head_only": 1.0}


def run_all(
    prepared: PreparedStudy, leave: Callable[[PlannedRun], Record] = end, each: int = 1000
) -> list[Record]:
    """All records, ``each`` runs at a time."""
    records: list[Record] = []
    while True:
        ended = {record.run_id for record in records}
        new = [p for p in expand_study(prepared, records) if p.run_id not in ended]
        if not new:
            return records
        records += [leave(p) for p in new[:each]]


def describe(records: Sequence[Record]) -> Counter[tuple[str, str, float | None]]:
    return Counter((r.run.method.name, r.run.stage, r.run.learning_rate) for r in records)


@pytest.fixture(params=["split", 5])
def prepared(request: Any, ask: Any, caches: Any) -> PreparedStudy:
    return prepare_study(ask(preset="passes", outer=request.param), caches)


def test_first_looks_come_first_then_fold_by_fold(prepared: PreparedStudy) -> None:
    planned = expand_study(prepared, [])
    assert {p.run.stage for p in planned} == {"final"}
    free = [p for p in planned if p.run.model.key == "-"]
    assert planned[: len(free)] == free
    names = [p.run.method.name for p in planned[len(free) :]]
    assert names == ["full", "lora", "prompt", "head_only"] * 5
    rates = {p.run.method.name: p.run.learning_rate for p in planned[len(free) :]}
    assert rates["lora"] == 2e-3


def test_further_folds_begin_when_most_first_looks_have_ended(prepared: PreparedStudy) -> None:
    planned, seeds = expand_study(prepared, []), prepared.study.protocol.seeds

    def count_methods(ended: int) -> int:
        trained = [p for p in planned if p.run.method.name in SECONDS][:ended]
        left = hold_back_folds(planned, [end(p) for p in trained], seeds)
        return sum(p.run.method.name in SECONDS for p in left)

    assert [count_methods(ended) for ended in (0, 1, 2)] == [4, 4, 20]


def test_long_runs_come_first_in_each_fold(ask: Any, caches: Any) -> None:
    prepared = prepare_study(ask(preset="passes", outer=5), caches)
    planned, seeds = expand_study(prepared, []), prepared.study.protocol.seeds
    seconds = {p.run_id: 50 - SECONDS.get(p.run.method.name, 0.0) for p in planned}
    ordered = put_long_runs_first(planned, seconds, seeds)
    assert Counter(ordered) == Counter(planned)
    trained = [p.run for p in ordered if p.run.method.name in SECONDS]
    assert [run.method.name for run in trained] == ["head_only", "prompt", "lora", "full"] * 5
    assert [run.seed for run in trained] == sorted(run.seed for run in trained)
    assert ordered[0].run.method.name not in SECONDS  # baselines take a second and come first


def test_costs_follow_of_what_may_still_be_chosen(prepared: PreparedStudy) -> None:
    records = run_all(prepared)
    runs = describe(records)
    assert runs["full", "cost", 1e-4] == 1
    assert not any(name == "prompt" for name, stage, _ in runs if stage == "cost")
    assert finals(records)["full"] == 5


def test_what_is_open_gets_further_passes_of_all_seeds_at_most(ask: Any, caches: Any) -> None:
    prepared = prepare_study(ask(preset="passes", outer=5), caches)
    records = run_all(prepared, partial(end, levels=CLOSE))
    counts = finals(records)
    assert counts["full"] == counts["lora"] in (10, 15) and counts["prompt"] == 5
    assert counts["tfidf"] == counts["full"]
    assert not plan_runs(prepared, records).list_coming(records)


def test_the_same_runs_come_whenever_it_is_asked(ask: Any, caches: Any) -> None:
    prepared = prepare_study(ask(preset="passes", outer=5), caches)
    leave = partial(end, levels=CLOSE, best_step=80)
    at_once, one_by_one = (run_all(prepared, leave, each) for each in (1000, 1))
    assert {r.run_id for r in at_once} == {r.run_id for r in one_by_one}
    assert {r.run_id for r in at_once} <= find_possible_run_ids(prepared)


def test_evidence_asks_for_the_next_rate_in_all_folds(ask: Any, caches: Any) -> None:
    prepared = prepare_study(ask(preset="passes", outer=5), caches)
    runs = describe(run_all(prepared, partial(end, best_step=80)))
    assert runs["lora", "final", 6e-3] == runs["lora", "final", 2e-3] == 5
    assert not runs["lora", "final", 6e-4] and not any(stage == "tune" for _, stage, _ in runs)


def test_a_method_that_moves_goes_on_at_its_new_rate(ask: Any, caches: Any) -> None:
    """In all passes, and nothing more at the rate that it began with."""

    def leave(planned: PlannedRun) -> Record:
        improved = planned.run.begun_at is not None
        levels = CLOSE if improved or planned.run.method.name != "lora" else CLOSE | {"lora": 0.4}
        return end(planned, levels, best_step=40 if planned.run.method.name != "lora" else 80)

    prepared = prepare_study(ask(preset="passes", outer=5), caches)
    runs = describe(run_all(prepared, leave))
    assert runs["lora", "final", 2e-3] == 5 and runs["lora", "final", 6e-3] in (10, 15)


def test_trials_are_tried_by_every_method(ask: Any, caches: Any) -> None:
    prepared = prepare_study(ask(preset="passes", outer=5, trials=3), caches)
    runs = describe(run_all(prepared))
    for rate in (6e-4, 2e-3, 6e-3):
        assert runs["lora", "final", rate] == 5


def test_complete_trains_all_seeds_of_all_methods(ask: Any, caches: Any) -> None:
    study = ask(preset="passes", outer=5, until="complete", seeds=list(range(1, 11)))
    records = run_all(prepare_study(study, caches))
    counts = finals(records)
    assert {counts[name] for name in ("full", "lora", "prompt", "head_only", "tfidf")} == {10}
    assert sum(r.run.stage == "cost" for r in records) == 4


def test_shares_train_the_first_pass_and_the_whole_study_goes_on(ask: Any, caches: Any) -> None:
    study = ask(preset="passes", outer=5)
    whole = prepare_study(study, caches)
    shares = [prepare_study(study, caches, shard=Shard(index, 2)) for index in (1, 2)]
    parts = [run_all(share, partial(end, levels=CLOSE)) for share in shares]
    merged = {r.run_id: r for part in parts for r in part}
    assert all(r.run.stage == "final" for r in merged.values())
    assert finals([*merged.values()]) == dict.fromkeys(
        ("full", "lora", "prompt", "head_only", "majority", "tfidf"), 5
    )
    alone = {r.run_id for r in run_all(whole, partial(end, levels=CLOSE))}
    assert merged.keys() < alone


# Within a time budget


def seconds_of(run: Run) -> float:
    return SECONDS.get(run.method.name, 0.5) if run.stage != "cost" else 2.0


def spend(prepared: PreparedStudy, seconds: float, workers: int = 1) -> list[Record]:
    """What is trained in so many seconds, in order."""
    left, records = [seconds], list[Record]()
    while True:
        ended = {record.run_id for record in records}
        planned = expand_study(prepared, records)
        selected = select_within_time(planned, records, left[0], workers, seconds_of)
        chosen = [p for p in selected if p.run_id not in ended]
        if not chosen:
            return records
        assert len(chosen) <= 2 * workers
        left[0] -= sum(seconds_of(p.run) for p in chosen) / workers
        records += [end(p) for p in chosen]


def test_a_budget_holds_first_looks_before_further_folds(ask: Any, caches: Any) -> None:
    prepared = prepare_study(ask(preset="passes", outer=5), caches)
    records = spend(prepared, 130.0)
    assert 115 < sum(seconds_of(r.run) for r in records) <= 130
    counts = finals(records)
    assert min(counts[name] for name in ("full", "lora", "prompt")) >= 1
    positions = [r.run.outer.position for r in records if r.run.method.name in SECONDS]
    assert positions[:4] == [0, 0, 0, 0]


def test_what_would_not_end_in_time_is_not_begun_but_shorter_runs_are(
    ask: Any, caches: Any
) -> None:
    records = spend(prepare_study(ask(preset="passes", outer=5), caches), 35.0)
    counts = finals(records)
    assert not counts["full"] and counts["lora"] >= 1 and counts["prompt"] >= 1
    assert sum(seconds_of(r.run) for r in records) <= 35


def test_workers_share_the_time_and_nothing_trains_beside_a_cost() -> None:
    def run_of(stage: str, method: str) -> Any:
        return Run.model_construct(stage=stage, method=method)

    seconds = {"long": 10.0, "short": 4.0, "cost": 3.0}

    def fit(runs: list[Any]) -> list[bool]:
        return fit_within_time(runs, 12.0, 2, lambda run: seconds[str(run.method)])

    runs = [run_of("final", "long"), run_of("final", "short"), run_of("final", "short")]
    assert fit([*runs, run_of("final", "short")]) == [True, True, True, True]
    assert fit([*runs, run_of("cost", "cost")]) == [True, True, True, False]
    assert fit([runs[1], run_of("cost", "cost"), runs[2]]) == [True, True, True]
