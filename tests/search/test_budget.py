"""What a time budget trains first, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.search_studies import end, finals

from paretune.planning.context import StudyContext
from paretune.search.budget import TimeBudget
from paretune.store.record import Record
from paretune.study import Run, Study

SECONDS = {"full": 40.0, "lora": 10.0, "prompt": 8.0, "head_only": 1.0}


def seconds_of(run: Run) -> float:
    return SECONDS.get(run.method.name, 0.5) if run.stage != "cost" else 2.0


def spend(study: Study, context: StudyContext, seconds: float, workers: int = 1) -> list[Record]:
    """What is trained in so many seconds, in order."""
    return spend_on(study, context, seconds, workers, [])


def spend_on(
    study: Study, context: StudyContext, seconds: float, workers: int, records: Sequence[Record]
) -> list[Record]:
    left = [seconds]
    budget = TimeBudget(lambda: left[0], workers, seconds_of)
    known = list(records)
    while True:
        ended = {record.run_id for record in known}
        planned = [p for p in budget.choose(study, context, known) if p.run_id not in ended]
        if not planned:
            return known
        left[0] -= sum(map(seconds_of, (one.run for one in planned))) / workers
        known += [end(one) for one in planned]


def test_cheap_methods_are_known_first_and_the_budget_is_kept(ask: Any, context: Any) -> None:
    study = ask(trials=1)
    records = spend(study, context, 60.0)
    assert (
        sum(seconds_of(r.run) for r in records) <= 62
    )  # baselines without a model are not counted
    by_method = finals(records)
    assert by_method["lora"] >= 1 and by_method["prompt"] >= 1 and by_method["full"] == 0
    first = [r.run.method.name for r in records if r.run.stage == "final"]
    assert first[:2] == ["majority", "tfidf"]
    assert [name for name in dict.fromkeys(first) if name in SECONDS] == [
        "head_only", "prompt", "lora"
    ]  # fmt: skip


def test_a_second_budget_continues_and_a_large_one_ends_when_the_answer_is_decided(
    ask: Any, context: Any
) -> None:
    study = ask(trials=1)
    first = spend(study, context, 60.0)
    then = spend_on(study, context, 120.0, 1, first)
    assert then[: len(first)] == first and finals(then)["full"] >= 1
    whole = spend_on(study, context, 10_000.0, 1, then)
    assert finals(whole)["prompt"] < 5  # hopeless: no further seed is worth its time


def test_without_a_race_a_large_budget_trains_everything(ask: Any, context: Any) -> None:
    by_method = finals(spend(ask("off", trials=1), context, 10_000.0, workers=2))
    assert by_method["full"] == by_method["lora"] == by_method["prompt"] == 5


@pytest.mark.parametrize("outer", [5])
def test_folds_are_trained_one_after_another(ask: Any, context: Any, outer: int) -> None:
    records = spend(ask(outer=outer, trials=1), context, 70.0)
    lora = [r.run for r in records if r.run.method.name == "lora" and r.run.stage != "cost"]
    positions = [run.outer.position for run in lora if run.outer]
    assert positions == sorted(positions) and lora


def test_a_search_has_its_part_of_a_budget(ask: Any, context: Any) -> None:
    search = {"name": "auto", "members": ["ia3"], "groups": 1, "budget": 0.5, "controls": False}
    study = ask(methods=["lora", search], trials=1)
    by_method = finals(spend(study, context, 200.0))
    assert by_method["auto"] >= 1 and by_method["lora"] >= 1
