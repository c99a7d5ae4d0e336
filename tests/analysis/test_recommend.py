import fake_records as fake
import pytest

from paretune.analysis.cells import Cell, group
from paretune.analysis.quality import lost_seeds, quality
from paretune.analysis.recommend import Budget, Recommendation, recommend

SIZE = {"full": 1890, "lora": 870, "loha": 905, "prompt": 940, "head_only": 512}


def cells(levels: dict[str, float | None] | None = None, **more) -> list[Cell]:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    records = [*fake.whole(study, levels), *more.get("records", ())]
    return [c for c in group(study, records) if c.task == "topics"]


def taken(found: Recommendation) -> str:
    return found.chosen.cell.method if found.chosen else ""


def megabytes(count: float) -> Budget:
    return Budget({"memory": count * 2**20})


def test_the_cheapest_that_the_best_is_not_clearly_above() -> None:
    found = recommend(cells({"full": 0.75, "lora": 0.72, "loha": 0.73, "prompt": 0.74}))
    assert (found.kind, taken(found), found.considered) == ("method", "lora", 4)
    assert found.to_best is not None and not found.to_best.clear
    assert found.best is not None and found.best.cell.method == found.to_best.candidate.cell.method
    assert found.outside is None and found.promising is None and not found.missing


def test_what_is_clearly_below_the_best_is_not_taken_however_cheap() -> None:
    study = fake.study(methods=["full", "lora"], protocol={"seeds": [1, 2, 3], "folds": 1})
    records = []
    for name, level in {"majority": None, "tfidf": 0.3, "head_only": 0.35}.items():
        records += fake.cell(study, name, level, n=400)
    records += fake.cell(study, "full", 0.85, n=400) + fake.cell(study, "lora", 0.62, n=400)
    here = [c for c in group(study, records) if c.task == "topics"]
    found = recommend(here)
    assert (taken(found), found.considered, found.to_best) == ("full", 2, None)
    inside = recommend(here, megabytes(1000))
    assert taken(inside) == "lora"
    assert inside.outside is not None and inside.outside.clear
    assert inside.outside.candidate.over == ("memory",)


def test_points_that_may_be_given_up() -> None:
    here = cells({"full": 0.75, "lora": 0.72, "loha": 0.73, "prompt": 0.74})
    best = recommend(here).best
    assert best is not None
    for within in (0.0, 1.0, 3.0, 100.0):
        found = recommend(here, Budget(within=within))
        assert found.chosen is not None
        loss = best.interval.estimate - found.chosen.interval.estimate
        assert loss <= within / 100 + 1e-9
    assert taken(recommend(here, Budget(within=100.0))) == "lora"
    assert taken(recommend(here, Budget(within=0.0))) == best.cell.method


def test_where_nothing_is_above_the_baselines_the_cheapest_good_baseline_is_taken() -> None:
    low = {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45}
    found = recommend(cells(low))
    assert found.kind == "baseline"
    assert taken(found) == "majority"
    # Neither costs anything, so it is the one of the higher score.
    assert taken(recommend(cells({**low, "tfidf": 0.6}))) == "tfidf"
    probe = recommend(cells({**low, "head_only": 0.9}))
    assert taken(probe) == "head_only"
    assert probe.promising is None  # no method scores higher: more seeds speak for none
    hopeful = recommend(cells({**low, "full": 0.6}))
    if hopeful.kind == "baseline":
        assert hopeful.promising is not None
        assert hopeful.promising.candidate.cell.method == "full"


def test_an_empty_budget_leaves_a_baseline_and_says_what_lies_outside() -> None:
    found = recommend(cells(), megabytes(1))
    assert found.kind == "baseline" and taken(found) in ("majority", "tfidf")
    assert found.outside is not None and found.outside.candidate.cell.method == "full"


def test_a_cost_that_was_not_measured_is_not_inside() -> None:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    records = [
        r for r in fake.whole(study) if not (r.run.stage == "cost" and r.run.method.name == "lora")
    ]
    here = [c for c in group(study, records) if c.task == "topics"]
    found = recommend(here, megabytes(5000))
    assert [c.cell.method for c in found.unmeasured] == ["lora"]
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
    here = [c for c in group(study, records) if c.task == "topics"]
    lora = next(c for c in here if c.method == "lora")
    found = quality(lora)
    assert lost_seeds(lora) == 2 and found is not None and lora.interval is not None
    assert found.estimate == pytest.approx(lora.interval.estimate / 3)
    assert taken(recommend(here)) == "full"
    (candidate,) = (c for c in recommend(here).candidates if c.cell.method == "lora")
    assert candidate.lost == 2 and not candidate.clear


def test_nothing_is_recommended_before_the_baselines_are_there() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [r for r in fake.whole(study) if r.run.method.name != "tfidf"]
    found = recommend([c for c in group(study, records) if c.task == "topics"])
    assert (found.kind, found.chosen, found.missing) == ("none", None, ("tfidf",))
    nothing = recommend([c for c in group(study, []) if c.task == "topics"])
    assert (nothing.kind, nothing.candidates) == ("none", ())
