import pytest
from support import fake_records as fake
from support.fake_records import topic_cells

from paretune.analysis.cell import Cell
from paretune.analysis.learning_check import best_trivial_score
from paretune.analysis.pareto.expected_scores import expected_scores
from paretune.analysis.pareto.recommend import Budget, Recommendation, recommend

SIZE = {"full": 1890, "lora": 870, "loha": 905, "prompt": 940, "head_only": 512}


def cells(levels: dict[str, float | None] | None = None, **more) -> list[Cell]:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    records = [*fake.whole(study, levels), *more.get("records", ())]
    return topic_cells(study, records)


def name_chosen_method(recommendation: Recommendation) -> str:
    return recommendation.chosen.cell.method if recommendation.chosen else ""


def megabytes(count: float) -> Budget:
    return Budget({"memory": count * 2**20})


def test_the_cheapest_within_the_points_of_the_highest_expected_score_is_taken() -> None:
    here = cells({"full": 0.75, "lora": 0.72, "loha": 0.73, "prompt": 0.74})
    chosen_before = ""
    for within in (0.0, 1.0, 3.0, 100.0):
        recommendation = recommend(here, Budget(within_points=within))
        assert recommendation.chosen is not None and recommendation.best is not None
        least = 100 * recommendation.best.expected.estimate - within
        near = [
            c
            for c in recommendation.candidates
            if not c.cell.baseline and 100 * c.expected.estimate >= least
        ]
        assert SIZE[name_chosen_method(recommendation)] == min(SIZE[c.cell.method] for c in near)
        chosen_before = name_chosen_method(recommendation)
    assert chosen_before == "lora"
    best = recommend(here, Budget(within_points=0.0))
    assert best.best is best.chosen and best.best_alternative is None


def test_chances_are_of_all_within_the_budget() -> None:
    recommendation = recommend(cells())
    assert sum(p.best.share_of_draws for p in recommendation.prospects.values()) == pytest.approx(1)
    here = recommendation.prospect
    assert here is not None and 0 < here.best.share_of_draws < 1
    assert here.worse.share_of_draws <= 1 - here.best.share_of_draws
    assert here.below_baseline is not None and here.below_baseline.share_of_draws < 0.05
    free = recommend(cells({**LOW, "tfidf": 0.6}))
    assert free.prospect is not None and free.prospect.below_baseline is None


def test_what_is_far_below_the_best_is_not_taken_however_cheap() -> None:
    study = fake.study(methods=["full", "lora"], protocol={"seeds": [1, 2, 3], "folds": 1})
    records = []
    for name, level in {"majority": None, "tfidf": 0.3, "head_only": 0.35}.items():
        records += fake.cell(study, name, level, n=400)
    records += fake.cell(study, "full", 0.85, n=400) + fake.cell(study, "lora", 0.62, n=400)
    here = topic_cells(study, records)
    recommendation = recommend(here)
    assert (name_chosen_method(recommendation), recommendation.best_alternative) == ("full", None)
    inside = recommend(here, megabytes(1000))
    assert name_chosen_method(inside) == "lora"
    assert inside.outside_budget is not None and inside.outside_budget.pair is not None
    assert inside.outside_budget.pair.difference.low > 0
    assert inside.outside_budget.candidate.exceeded == ("memory",)


LOW: dict[str, float | None] = {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45}


def test_where_no_method_scores_above_the_baselines_the_highest_baseline_is_taken() -> None:
    recommendation = recommend(cells({**LOW, "tfidf": 0.6}))
    assert (recommendation.kind, name_chosen_method(recommendation)) == ("baseline", "tfidf")
    probe = recommend(cells({**LOW, "head_only": 0.9}))
    assert (probe.kind, name_chosen_method(probe)) == ("baseline", "head_only")
    assert probe.hardest_comparison is None


def test_a_baseline_within_a_point_of_the_best_is_taken_since_it_costs_nothing() -> None:
    here = cells({**LOW, "full": 0.6, "tfidf": 0.585})
    assert name_chosen_method(recommend(here, Budget(within_points=0.0))) == "full"
    assert (recommend(here, Budget(within_points=5.0)).kind) == "baseline"


def test_a_model_as_it_comes_is_cheaper_than_what_trains() -> None:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    here = cells({**LOW, "lora": 0.8}, records=fake.cell(study, "untuned", 0.8))
    chosen = recommend(here).chosen
    assert chosen is not None and chosen.cell.name == "untuned" and chosen.costs["time"].value == 0


def test_what_must_be_proven_is_no_guess() -> None:
    here = cells({**LOW, "full": 0.6, "tfidf": 0.55})
    assert name_chosen_method(recommend(here)) == "full"
    recommendation = recommend(here, Budget(proven=True))
    assert (recommendation.kind, name_chosen_method(recommendation)) == ("baseline", "tfidf")
    # What is given up for it is said: the chances are still against all.
    assert recommendation.prospect is not None and recommendation.prospect.best.share_of_draws < 0.5
    proven = recommend(cells(), Budget(proven=True))
    assert proven.kind == "method" and proven.chosen is not None and proven.chosen.proven


def test_of_free_baselines_that_score_the_same_the_simplest_is_taken() -> None:
    task = {**fake.own_task("topics"), "features": ["a"]}
    del task["text"]
    study = fake.study(tasks=[task], methods=["lora"])
    same = fake.answers(0.9)
    records = [*fake.cell(study, "majority", None), *fake.cell(study, "lora", 0.6)]
    for name in ("gradient_boosting", "tfidf"):
        records.append(fake.record(fake.make_run(study, "final", name, 1), {"test": same}))
    assert name_chosen_method(recommend(topic_cells(study, records))) == "tfidf"


def test_one_label_that_scores_above_the_majority_answer_of_train_counts_too() -> None:
    study = fake.study(methods=["lora"])
    label = [0] * 20 + [1] * 24 + [2] * 16
    answers = {"majority": [0] * 60, "tfidf": [0] * 21 + [1] * 1 + [0] * 38, "lora": [2] * 60}
    records = [
        fake.record(
            fake.make_run(study, "final", name, 1), {"test": fake.predictions(label, predicted)}
        )
        for name, predicted in answers.items()
    ]
    here = topic_cells(study, records)
    floor = best_trivial_score(here)
    assert floor is not None and (floor.value, floor.answer) == (0.4, "label")
    tfidf = next(c for c in here if c.name == "tfidf")
    assert tfidf.interval is not None and 20 / 60 < tfidf.interval.estimate < 0.4
    assert recommend(here).chosen is None


def test_an_empty_budget_leaves_nothing_but_says_what_lies_outside() -> None:
    recommendation = recommend(cells(), megabytes(1))
    assert (recommendation.kind, name_chosen_method(recommendation)) == ("none", "")
    assert recommendation.outside_budget is None
    recommendation = recommend(cells({"tfidf": 0.6, "full": 0.95}), megabytes(1))
    assert (recommendation.kind, name_chosen_method(recommendation)) == ("baseline", "tfidf")
    assert (
        recommendation.outside_budget is not None
        and recommendation.outside_budget.candidate.cell.method == "full"
    )


def test_a_cost_that_was_not_measured_is_not_inside() -> None:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    records = [
        r for r in fake.whole(study) if not (r.run.stage == "cost" and r.run.method.name == "lora")
    ]
    here = topic_cells(study, records)
    recommendation = recommend(here, megabytes(5000))
    assert [c.cell.method for c in recommendation.unmeasured_candidates] == ["lora"]
    assert name_chosen_method(recommendation) != "lora"
    # Without a limit it may be taken, but what is known to be cheap is first.
    assert name_chosen_method(recommend(here, Budget(within_points=100.0))) != "lora"


def test_runs_that_fail_lower_what_the_next_is_expected_to_score() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [
        r for r in fake.whole(study) if not (r.run.method.name == "lora" and r.run.seed == 3)
    ]
    whole = expected_scores(topic_cells(study))
    records.append(fake.record(fake.make_run(study, "final", "lora", 3), outcome="diverged"))
    here = topic_cells(study, records)
    recommendation = expected_scores(here)
    lora = ("e5-small", "lora")
    assert recommendation[lora].score.estimate == pytest.approx(
        next(c for c in here if c.method == "lora").interval.estimate
    )
    # One of three failed, of two methods and the probe: between none and a third of the gap.
    constant = next(c for c in here if c.method == "majority").interval.estimate
    share = (recommendation[lora].score.estimate - recommendation[lora].estimate) / (
        recommendation[lora].score.estimate - constant
    )
    assert 0.15 < share < 1 / 3
    assert whole[lora].estimate > recommendation[lora].estimate
    assert whole[lora].score.estimate - whole[lora].estimate < 0.01
    (candidate,) = (c for c in recommend(here).candidates if c.cell.method == "lora")
    assert candidate.failed_seeds == 1


def test_what_fails_in_half_of_its_runs_is_not_taken() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [
        r for r in fake.whole(study) if not (r.run.method.name == "lora" and r.run.seed in (2, 3))
    ]
    for seed, outcome in ((2, "diverged"), (3, "out_of_memory")):
        records.append(fake.record(fake.make_run(study, "final", "lora", seed), outcome=outcome))
    recommendation = recommend(topic_cells(study, records), Budget(within_points=100.0))
    assert name_chosen_method(recommendation) in ("full", "tfidf", "head_only")
    assert [c.method for c in recommendation.failed_cells] == ["lora"]
