from dataclasses import replace

import numpy as np
import pytest
from support import fake_records as fake
from support.fake_records import topic_cells

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.costs import CostEstimate, estimate_cost
from paretune.analysis.pareto.expected_scores import DRAWS, ExpectedScore, expected_scores
from paretune.analysis.pareto.front import non_dominated, pareto_front
from paretune.analysis.statistics.scores import score_runs


def of(seed: int, mean: float, deviation: float) -> ExpectedScore:
    score = score_runs([fake.answers(mean, n=200, seed=seed)], "accuracy")
    draws = np.random.default_rng(seed).normal(mean, deviation, DRAWS)
    return ExpectedScore(score, mean, draws)


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
        on_front = non_dominated(scores[:, None], prices[:, None])[:, 0]
        assert on_front.tolist() == brute(scores.tolist(), prices.tolist())


def test_probabilities_follow_the_evidence() -> None:
    scores = {"good": of(1, 0.85, 0.02), "dear": of(2, 0.85, 0.02), "poor": of(3, 0.4, 0.02)}
    costs = {"good": CostEstimate(2.0), "dear": CostEstimate(3.0), "poor": CostEstimate(1.0)}
    points = {p.name: p for p in pareto_front(scores, costs)}
    assert list(points) == ["poor", "good", "dear"]
    assert points["poor"].probability == 1  # nothing is cheaper
    assert points["good"].probability > 0.99
    # As good as what is cheaper, as far as can be told.
    assert points["dear"].probability == pytest.approx(0.5, abs=0.05)
    worse = pareto_front({**scores, "dear": of(2, 0.5, 0.02)}, costs)
    assert {p.name: p.probability for p in worse}["dear"] < 0.01
    assert pareto_front(scores, {}) == ()


def test_equal_answers_do_not_prove_that_the_dearer_is_off_the_front() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [*fake.cell(study, "majority", None), *fake.cell(study, "lora", 0.85)]
    records += [
        fake.record(fake.make_run(study, "final", "full", r.run.seed), r.predictions)
        for r in records
        if r.run.method.name == "lora" and r.run.stage == "final"
    ]
    expected = {
        method: score for (_, method), score in expected_scores(topic_cells(study, records)).items()
    }
    points = pareto_front(expected, {"lora": CostEstimate(1.0), "full": CostEstimate(2.0)})
    assert [p.on_front for p in points] == [True, False]
    assert points[1].probability == pytest.approx(0.5, abs=0.05)


def test_a_cost_that_was_measured_with_a_spread_may_turn_out_lower() -> None:
    scores = {"a": of(1, 0.85, 0.01), "b": of(2, 0.6, 0.01)}
    sure = pareto_front(scores, {"a": CostEstimate(1.0), "b": CostEstimate(1.1)})
    unsure = pareto_front(scores, {"a": CostEstimate(1.0, 0.1, 3), "b": CostEstimate(1.1, 0.1, 3)})
    chance = {p.name: p.probability for p in unsure}["b"]
    assert {p.name: p.probability for p in sure}["b"] < 0.01
    # P(1.1 + 0.1 z < 1 + 0.1 z') = P(N(0, 1) > 0.707)
    assert chance == pytest.approx(0.24, abs=0.04)


def test_costs_are_read_from_records_with_what_they_stand_on() -> None:
    study = fake.study()
    cells = {c.method: c for c in group_into_cells(study, fake.whole(study)) if c.task == "topics"}
    lora = cells["lora"]
    assert estimate_cost(lora, "memory") == CostEstimate(870 * 2**20, 0.0, 1)
    step = estimate_cost(lora, "step")
    assert step is not None and step.value == 0.84
    assert step.standard_error == pytest.approx(1.2533 * 0.08 / 1.349 / 20**0.5)
    time = estimate_cost(lora, "time")
    assert time is not None and time.value == pytest.approx(0.84 * 80)
    assert (time.seeds, time.measurements) == (3, 1)
    assert estimate_cost(lora, "parameters") == CostEstimate(296_067.0, measurements=0)
    assert estimate_cost(lora, "saved") == CostEstimate(1_190_000.0)
    assert estimate_cost(lora, "inference") == CostEstimate(0.011)
    assert all(estimate_cost(cells["tfidf"], axis) is None for axis in ("memory", "parameters"))
    shut = group_into_cells(study, [r for r in fake.whole(study) if r.run.stage != "cost"])
    assert all(estimate_cost(c, "memory") is None for c in shut)


def test_before_they_are_measured_costs_are_predicted() -> None:
    """Memory from what runs keep, time and saved bytes from the runs themselves."""
    study = fake.study()
    work = {"operations": 1e9, "held_bytes": 500, "saved_bytes": 300}
    measured = {"work": work, "environment": fake.ENVIRONMENT}
    records = [
        replace(
            r,
            measured={**r.measured, **measured},
            result={**r.result, "trained_bytes": 7},
        )
        for r in fake.whole(study)
    ]
    of_lora = [r for r in records if (r.run.method.key, r.run.stage) != ("lora", "cost")]
    cells = {c.method: c for c in group_into_cells(study, of_lora) if c.task == "topics"}
    expected = 1890 * 2**20 - 800, 870 * 2**20, 940 * 2**20 - 800, 512 * 2**20 - 800
    residual = sorted((expected[0], expected[2]))  # of what was measured, probes aside
    memory, time, saved = (
        estimate_cost(cells["lora"], axis) for axis in ("memory", "time", "saved")
    )
    assert memory is not None and memory.predicted
    assert memory.value == pytest.approx(800 - 4 * 296_067 + sum(residual) / 2)
    assert time == CostEstimate(12.0, 0.0, 0, 3, predicted=True)
    assert saved == CostEstimate(7.0, 0.0, 0, predicted=True)
    measured_alone = estimate_cost(cells["full"], "memory")
    assert measured_alone is not None and not measured_alone.predicted
