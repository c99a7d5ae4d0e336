import numpy as np
import pytest
from support import fake_records as fake

from paretune.analysis.learning_rates import expected_best_scores, expected_maximum


def tuning(levels: dict[float, float | None]):
    study = fake.study()
    records = []
    for place, (rate, level) in enumerate(levels.items()):
        run = fake.make_run(study, "tune", "lora", 0, learning_rate=rate)
        parts = (
            {} if level is None else {"selection": fake.answers(level, seed=place, part="train")}
        )
        records.append(fake.record(run, parts, "ok" if parts else "diverged"))
    return records


def test_the_expected_maximum_is_that_of_draws_with_replacement() -> None:
    values = np.array([0.5, 0.9, 0.7, 0.7])
    rng = np.random.default_rng(1)
    for n in (1, 2, 5):
        drawn = rng.choice(values, (200_000, n)).max(axis=1).mean()
        assert float(expected_maximum(values, n)) == pytest.approx(drawn, abs=0.002)
    assert float(expected_maximum(values, 1)) == pytest.approx(values.mean())
    assert float(expected_maximum(values, 500)) == pytest.approx(0.9)


def test_more_trials_promise_more_and_say_on_what() -> None:
    records = tuning({1e-4: 0.4, 1e-3: 0.8, 1e-2: 0.6})
    scores = expected_best_scores(records, "accuracy")
    assert [best.trials for best in scores] == [1, 2, 3]
    estimates = [best.expected.estimate for best in scores]
    assert estimates == sorted(estimates)
    assert all(b.expected.low < b.expected.estimate < b.expected.high for b in scores)
    assert {(b.expected.n_examples, b.expected.n_seeds) for b in scores} == {(60, 1)}
    assert [best.seconds for best in scores] == [12.0, 24.0, 36.0]


def test_lost_trials_count_as_the_lowest_score() -> None:
    scores = expected_best_scores(tuning({1e-4: 0.6, 1e-3: None}), "accuracy")
    whole = expected_best_scores(tuning({1e-4: 0.6, 1e-3: 0.6}), "accuracy")
    assert scores[0].expected.estimate == pytest.approx(whole[0].expected.estimate / 2, abs=0.06)
    assert expected_best_scores(tuning({1e-4: 0.6, 1e-3: None}), "r2") == ()
    assert expected_best_scores(tuning({1e-4: 0.6}), "accuracy") == ()
    assert expected_best_scores(tuning({1e-4: None, 1e-3: None}), "accuracy") == ()
