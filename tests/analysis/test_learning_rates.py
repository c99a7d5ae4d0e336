"""Which learning rate a method continues with, by which metric, and what fewer trials give."""

from __future__ import annotations

import pytest
from support import fake_records as fake

from paretune.analysis.learning_rates import find_primary_metric, select_learning_rate
from paretune.analysis.statistics.intervals import Interval
from paretune.store.record import Record


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "weighted_f1", "accuracy_f1"])
def test_the_primary_metric_is_found_from_recorded_values(metric: str) -> None:
    raw = {key: value for key, value in fake.own_task("t").items() if key != "metric"}
    study = fake.study(tasks=[raw])
    parts = [fake.answers(0.6, labels=3, seed=seed) for seed in range(3)]
    runs = [fake.make_run(study, "final", "lora", seed) for seed in range(3)]
    records = [
        fake.record(run, result={"scores": {"test": fake.scores(part, metric)}})
        for run, part in zip(runs, parts, strict=True)
    ]
    assert find_primary_metric(records) == metric


def test_an_unknown_primary_score_is_not_taken_for_another() -> None:
    raw = {key: value for key, value in fake.own_task("t").items() if key != "metric"}
    study = fake.study(tasks=[raw])
    run = fake.make_run(study, "final", "lora", 1)
    scores = fake.scores(fake.answers(0.6), "accuracy") | {"primary": 0.123}
    assert find_primary_metric([fake.record(run, result={"scores": {"test": scores}})]) is None
    assert find_primary_metric([]) is None


STUDY = fake.study()


def trial(rate: float, quality: float | None, fold: int = 0, **changes) -> Record:
    run = fake.make_run(STUDY, "tune", "lora", 0, learning_rate=rate, fold=fold)
    if quality is None:
        return fake.record(run, outcome=changes.pop("outcome", "diverged"))
    part = fake.answers(quality, n=200, part=f"fold{fold}", seed=changes.pop("seed", 0))
    return fake.record(run, {"selection": part}, **changes)


def test_the_best_mean_over_folds_is_chosen() -> None:
    choice = select_learning_rate(
        [trial(1e-4, 0.5, f) for f in (0, 1)]
        + [trial(1e-3, 0.8, f) for f in (0, 1)]
        + [trial(1e-2, 0.6, f) for f in (0, 1)]
    )
    assert choice.rate == 1e-3
    assert not choice.undecided
    assert not choice.edge
    assert [t.rate for t in choice.table] == [1e-4, 1e-3, 1e-2]
    assert [len(t.runs) for t in choice.table] == [2, 2, 2]


def test_the_best_at_the_end_of_the_range_is_flagged() -> None:
    assert select_learning_rate([trial(1e-4, 0.5), trial(1e-3, 0.8)]).edge == "highest"
    assert not select_learning_rate([trial(1e-3, 0.8)]).edge
    assert not select_learning_rate([trial(1e-4, 0.5), trial(1e-3, 0.5)]).edge  # nothing learned


def test_what_blew_up_counts_as_worst_and_is_not_dropped() -> None:
    choice = select_learning_rate(
        [trial(1e-4, 0.55, 0), trial(1e-4, 0.55, 1), trial(1e-2, 0.9, 0), trial(1e-2, None, 1)]
    )
    assert choice.rate == 1e-4
    assert choice.table[1].failed == 1
    assert choice.table[1].score < 0.5


@pytest.mark.parametrize("outcome", ["diverged", "out_of_memory"])
def test_nothing_is_chosen_where_everything_failed(outcome: str) -> None:
    choice = select_learning_rate([trial(r, None, outcome=outcome) for r in (1e-4, 1e-3)])
    assert choice.rate is None
    assert [t.failed for t in choice.table] == [1, 1]


def test_ties_go_to_the_lower_loss_then_to_the_smaller_rate_and_are_undecided() -> None:
    lower = select_learning_rate([trial(1e-4, 0.6, loss=0.9), trial(1e-3, 0.6, loss=0.5)])
    assert lower.rate == 1e-3
    assert lower.undecided
    same = select_learning_rate([trial(1e-3, 0.6), trial(1e-4, 0.6)])
    assert same.rate == 1e-4
    assert same.undecided


def test_a_lead_within_one_standard_error_is_undecided() -> None:
    close = [trial(1e-4, 0.60, seed=1), trial(1e-3, 0.61, seed=2), trial(1e-2, 0.3)]
    assert select_learning_rate(close).undecided


def test_an_error_says_nothing_of_its_rate() -> None:
    choice = select_learning_rate([trial(1e-4, 0.5), trial(1e-3, None, outcome="error")])
    assert choice.rate == 1e-4
    assert len(choice.table) == 1
    assert select_learning_rate([]).rate is None


def test_every_rate_has_its_score_over_its_selection_parts() -> None:
    intervals = rate_intervals([trial(1e-4, 0.4), trial(1e-3, 0.8)])
    assert [*intervals] == [1e-4, 1e-3]
    for interval in intervals.values():
        assert interval and interval.low < interval.estimate < interval.high
        assert (interval.n_examples, interval.n_seeds) == (200, 1)
    lost, kept = [trial(1e-4, None)], [trial(1e-4, 0.6)]
    (half,) = rate_intervals([*lost, *kept]).values()
    (whole,) = rate_intervals(kept).values()
    assert half and whole and half.estimate == pytest.approx(whole.estimate / 2)
    assert rate_intervals([*lost, *kept], "r2") == {1e-4: None}
    assert rate_intervals(lost) == {1e-4: None}


def rate_intervals(tuning: list[Record], metric: str = "accuracy") -> dict[float, Interval | None]:
    return {tried.rate: tried.interval(metric) for tried in select_learning_rate(tuning).table}
