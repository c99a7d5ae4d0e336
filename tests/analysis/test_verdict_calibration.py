"""Do the verdicts err as rarely as they say? The cut-down calibration of bench/calibration.py.

The same scenarios as the page has (bench/calibration.py), with fewer studies; all seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
FEW = (
    "equal: 56 x 3, 5 points",
    "equal: 300 x 5, 5 points",
    "equal: 300 x 5, unequal",
    "equal: 100 x 5, 10 % nearly collapse, 4 classes, base 0.82",
    "equal: 300 x 5, 30 % fail, 5 points, base 0.82",
    "equal: 100 x 5, 5 points, r2",
    "equal: 100 x 5, 5 points, clusters of 5",
    "equal: 300 rows in 5 folds, calm",
    "equal: 300 rows in 5 folds, unequal, base 0.82",
    "equal: 300 rows in 5 folds, unequal, 18 methods, base 0.82",
    "equal: 300 rows in 5 folds, 30 % fail, 5 points, base 0.82",
    "equal: 300 rows in 5 folds, 5 points, macro_f1, 85 % of one class",
)


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(BENCH)
    yield


def measure(name: str, studies: int) -> dict[str, float]:
    from verdicts.outcomes import simulate
    from verdicts.scenarios import list_scenarios

    (scenario,) = (s for s in list_scenarios() if s.name == name)
    means: dict[str, float] = simulate(scenario, studies)["means"]
    print(name, {key: round(value, 3) for key, value in means.items()})
    return means


def slack(share: float, studies: int) -> float:
    """Two standard errors: scores and pairs of a study are not independent."""
    return 2 * (share * (1 - share) / studies) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_errors_keep_to_five_per_cent(name: str) -> None:
    studies = 400
    means, room = measure(name, studies), slack(0.05, 400)
    if "collapse" not in name:  # runs of two kinds, of which five may show one
        assert means["coverage"] >= 0.95 - room
    assert means["single error"] <= 0.05 + room
    assert means["false claim"] <= 0.05 + room
    assert means["false above baselines"] <= 0.05 + room
    assert means["ranks held"] >= 0.95 - room


@pytest.mark.slow
def test_five_points_are_found_as_often_as_the_rules_promise() -> None:
    calm = measure("steps: 300 rows in 5 folds, calm", 400)
    assert calm["single power 5"] >= 0.24 - slack(0.24, 400)
    loose = measure("steps: 300 rows in 5 folds, 5 points", 400)
    assert loose["single power 5"] >= 0.15 - slack(0.15, 400)


@pytest.mark.slow
@pytest.mark.parametrize("runs", ["calm", "5 points"])
def test_what_a_pilot_asks_for_finds_5_points_in_eight_of_ten(runs: str) -> None:
    pilots = 200
    means = measure(f"sample size: 100 x 5, {runs}", pilots)
    for what in ("examples", "both", "cross-validated rows"):
        if (decided := means.get(f"decided with {what}")) is not None:
            follow_ups = pilots * (1 - means["pilot decides"]) * means[f"asks for {what}"]
            assert decided >= 0.75 - slack(0.8, max(round(follow_ups), 1)), what


@pytest.mark.slow
@pytest.mark.parametrize("world", ["close", "spread", "failing"])
def test_a_recommendation_costs_no_more_than_taking_the_highest(world: str) -> None:
    means = measure(f"choice: 56 x 3, {world}", 300)
    # Points lost have a standard deviation of about 2 and are paired.
    assert means["regret, recommended"] <= means["regret, highest"] + 0.5
    assert means["log memory, recommended"] <= means["log memory, highest"]
