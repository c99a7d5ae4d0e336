"""What a time budget trains first, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.fake_records import end, finals

import paretune
from paretune.execution import executor
from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.worker_settings import STAGES
from paretune.measuring.machine import MachineSpeed
from paretune.owner import current_owner
from paretune.planning.budget import TimeBudget
from paretune.planning.predicted_cost import CostPredictor, PredictedCost
from paretune.planning.prepare import PlannedRun, prepare_study
from paretune.store import Claim, Store
from paretune.store.encoding import encode_predictions
from paretune.store.record import Record
from paretune.study import Run, Study
from paretune.training.caches import ProcessCache

SECONDS = {"full": 40.0, "lora": 10.0, "prompt": 8.0, "head_only": 1.0}


def seconds_of(run: Run) -> float:
    return SECONDS.get(run.method.name, 0.5) if run.stage != "cost" else 2.0


def spend(study: Study, caches: ProcessCache, seconds: float, workers: int = 1) -> list[Record]:
    """What is trained in so many seconds, in order."""
    return spend_on(study, caches, seconds, workers, [])


def spend_on(
    study: Study, caches: ProcessCache, seconds: float, workers: int, records: Sequence[Record]
) -> list[Record]:
    left = [seconds]
    budget = TimeBudget(lambda: left[0], workers, seconds_of)
    prepared, known = prepare_study(study, caches), list(records)
    while True:
        ended = {record.run_id for record in known}
        planned = [p for p in budget.choose(prepared, known) if p.run_id not in ended]
        if not planned:
            return known
        left[0] -= sum(map(seconds_of, (one.run for one in planned))) / workers
        known += [end(one) for one in planned]


def test_every_method_has_a_score_before_costs_and_further_seeds(ask: Any, caches: Any) -> None:
    study = ask("off", trials=1)
    records = spend(study, caches, 100.0)
    assert (
        sum(seconds_of(r.run) for r in records) <= 102
    )  # baselines without a model are not counted
    first = [(r.run.method.name, r.run.stage) for r in records]
    assert [name for name, _ in first[:2]] == ["majority", "tfidf"]
    names = ["head_only", "prompt", "lora", "full"]
    assert first[2:6] == [(name, "final") for name in names]
    assert sorted(first[6:10]) == sorted((name, "cost") for name in names)
    assert {stage for _, stage in first[10:]} == {"final"}


def test_a_method_that_would_not_end_in_time_is_not_begun(ask: Any, caches: Any) -> None:
    records = spend(ask(trials=1), caches, 35.0)
    assert sum(seconds_of(r.run) for r in records) <= 37
    assert "full" not in {r.run.method.name for r in records}
    assert finals(records)["lora"] >= 1 and finals(records)["prompt"] >= 1


def test_trials_are_not_begun_without_time_for_the_score_that_they_lead_to(
    ask: Any, caches: Any
) -> None:
    records = spend(ask(trials=3), caches, 45.0)  # three trials of lora and a final take 40
    assert finals(records)["lora"] == 0
    assert not [r for r in records if r.run.method.name == "lora" and r.run.stage == "tune"]


def test_a_second_budget_continues_and_a_large_one_ends_when_the_answer_is_decided(
    ask: Any, caches: Any
) -> None:
    study = ask(trials=1)
    first = spend(study, caches, 60.0)
    then = spend_on(study, caches, 120.0, 1, first)
    assert then[: len(first)] == first and finals(then)["full"] >= 1
    whole = spend_on(study, caches, 10_000.0, 1, then)
    assert finals(whole)["prompt"] < 5  # hopeless: no further seed is worth its time


def test_without_a_race_a_large_budget_trains_everything(ask: Any, caches: Any) -> None:
    by_method = finals(spend(ask("off", trials=1), caches, 10_000.0, workers=2))
    assert by_method["full"] == by_method["lora"] == by_method["prompt"] == 5


@pytest.mark.parametrize("outer", [5])
def test_folds_are_trained_one_after_another(ask: Any, caches: Any, outer: int) -> None:
    records = spend(ask(outer=outer, trials=1), caches, 130.0)
    lora = [r.run for r in records if r.run.method.name == "lora" and r.run.stage != "cost"]
    positions = [run.outer.position for run in lora if run.outer]
    assert positions == sorted(positions) and lora


def test_a_final_run_does_not_wait_for_the_trials_of_another_method(ask: Any, caches: Any) -> None:
    study = ask("off", trials=3)
    budget = TimeBudget(lambda: 1000.0, 2, seconds_of)
    prepared, known = prepare_study(study, caches), list[Record]()
    while not finals(known)["head_only"]:
        left = [p for p in budget.choose(prepared, known) if p.run_id not in
                {record.run_id for record in known}]  # fmt: skip
        names = [p.run.method.name for p in left]
        assert names.count("prompt") <= 1  # beside a run of head_only that has not ended
        known += [end(left[0])]


def test_folds_of_a_method_are_completed_before_the_next_method_begins(
    ask: Any, caches: Any
) -> None:
    """A score on some test examples is not compared with one on all of them."""
    records = spend(ask("off", outer=5, trials=1), caches, 75.0)
    assert [finals(records)[name] for name in ("head_only", "prompt", "lora")] == [5, 5, 0]


@dataclass
class Machine:
    """An executor with a clock of its own, on which a run takes ``slowness`` times as predicted."""

    slowness: float
    now: float = 0.0
    cost_seconds: float | None = None

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def execute(self, store: Store, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        in_hand: list[tuple[float, Claim]] = []

        def collect() -> None:
            for ends_at, claim in in_hand:
                if self.now >= ends_at:
                    in_hand.clear()
                    record = end(PlannedRun(claim.run_id, claim.run))
                    result = {k: v for k, v in record.result.items() if k != "predictions"}
                    answers = {
                        part: replace(answers, scores=((),) * len(answers.uid))
                        for part, answers in record.predictions.items()
                    }
                    blobs = {"predictions": encode_predictions(answers)} if answers else {}
                    store.finish(claim, result, dict(record.measured), blobs)

        def start(waiting: Any) -> None:
            if not in_hand and (claim := store.claim(current_owner(), study_hash)):
                in_hand.append((self.now + self.slowness * seconds_of(claim.run), claim))

        loop = executor.StudyLoop(store, study_hash, callbacks, STAGES, workers=1)
        summary = loop.run(collect, start)
        for _, claim in in_hand:
            store.release(claim)
        return summary


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    slow = Machine(slowness=3.0)
    clock = SimpleNamespace(monotonic=lambda: slow.now, sleep=slow.sleep)
    monkeypatch.setattr(executor, "time", clock)
    monkeypatch.setattr("paretune.verbs.run.time", clock)

    def make_executor(_: Any, settings: Any, cost_seconds: float, **options: Any) -> Machine:
        slow.cost_seconds = cost_seconds
        return slow

    monkeypatch.setattr("paretune.verbs.run.make_executor", make_executor)
    monkeypatch.setattr(MachineSpeed, "measure", lambda: None)
    monkeypatch.setattr(
        CostPredictor, "predict", lambda _, run: PredictedCost(seconds_of(run), 1, "", "")
    )
    return slow


def test_a_machine_three_times_as_slow_as_predicted_ends_in_time(
    ask: Any, machine: Machine, tmp_path: Path
) -> None:
    study = ask("off", trials=1)
    ran = paretune.run(study, store=tmp_path, budget=100.0, workers=1)
    assert machine.now <= 101.0
    with Store.open(tmp_path) as store:
        assert {*finals(store.load_records(study.study_hash))} >= {"head_only", "prompt", "lora"}
    assert ran.left == 18 and ran.seconds_left is not None
    continued = paretune.run(study, store=tmp_path, budget=10_000.0, workers=1)
    assert continued.left == 0 and machine.now - 100 == pytest.approx(ran.seconds_left, rel=0.3)


def test_baselines_alone_tell_no_time(ask: Any, machine: Machine, tmp_path: Path) -> None:
    ran = paretune.run(ask("off", trials=1), store=tmp_path, budget=4.0, workers=1)
    assert ran.summary.ended and ran.left and ran.seconds_left is None


def test_the_time_of_preparing_is_in_the_budget(
    ask: Any, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare_slowly(*args: Any, **options: Any) -> Any:
        machine.sleep(90.0)
        return prepare_study(*args, **options)

    monkeypatch.setattr("paretune.planning.prepare.prepare_study", prepare_slowly)
    ran = paretune.run(ask("off", trials=1), store=tmp_path, budget=100.0, workers=1)
    assert machine.now <= 101.0 and ran.summary.ended >= 2


def test_costs_are_timed_for_a_tenth_of_a_budget_at_most(
    ask: Any, machine: Machine, tmp_path: Path
) -> None:
    study = ask("off", trials=1)
    paretune.run(study, store=tmp_path, budget=60.0, workers=1)
    assert machine.cost_seconds == pytest.approx(60 / 10 / 1.5 / 4)
    paretune.run(study, store=tmp_path, budget=10_000.0, workers=1)
    assert machine.cost_seconds == study.protocol.cost_seconds
