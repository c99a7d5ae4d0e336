import pytest
from support import fake_records as fake
from support.fake_cells import mostly_collapsed, topic_cells

from paretune.analysis.cells import Cell
from paretune.analysis.learning_check import best_trivial_score
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.pareto.recommendation import Budget, Recommendation
from paretune.analysis.score_with_failures import count_failed_seeds, score_with_failures

SIZE = {"full": 1890, "lora": 870, "loha": 905, "prompt": 940, "head_only": 512}


def cells(levels: dict[str, float | None] | None = None, **more) -> list[Cell]:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    records = [*fake.whole(study, levels), *more.get("records", ())]
    return topic_cells(study, records)


def taken(found: Recommendation) -> str:
    return found.chosen.cell.method if found.chosen else ""


def megabytes(count: float) -> Budget:
    return Budget({"memory": count * 2**20})


def test_the_cheapest_that_the_best_is_not_clearly_above() -> None:
    found = recommend(cells({"full": 0.75, "lora": 0.72, "loha": 0.73, "prompt": 0.74}))
    assert (found.kind, taken(found), found.considered) == ("method", "lora", 4)
    assert found.best_alternative is not None and not found.best_alternative.clear
    assert (
        found.best is not None
        and found.best.cell.method == found.best_alternative.candidate.cell.method
    )
    assert found.outside_budget is None and found.hardest_comparison is None and not found.missing


def test_what_is_clearly_below_the_best_is_not_taken_however_cheap() -> None:
    study = fake.study(methods=["full", "lora"], protocol={"seeds": [1, 2, 3], "folds": 1})
    records = []
    for name, level in {"majority": None, "tfidf": 0.3, "head_only": 0.35}.items():
        records += fake.cell(study, name, level, n=400)
    records += fake.cell(study, "full", 0.85, n=400) + fake.cell(study, "lora", 0.62, n=400)
    here = topic_cells(study, records)
    found = recommend(here)
    assert (taken(found), found.considered, found.best_alternative) == ("full", 2, None)
    inside = recommend(here, megabytes(1000))
    assert taken(inside) == "lora"
    assert inside.outside_budget is not None and inside.outside_budget.clear
    assert inside.outside_budget.candidate.exceeded == ("memory",)


def test_points_that_may_be_given_up() -> None:
    here = cells({"full": 0.75, "lora": 0.72, "loha": 0.73, "prompt": 0.74})
    best = recommend(here).best
    assert best is not None
    for within in (0.0, 1.0, 3.0, 100.0):
        found = recommend(here, Budget(max_loss_points=within))
        assert found.chosen is not None
        loss = best.interval.estimate - found.chosen.interval.estimate
        assert loss <= within / 100 + 1e-9
    assert taken(recommend(here, Budget(max_loss_points=100.0))) == "lora"
    assert taken(recommend(here, Budget(max_loss_points=0.0))) == best.cell.method


LOW: dict[str, float | None] = {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45}


def test_where_no_method_scores_above_the_baselines_the_highest_baseline_is_taken() -> None:
    found = recommend(cells({**LOW, "tfidf": 0.6}))
    assert (found.kind, taken(found)) == ("baseline", "tfidf")
    probe = recommend(cells({**LOW, "head_only": 0.9}))
    assert (probe.kind, taken(probe), probe.hardest_comparison) == ("baseline", "head_only", None)


def test_a_method_above_the_baselines_but_not_clearly_is_a_guess() -> None:
    found = recommend(cells({**LOW, "full": 0.6, "tfidf": 0.4, "head_only": 0.4}))
    assert (found.kind, taken(found)) == ("guess", "full")
    assert found.hardest_comparison is not None and not found.hardest_comparison.clear
    assert found.hardest_baseline in ("tfidf", "head_only", "majority")


def test_nothing_at_or_below_the_constant_answer_is_taken() -> None:
    """0.1.0 took majority itself, or a baseline below the constant answer."""
    flat = recommend(cells(LOW))
    assert (flat.kind, flat.chosen) == ("none", None)
    assert flat.trivial_score is not None and flat.trivial_score.answer == "majority"
    best = max(c.interval.estimate for c in flat.candidates if c.cell.name != "majority")
    assert best <= flat.trivial_score.value  # so it is the constant answer that keeps them out


def test_one_label_that_scores_above_the_majority_answer_of_train_counts_too() -> None:
    study = fake.study(methods=["lora"])
    label = [0] * 20 + [1] * 24 + [2] * 16
    told = {"majority": [0] * 60, "tfidf": [0] * 21 + [1] * 1 + [0] * 38, "lora": [2] * 60}
    records = [
        fake.record(fake.make_run(study, "final", name, 1), {"test": fake.predictions(label, said)})
        for name, said in told.items()
    ]
    here = topic_cells(study, records)
    floor = best_trivial_score(here)
    assert floor is not None and (floor.value, floor.answer) == (0.4, "label")
    tfidf = next(c for c in here if c.name == "tfidf")
    assert tfidf.interval is not None and 20 / 60 < tfidf.interval.estimate < 0.4
    assert recommend(here).chosen is None


def test_mostly_constant_methods_are_not_taken_and_the_cause_is_counted() -> None:
    """Of eight seeds of two methods seven answer a constant after 60 steps."""
    study, records = mostly_collapsed(tfidf=0.4)
    here = topic_cells(study, records)
    found = recommend(here)
    missed = found.collapsed_cells
    assert missed is not None
    assert (missed.constant, missed.seeds, missed.steps) == (7, 8, (60, 60))
    assert found.chosen is None or found.chosen.cell.baseline


def test_an_empty_budget_leaves_nothing_but_says_what_lies_outside() -> None:
    found = recommend(cells(), megabytes(1))
    assert (found.kind, taken(found)) == ("none", "")
    assert found.outside_budget is None
    found = recommend(cells({"tfidf": 0.6, "full": 0.95}), megabytes(1))
    assert (found.kind, taken(found)) == ("baseline", "tfidf")
    assert found.outside_budget is not None and found.outside_budget.candidate.cell.method == "full"


def test_a_cost_that_was_not_measured_is_not_inside() -> None:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    records = [
        r for r in fake.whole(study) if not (r.run.stage == "cost" and r.run.method.name == "lora")
    ]
    here = topic_cells(study, records)
    found = recommend(here, megabytes(5000))
    assert [c.cell.method for c in found.unmeasured_candidates] == ["lora"]
    assert taken(found) != "lora"
    free = recommend(
        here
    )  # without a limit it may be taken, but what is known to be cheap is first
    assert taken(free) == "loha"


def test_lost_seeds_count_as_the_lowest_score() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [
        r for r in fake.whole(study) if not (r.run.method.name == "lora" and r.run.seed in (2, 3))
    ]
    for seed, outcome in ((2, "diverged"), (3, "out_of_memory")):
        run = fake.make_run(study, "final", "lora", seed)
        records.append(fake.record(run, outcome=outcome))
    here = topic_cells(study, records)
    lora = next(c for c in here if c.method == "lora")
    found = score_with_failures(lora)
    assert count_failed_seeds(lora) == 2 and found is not None and lora.interval is not None
    assert found.estimate == pytest.approx(lora.interval.estimate / 3)
    assert taken(recommend(here)) == "full"
    (candidate,) = (c for c in recommend(here).candidates if c.cell.method == "lora")
    assert candidate.failed_seeds == 2 and not candidate.clear


def test_nothing_is_recommended_before_the_baselines_are_there() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [r for r in fake.whole(study) if r.run.method.name != "tfidf"]
    found = recommend(topic_cells(study, records))
    assert (found.kind, found.chosen, found.missing) == ("none", None, ("tfidf",))
    nothing = recommend(topic_cells(study, []))
    assert (nothing.kind, nothing.candidates) == ("none", ())
