import fake_records as fake
import numpy as np
import pytest

from paretune.analysis.cells import group
from paretune.analysis.costs import Spread, cost_of
from paretune.analysis.front import front, undominated
from paretune.analysis.interval import scored


def cell(quality: float, seeds: int = 3, n: int = 200, noise: int = 0):
    parts = [fake.answers(quality, n=n, seed=s + noise) for s in range(seeds)]
    return scored(parts, "accuracy")


def brute(scores: list[float], prices: list[float]) -> list[bool]:
    def beaten(i: int) -> bool:
        return any(
            scores[j] >= scores[i]
            and prices[j] <= prices[i]
            and (scores[j] > scores[i] or prices[j] < prices[i])
            for j in range(len(scores))
        )

    return [not beaten(i) for i in range(len(scores))]


def test_the_front_is_what_no_other_beats() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        scores, prices = rng.integers(0, 5, (2, 6)).astype(float)
        found = undominated(scores[:, None], prices[:, None])[:, 0]
        assert found.tolist() == brute(scores.tolist(), prices.tolist())


def test_probabilities_follow_the_evidence() -> None:
    scores = {"good": cell(0.85), "dear": cell(0.85, noise=40), "poor": cell(0.4, noise=80)}
    costs = {"good": Spread(2.0), "dear": Spread(3.0), "poor": Spread(1.0)}
    found = {p.name: p for p in front(scores, costs)}
    assert list(found) == ["poor", "good", "dear"]
    assert found["poor"].probability == 1  # nothing is cheaper
    assert found["good"].probability > 0.99
    # As good as what is cheaper, as far as can be told: neither surely on nor surely off.
    assert 0.1 < found["dear"].probability < 0.9
    worse = front({**scores, "dear": cell(0.5, noise=40)}, costs)
    assert {p.name: p.probability for p in worse}["dear"] < 0.01
    assert front(scores, costs) == front(scores, costs)
    assert front(scores, {}) == ()


def test_equal_answers_do_not_prove_that_the_dearer_is_off_the_front() -> None:
    same = cell(0.85)
    found = front({"a": same, "b": same}, {"a": Spread(1.0), "b": Spread(2.0)})
    assert [p.on_front for p in found] == [True, False]
    # One noise of its seeds each, so half of the draws say the one and half the other.
    assert found[1].probability == pytest.approx(0.5, abs=0.05)


def test_a_cost_that_was_measured_with_a_spread_may_turn_out_lower() -> None:
    scores = {"a": cell(0.85), "b": cell(0.6, noise=40)}
    sure = front(scores, {"a": Spread(1.0), "b": Spread(1.1)})
    unsure = front(scores, {"a": Spread(1.0, 0.1, 3), "b": Spread(1.1, 0.1, 3)})
    chance = {p.name: p.probability for p in unsure}["b"]
    assert {p.name: p.probability for p in sure}["b"] < 0.01
    # P(1.1 + 0.1 z < 1 + 0.1 z') = P(N(0, 1) > 0.707)
    assert chance == pytest.approx(0.24, abs=0.04)


def test_costs_are_read_from_records_with_what_they_stand_on() -> None:
    study = fake.study()
    cells = {c.method: c for c in group(study, fake.whole(study)) if c.task == "topics"}
    lora = cells["lora"]
    assert cost_of(lora, "memory") == Spread(870 * 2**20, 0.0, 1)
    step = cost_of(lora, "step")
    assert step is not None and step.value == 0.84
    assert step.error == pytest.approx(1.2533 * 0.08 / 1.349 / 20**0.5)
    time = cost_of(lora, "time")
    assert time is not None and time.value == pytest.approx(0.84 * 80)
    assert (time.seeds, time.measurements) == (3, 1)
    assert cost_of(lora, "parameters") == Spread(296_067.0, measurements=0)
    assert cost_of(lora, "saved") == Spread(1_190_000.0)
    assert cost_of(lora, "inference") == Spread(0.011)
    assert all(cost_of(cells["tfidf"], axis) is None for axis in ("memory", "parameters"))
    shut = group(study, [r for r in fake.whole(study) if r.run.stage != "cost"])
    assert all(cost_of(c, "memory") is None and cost_of(c, "time") is None for c in shut)
