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


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "accuracy_f1", "r2"])
@pytest.mark.parametrize("folds", [0, 5])
def test_many_rows_and_seeds_score_what_is_true(metric: str, folds: int) -> None:
    from verdicts.generator import Design, Generator
    from verdicts.worlds import Contender, World

    contenders = (
        Contender("full", 0.7, "norm"),
        Contender("lora", 0.6, "t3"),
        Contender("head_only", 0.6, "calm", failing=0.3),
        Contender("tfidf", 0.55, None),
    )
    world = World(contenders, metric, priors=(0.6, 0.3, 0.1), failures_in=True)
    design = Design(1500, 12 * max(folds, 1), folds)
    drawn = Generator(world, design, [1]).draw()
    score = metrics.get(metric).compute
    # Three standard errors: of 1,500 rows (squared errors have heavy tails), and of the seeds.
    slack = 0.1 if metric == "r2" else 0.06
    for contender in contenders:
        failed, answers = drawn.failed[contender.name], drawn.answers[contender.name]
        trained = world.trained_score(contender)
        if not folds:  # a score of folds of which some failed is no mean of scores
            kept = answers[~failed]
            runs = [score(drawn.labels.tolist(), run.tolist()) for run in kept]
            assert np.mean(runs) == pytest.approx(trained, abs=slack)
        spread = 3 * (contender.failing * (1 - contender.failing) / failed.size) ** 0.5
        assert failed.mean() == pytest.approx(contender.failing, abs=spread)
        lost = contender.failing * (trained - world.constant_score)
        assert world.expected_score(contender) == pytest.approx(trained - lost)


def test_equal_worlds_are_equal_and_an_impossible_score_is_refused() -> None:
    from verdicts.worlds import Contender, World

    equal = World(tuple(Contender(name, 0.7, s) for name, s in (("full", "calm"), ("lora", "t3"))))
    full, lora = equal.abilities["full"], equal.abilities["lora"]
    assert lora > full  # heavy tails cost more above than they bring below
    with pytest.raises(ValueError, match=r"full: no ability scores 1\.000"):
        _ = World((Contender("full", 1.0),)).abilities


def test_a_drawn_study_reaches_the_package_whole() -> None:
    from verdicts.generator import Design, Generator
    from verdicts.scenarios import Scenario
    from verdicts.studies import build_cells

    for design in (Design(60, 3), Design(60, 6, 3)):
        scenario = Scenario("equal", "mixed", design, cluster=4)
        generator = Generator(scenario.make_world(np.random.default_rng(1)), design, [2])
        drawn = generator.draw()
        cells = {cell.method: cell for cell in build_cells(drawn, "accuracy")}
        assert {*cells} == {*drawn.answers, "majority"}
        for name, answers in drawn.answers.items():
            right = (answers == drawn.labels).mean()
            parts = [part for record in cells[name].final for part in [record.predictions["test"]]]
            rows = sum(len(part.uid) for part in parts)
            hits = sum(a == b for p in parts for a, b in zip(p.label, p.prediction, strict=True))
            assert hits / rows == pytest.approx(right)
            assert {c for part in parts for c in part.cluster} == set(range(15))


def test_scenarios_have_names_of_their_own_and_draw_the_same_again() -> None:
    from verdicts.scenarios import list_scenarios
    from verdicts.simulate import simulate

    names = [scenario.name for scenario in list_scenarios()]
    assert len(names) == len(set(names))
    short = replace(list_scenarios()[0], studies=3)
    assert simulate(short) == simulate(short)


def test_a_pool_is_kept_and_its_phi_is_that_of_its_noise(tmp_path: Path) -> None:
    from replay import Pool, required_phi
    from verdicts.generator import Design

    rng, repeats, rows = np.random.default_rng(3), 200, 400
    labels = rng.integers(0, 2, rows)
    chance = rng.random(rows)  # common to both, so that the difference is the runs' noise
    folds = np.stack([rng.permutation(rows) % 5 for _ in range(repeats)])

    def answers(sd: float) -> np.ndarray:
        shift = np.take_along_axis(rng.normal(0, sd, (repeats, 5)), folds, axis=1)
        return np.where(rng.random((repeats, rows)) < chance + shift, labels, 1 - labels)

    quiet = Pool("quiet", "accuracy", labels, {"full": answers(0), "lora": answers(0)}, folds)
    loud = Pool("loud", "accuracy", labels, {"full": answers(0.1), "lora": answers(0.1)}, folds)
    for repeats_of_study in (1, 4):
        assert required_phi(quiet, "full", "lora", repeats_of_study) == pytest.approx(1, abs=0.25)
    # Two methods, five folds of sd 0.1 (a little less at the ends): 0.004 beside 0.33 / 400.
    assert 3 < required_phi(loud, "full", "lora") < 6.5
    loud.save(tmp_path / "loud.json")
    again = Pool.load(tmp_path / "loud.json")
    assert (again.answers["lora"] == loud.answers["lora"]).all()
    assert (again.folds == folds).all() and again.truths() == loud.truths()
    drawn = again.draw(Design(50, 10, 5), rng)
    assert drawn.answers["full"].shape == (2, 50) == drawn.folds.shape


def test_the_page_is_made_of_the_committed_results() -> None:
    import calibration

    page = calibration.make_page()
    assert "{{" not in page and page.count("\n| 56 x 3, norm |") >= 1


def test_real_runs_need_no_larger_factor_than_the_one_in_use() -> None:
    """100 runs each of full and LoRA: 20 divisions of 160 messages into five folds."""
    from replay import FOLDER, Pool, required_phi

    from paretune.analysis.statistics.differences import ROW_FACTOR

    pool = Pool.load(FOLDER / "crossed" / "routing.json")
    assert pool.num_folds == 5
    assert {name: pool.answers[name].shape for name in ("full", "lora")} == {
        "full": (20, 160),
        "lora": (20, 160),
    }
    assert 1 < required_phi(pool, "full", "lora") <= ROW_FACTOR
