"""Studies with a known truth: what they are drawn from is what they say, and all of it arrives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paretune import metrics

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "r2"])
@pytest.mark.parametrize("folds", [0, 5])
def test_many_rows_and_seeds_score_what_is_true(metric: str, folds: int) -> None:
    from verdicts.worlds import Contender, Design, World, draw_study

    contenders = (
        Contender("full", 0.7, 0.05),
        Contender("lora", 0.6, 0.05, heavy_tailed=True),
        Contender("loha", 0.7, 0.01, near=0.0 if metric == "r2" else 0.3),
        Contender("tfidf", 0.55, None),
    )
    world = World(contenders, metric, priors=(0.6, 0.3, 0.1))
    design = Design(1500, 20 * max(folds, 1), folds)
    drawn = draw_study(world, design, np.random.default_rng(1))
    score, truths = metrics.get(metric).compute, world.truths
    for name, answers in drawn.answers.items():
        if folds and name == "loha" and metric == "macro_f1":
            continue  # a score of folds of which some collapsed is no mean of scores
        runs = [score(drawn.labels.tolist(), run.tolist()) for run in answers]
        # Three standard errors: of 1,500 rows (squared errors have heavy tails), and of the seeds.
        assert np.mean(runs) == pytest.approx(truths[name].trained, abs=0.1)
        assert truths[name].expected == truths[name].trained


def test_a_drawn_study_reaches_the_package_whole() -> None:
    from verdicts.scenarios import Scenario
    from verdicts.studies import build_cells
    from verdicts.worlds import Design, draw_study

    rng = np.random.default_rng(1)
    for design in (Design(60, 3), Design(60, 6, 3)):
        scenario = Scenario("equal", "some fail", design, cluster=4)
        drawn = draw_study(scenario.make_world(rng), design, rng)
        cells = {cell.method: cell for cell in build_cells(drawn, "accuracy")}
        assert {*cells} == {*drawn.answers, "majority"}
        for name, answers in drawn.answers.items():
            right = (answers == drawn.labels).mean()
            parts = [record.predictions["test"] for record in cells[name].final]
            rows = sum(len(part.uid) for part in parts)
            hits = sum(a == b for p in parts for a, b in zip(p.label, p.prediction, strict=True))
            assert hits / rows == pytest.approx(right)
            assert {c for part in parts for c in part.cluster} == set(range(15))


def test_a_true_claim_is_not_counted_as_false_for_being_small() -> None:
    from verdicts.outcomes import Tally, judge_pairs
    from verdicts.worlds import Truth

    truths = {name: Truth(score, score) for name, score in (("a", 0.75), ("b", 0.7), ("c", 0.7))}
    tally = Tally()
    right = {("a", "b"): (0.03, 0.001)}
    assert not judge_pairs(tally, "", (right, right), truths)
    for wrong in ({("a", "b"): (-0.03, 0.001)}, {("b", "c"): (0.03, 0.001)}):
        assert judge_pairs(tally, "", (wrong, wrong), truths)
    assert tally.means()["false claim"] == pytest.approx(2 / 3)
    assert tally.means()["family power 5"] == pytest.approx(1 / 2)


def test_scenarios_have_names_of_their_own_and_draw_the_same_again() -> None:
    from verdicts.outcomes import simulate
    from verdicts.scenarios import list_scenarios

    scenarios = list_scenarios()
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    for kind in ("equal", "steps", "choice"):
        first = next(s for s in scenarios if s.kind == kind and s.design.folds)
        short = replace(first, studies=2)
        assert simulate(short) == simulate(short)
    assert simulate(short) == simulate(short, processes=2)


def test_the_page_is_made_of_the_committed_results() -> None:
    import calibration

    page = calibration.make_page()
    assert "{{" not in page and page.count("\n| 56 x 3, 5 points |") >= 1
    assert "| majority | full | lora | tfidf |" in page
