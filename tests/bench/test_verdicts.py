"""Studies with a known truth: what they are drawn from is what they say, and all of it arrives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def test_failing_runs_answer_a_constant_and_are_in_the_expected_score_alone() -> None:
    from verdicts.worlds import Contender, Design, Truth, World, draw_study

    world = World((Contender("full", 0.8, failing=0.25),))
    drawn = draw_study(world, Design(200, 400), np.random.default_rng(1))
    constant = [len(set(run.tolist())) == 1 for run in drawn.answers["full"]]
    assert np.mean(constant) == pytest.approx(0.25, abs=0.06)
    assert world.truths["full"] == Truth(pytest.approx(0.8), pytest.approx(0.725))


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


def test_in_equal_worlds_no_method_is_better_than_tfidf() -> None:
    from verdicts.scenarios import METHODS, list_scenarios

    for scenario in list_scenarios():
        if scenario.kind == "equal":
            # Macro F1 is not linear: at 0.82 seeds alone move its mean by 0.3 points.
            bases = (0.6, 0.72, 0.82) if scenario.metric == "accuracy" else ()
            for base in (scenario.base, *bases):
                at_base = replace(scenario, base=base)
                truths = at_base.make_world(np.random.default_rng(1)).truths
                for method in METHODS[: scenario.methods]:
                    same = pytest.approx(truths["tfidf"].trained, abs=2e-3)
                    assert truths[method].trained == same, at_base.name


def test_of_eighteen_unequal_methods_four_are_unsteady() -> None:
    from verdicts.scenarios import list_scenarios

    named = {scenario.name: scenario for scenario in list_scenarios()}
    scenario = named["equal: 300 rows in 5 folds, unequal, 18 methods, base 0.82"]
    world = scenario.make_world(np.random.default_rng(1))
    spreads = [c.seed_sd for c in world.contenders if c.name not in ("head_only", "tfidf")]
    assert sorted(spreads) == [0.015] * 14 + [0.105] * 4
    assert {c.score for c in world.contenders if c.name != "head_only"} == {0.82}


def test_the_reference_of_a_scenario_is_that_of_the_study() -> None:
    from verdicts.scenarios import DEFAULT, METHODS, list_scenarios
    from verdicts.studies import build_study
    from verdicts.worlds import draw_study

    rng = np.random.default_rng(1)
    scenarios = [s for s in list_scenarios() if s.kind == "default" and s.design.rows == 300]
    assert [scenario.reference for scenario in scenarios] == [None, DEFAULT]
    for scenario in scenarios:
        world = scenario.make_world(rng)
        leads = [round(world.truths[m].trained - world.truths[DEFAULT].trained, 3) for m in METHODS]
        assert sorted(leads) == [0.0] * 15 + [0.05, 0.05, 0.1]
        study, records = build_study(
            draw_study(world, scenario.design, rng), "accuracy", scenario.reference
        )
        assert study.protocol.reference == scenario.reference
        assert {record.run.method.key for record in records} >= set(METHODS)


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


def test_a_study_counts_once_in_a_standard_error() -> None:
    from verdicts.outcomes import simulate
    from verdicts.scenarios import list_scenarios

    named = {scenario.name: scenario for scenario in list_scenarios()}
    result = simulate(named["equal: 56 x 3, 5 points"], 20)
    share, count = result["means"]["false claim"], result["chances"]["false claim"]
    assert count == 20
    plain = max((share * (1 - share) * count) ** 0.5, 0.5) / count
    assert result["errors"]["false claim"] == pytest.approx(plain)
    assert result["chances"]["coverage"] == 80
    assert result["errors"]["coverage"] >= 0.5 / 80


def test_chosen_worlds_are_measured_at_every_base_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import calibration

    file = tmp_path / "results.json"
    command = ["measure", "--json", str(file), "--studies", "2", "--worlds", "equal: 56 x 3, calm"]
    calibration.main([*command, "--base-rates", "0.6", "0.72"])
    bases = (0.6, 0.72)
    names = {f"equal: 56 x 3, calm, base {base:.2f}" for base in bases}
    assert set(json.loads(file.read_text())) == names
    assert "any of both" in capsys.readouterr().out
    calibration.main([*command, "--base-rates", "0.6"])
    assert not capsys.readouterr().out, "what the file holds is not simulated again"
    with pytest.raises(SystemExit):
        calibration.main(["measure", "--json", str(file), "--worlds", "none such"])
    assert "equal: 56 x 3, calm" in capsys.readouterr().err


def test_the_row_factor_is_what_data_sets_scatter_by_beyond_their_rows() -> None:
    from row_factor import FOLDS, ROWS, judge_pair

    rng = np.random.default_rng(3)

    def draw(of_data_set: float) -> list[dict[str, Any]]:
        lines = []
        for number in range(400):
            ease, right = rng.normal(size=ROWS), {}
            for method in ("full", "lora"):
                chance = ease + of_data_set * rng.normal()
                right[method] = [
                    "".join(str(int(z > 0)) for z in chance + rng.normal(size=ROWS))
                    for _ in range(2)
                ]
            digits = {m: [f"{int(r, 2):0{ROWS // 4}x}" for r in rs] for m, rs in right.items()}
            pool = "ab"[number % 2]
            lines.append({"pool": pool, "fold_rows": [ROWS // FOLDS] * FOLDS, "right": digits})
        return lines

    for of_data_set, low, high in ((0.0, 0.8, 1.25), (0.1, 1.8, 4.0)):
        pair = judge_pair(draw(of_data_set), "full", "lora")
        rows = pair["rows"].mean()
        assert low < np.nanmean(pair["spread"]) / rows < high
        assert np.mean(pair["seeds"]) == pytest.approx(0, abs=0.25 * rows)
        assert np.mean(pair["excess"]) == pytest.approx(0, abs=0.25 * rows)


def test_the_page_is_made_of_the_committed_results() -> None:
    import calibration

    page = calibration.make_page()
    assert "{{" not in page and page.count("\n| 56 x 3, 5 points |") >= 1
    assert "| majority | full | lora | tfidf |" in page
