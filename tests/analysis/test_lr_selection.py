import pytest
from support import fake_records as fake

from paretune.analysis.learning_rates import select_learning_rate
from paretune.store.record import Record

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
    assert [t.folds for t in choice.table] == [2, 2, 2]


def test_the_best_at_the_end_of_the_range_is_flagged() -> None:
    assert select_learning_rate([trial(1e-4, 0.5), trial(1e-3, 0.8)]).edge
    assert not select_learning_rate([trial(1e-3, 0.8)]).edge


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
