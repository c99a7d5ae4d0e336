import shlex

import fake_records as fake
import pytest

from paretune.analysis.cells import group
from paretune.analysis.costs import Spread
from paretune.analysis.needed import Needed
from paretune.analysis.recommend import Budget, recommend
from paretune.report.advice import Advice, advice, cost, decides


def of(levels=None, budget: Budget | None = None, **more) -> Advice:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    cells = [c for c in group(study, fake.whole(study, levels)) if c.task == "topics"]
    return advice(recommend(cells, budget), **more)


def test_two_sentences_of_reason_and_the_command() -> None:
    found = of(study="my study.yaml", store="a b")
    assert found.take == "lora"
    assert len(found.reasons) == 2
    first, second = found.reasons
    assert first.startswith("On topics, take lora: 0.7") and "(60 examples, 3 seeds)" in first
    assert "870 MiB peak memory in training by one solo measurement" in first
    assert "cannot be told apart from the highest, full, 0.7" in second
    assert "higher by 0.0" in second
    assert shlex.split(found.command) == [
        "paretune", "export", "my study.yaml", "--task", "topics", "--model", "e5-small",
        "--method", "lora", "--store", "a b",
    ]  # fmt: skip
    assert any(
        text.startswith("To find out whether full is better: about") for text in found.changes
    )


def test_with_several_models_the_model_is_named() -> None:
    study = fake.study(models=["a", "b"], methods=["full", "lora"])
    cells = [c for c in group(study, fake.whole(study)) if c.task == "topics"]
    found = advice(recommend(cells))
    assert found.take in ("lora on a", "lora on b")
    assert f"--model {found.take[-1]} --method lora" in found.command


def test_a_budget_is_named_and_so_is_what_lies_outside() -> None:
    found = of(budget=Budget({"memory": 900 * 2**20}))
    assert "the only one inside the budget" in found.reasons[1]
    assert any(
        text.startswith("A larger budget: full (1.85 GiB peak memory in training")
        for text in found.changes
    )
    none = of(budget=Budget({"memory": 2**20}))
    assert "no method inside the budget is clearly above every baseline" in none.reasons[0]
    assert none.reasons[1] == "No method fits the budget."
    assert any(t.startswith("The cheapest by peak memory in training") for t in none.changes)


def test_a_cost_that_was_not_measured_is_not_taken_for_too_much() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [r for r in fake.whole(study) if r.run.stage != "cost"]
    cells = [c for c in group(study, records) if c.task == "topics"]
    found = advice(recommend(cells, Budget({"memory": 900 * 2**20})))
    said = "No method is known to fit the budget: a limited cost was not measured."
    assert found.reasons[1] == said


def test_points_are_said_and_whether_they_are_shown() -> None:
    found = of({"full": 0.75, "lora": 0.72, "loha": 0.73, "prompt": 0.74}, Budget(within=100.0))
    assert "within 100 points of the highest" in found.reasons[1]
    assert "is shown to be so small" in found.reasons[1]


def test_where_nothing_is_above_the_baselines_it_says_what_to_run() -> None:
    low = {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45}
    flat = of(low)
    assert "no method is clearly above every baseline" in flat.reasons[0]
    assert "the baseline majority: 0." in flat.reasons[0]
    assert flat.command == ""  # nothing was trained that could be exported
    assert any("more seeds or examples are not likely to help" in t for t in flat.changes)
    hopeful = of({**low, "full": 0.6})
    (said,) = (t for t in hopeful.changes if t.startswith("To find out whether full is above"))
    assert "about 13 seeds each in place of 3 together with about 260 test examples" in said


def test_collapsed_lost_and_unfinished_are_said() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [
        r for r in fake.whole(study) if not (r.run.method.name == "full" and r.run.seed == 2)
    ]
    records.append(fake.record(fake.make_run(study, "final", "full", 2), outcome="diverged"))
    waiting = fake.state(fake.make_run(study, "final", "lora", 9))
    cells = [c for c in group(study, records, [waiting]) if c.task == "topics"]
    found = advice(recommend(cells))
    said = "1 of 3 seeds of full diverged or did not fit, and counts as the lowest score there is."
    assert said in found.changes
    assert "1 cell of this task not finished yet." in found.changes
    assert advice(recommend([])).reasons == ("On , no method has a score yet.",)


def test_the_papers_protocol_recommends_nothing() -> None:
    study = fake.study(protocol={"preset": "paper"})
    run = fake.make_run(study, "final", "lora", 42, selection="test")
    records = [fake.record(run, {"test": fake.answers(0.7)}), *fake.cell(study, "majority", None)]
    found = advice(recommend([c for c in group(study, records) if c.task == "topics"]))
    assert found.take == "" and "selected on the test part" in found.reasons[0]


def test_few_seeds_are_said_to_tell_little() -> None:
    study = fake.study(protocol={"seeds": [1], "folds": 1})
    cells = [c for c in group(study, fake.whole(study)) if c.task == "topics"]
    said = "1 seed can tell little apart, so what is cheap stays in; a claim needs five."
    assert said in advice(recommend(cells)).changes
    assert said not in of().changes


def test_numbers_to_run_are_rounded_up_to_two_digits() -> None:
    found = Needed(5, 60, None, 1234, None, varies=True, blind=False)
    assert decides(found).startswith("about 1,300 test examples in place of 60 (found with 80 %")
    assert "14 seeds" in decides(Needed(5, 60, 14, 99, None, varies=True, blind=False))


def test_what_nobody_would_run_is_only_said_to_be_more() -> None:
    found = decides(Needed(3, 60, None, None, (452_608, 9_052_160), varies=True, blind=False))
    assert found.startswith(
        "more than 1,000 seeds each in place of 3 together with more than 100,000 test examples in "
        "place of 60"
    )
    edge = Needed(3, 60, 1000, 100_000, None, varies=True, blind=False)
    assert decides(edge).startswith("about 1,000 seeds each in place of 3, or about 100,000 test")


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("memory", 870 * 2**20, "870 MiB peak memory in training by one solo measurement"),
        ("time", 66.0, "66.0 s to train by one solo measurement"),
        ("time", 600.0, "10.0 min to train by one solo measurement"),
        ("time", 9000.0, "2.5 h to train by one solo measurement"),
        ("inference", 0.011, "11.0 ms an example in inference by one solo measurement"),
    ],
)
def test_costs_say_what_they_stand_on(axis, value: float, text: str) -> None:
    assert cost(axis, Spread(value)) == text
    assert "3 solo measurements" in cost(axis, Spread(value, measurements=3))
