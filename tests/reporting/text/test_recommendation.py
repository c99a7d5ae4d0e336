import shlex

import pytest
from support import fake_records as fake
from support.fake_cells import mostly_collapsed, topic_cells

from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.pareto.recommendation import Budget
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.reporting.build import build_report
from paretune.reporting.text.cost_amounts import format_cost
from paretune.reporting.text.recommendation import Advice, write_advice
from paretune.reporting.text.sample_sizes import describe_sample_size


def of(levels=None, budget: Budget | None = None, **more) -> Advice:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    cells = topic_cells(study, fake.whole(study, levels))
    return write_advice(recommend(cells, budget), **more)


def test_two_sentences_of_reason_and_the_command() -> None:
    found = of(study="my study.yaml", store="a b")
    assert found.take == "lora"
    assert len(found.reasons) == 2
    first, second = found.reasons
    assert first.startswith("On topics, take lora: 0.7") and "(60 examples, 3 seeds)" in first
    assert "870 MiB peak memory" in first
    assert "no clear difference from the highest, full (full minus lora: 0.0" in second
    assert shlex.split(found.command) == [
        "paretune", "export", "my study.yaml", "--task", "topics", "--model", "e5-small",
        "--method", "lora", "--store", "a b",
    ]  # fmt: skip
    assert any(
        text.startswith("Would decide between full and lora: about") for text in found.changes
    )


def test_with_several_models_the_model_is_named() -> None:
    study = fake.study(models=["a", "b"], methods=["full", "lora"])
    cells = topic_cells(study)
    found = write_advice(recommend(cells))
    assert found.take in ("lora on a", "lora on b")
    assert f"--model {found.take[-1]} --method lora" in found.command


def test_a_budget_is_named_and_so_is_what_lies_outside() -> None:
    found = of(budget=Budget({"memory": 900 * 2**20}))
    assert "the only one inside the budget" in found.reasons[1]
    assert any(
        text.startswith("A larger budget: full (1.85 GiB peak memory") for text in found.changes
    )
    none = of({"tfidf": 0.6}, budget=Budget({"memory": 2**20}))
    assert none.reasons[0].startswith("On topics, take the baseline tfidf: 0.")
    assert none.reasons[1] == "No method fits the budget."
    assert any(
        t.startswith("Clearly above every baseline, with the least peak memory: ")
        for t in none.changes
    )
    nothing = of(budget=Budget({"memory": 2**20}))
    assert nothing.reasons == (
        "On topics, there is nothing to take.",
        "No method fits the budget. No baseline scores above the constant answer (majority, 0.47).",
    )


def test_a_cost_that_was_not_measured_is_not_taken_for_too_much() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [r for r in fake.whole(study) if r.run.stage != "cost"]
    cells = topic_cells(study, records)
    found = write_advice(recommend(cells, Budget({"memory": 900 * 2**20})))
    said = "No method is known to fit the budget: a limited cost was not measured."
    assert found.reasons[1].startswith(said)


def test_points_are_said_and_whether_they_are_shown() -> None:
    found = of(
        {"full": 0.75, "lora": 0.72, "loha": 0.73, "prompt": 0.74}, Budget(max_loss_points=100.0)
    )
    assert "within 100 points of the highest" in found.reasons[1]
    assert "The interval shows that the loss is so small" in found.reasons[1]


LOW = {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45}


def test_a_task_where_everything_is_below_the_constant_answer_says_so() -> None:
    flat = of(LOW)
    assert flat.reasons == (
        "On topics, there is nothing to take.",
        "Nothing scores above the constant answer (majority, 0.47).",
    )
    assert (flat.take, flat.command) == ("", "")
    assert "More steps (80 now), other rates, methods, models or data may help." in flat.changes


def test_a_guess_is_called_one_and_says_what_would_decide_it() -> None:
    found = of({**LOW, "full": 0.6})
    assert found.kind == "guess"
    assert found.reasons[0].startswith("On topics, the best guess is full: 0.")
    assert "It is not proven: full minus " in found.reasons[1]
    assert "no clear difference (p 0." in found.reasons[1]
    assert len(found.reasons) == 2  # no baseline but the majority answer to stay with
    other = of({**LOW, "full": 0.6, "tfidf": 0.57})
    assert other.kind == "guess"
    assert other.reasons[2] == "If a wrong choice is costly, stay with tfidf."
    (said,) = (t for t in found.changes if t.startswith("Would decide between full and "))
    assert "about 13 seeds each (3 now) together with about 260 test examples (60 now)" in said
    assert "--method full" in found.command


def test_what_was_not_learned_comes_first_with_steps_and_rates_as_causes() -> None:
    study, records = mostly_collapsed(tfidf=0.7)
    cells = topic_cells(study, records)
    (said,) = write_advice(recommend(cells)).warnings
    assert said == (
        "Nothing learned: 7 of 8 seeds are constant after 60 steps; "
        "train longer or raise the learning rate."
    )
    # The best of the rates tried is their highest: so it says how high they went.
    for rate, level in ((1e-4, 0.3), (1e-3, 0.6)):
        run = fake.make_run(study, "tune", "full", 0, learning_rate=rate)
        records.append(fake.record(run, {"selection": fake.answers(level, n=40, part="s")}))
    cells = topic_cells(study, records)
    found = write_advice(recommend(cells))
    assert found.warnings[0].endswith("raise the learning rate (1e-3 is the highest tried).")
    assert "The best rate was the highest tried for full (1e-3): try higher rates." in found.changes


def test_one_method_that_learned_nothing_is_named() -> None:
    (said,) = of().warnings
    assert said.startswith("Nothing learned by prompt: 3 of 3 seeds are constant after 80 steps;")


def test_a_study_of_baselines_alone_has_a_score() -> None:
    """0.1.0 said "No method has a score" above the probe's score."""
    study = fake.study(methods=["head_only"])
    cells = topic_cells(study, fake.whole(study, {"head_only": 0.8}))
    found = write_advice(recommend(cells))
    assert found.reasons[0].startswith("On topics, take the baseline head_only: 0.")
    assert found.reasons[1] == "No method was trained beside the baselines."
    (task, _) = build_report(study, fake.whole(study, {"head_only": 0.8})).tasks
    assert not any("has a score" in text for text in (*task.sentences, *task.further_sentences))


def test_collapsed_lost_and_unfinished_are_said() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [
        r for r in fake.whole(study) if not (r.run.method.name == "full" and r.run.seed == 2)
    ]
    records.append(fake.record(fake.make_run(study, "final", "full", 2), outcome="diverged"))
    waiting = fake.state(fake.make_run(study, "final", "lora", 9))
    cells = topic_cells(study, records, [waiting])
    found = write_advice(recommend(cells))
    said = (
        "1 of 3 seeds of full diverged or ran out of memory, and count as the lowest "
        "possible score."
    )
    assert said in found.changes
    assert "1 cell of this task not finished yet." in found.changes
    assert write_advice(recommend([])).reasons == ("On , no method has a score yet.",)


def test_the_papers_protocol_recommends_nothing() -> None:
    study = fake.study(protocol={"preset": "paper"})
    run = fake.make_run(study, "final", "lora", 42, selection="test")
    records = [fake.record(run, {"test": fake.answers(0.7)}), *fake.cell(study, "majority", None)]
    found = write_advice(recommend(topic_cells(study, records)))
    assert found.take == "" and "selected on the test part" in found.reasons[0]


def test_few_seeds_are_said_to_tell_little() -> None:
    study = fake.study(protocol={"seeds": [1], "folds": 1})
    cells = topic_cells(study)
    said = "With 1 seed few differences are clear, so cheap ones stay; a claim needs 5."
    assert said in write_advice(recommend(cells)).changes
    assert said not in of().changes


def test_numbers_to_run_are_rounded_up_to_two_digits() -> None:
    found = SampleSize(5, 60, None, 1234, None, varies=True, blind=False)
    assert describe_sample_size(found).startswith(
        "about 1,300 test examples (60 now); seeds alone would not"
    )
    assert "14 seeds" in describe_sample_size(
        SampleSize(5, 60, 14, 99, None, varies=True, blind=False)
    )


def test_what_nobody_would_run_is_only_said_to_be_more() -> None:
    found = describe_sample_size(
        SampleSize(3, 60, None, None, (452_608, 9_052_160), varies=True, blind=False)
    )
    assert found.startswith(
        "more than 1,000 seeds each (3 now) together with more than 100,000 test examples (60 now)"
    )
    edge = SampleSize(3, 60, 1000, 100_000, None, varies=True, blind=False)
    assert describe_sample_size(edge).startswith(
        "about 1,000 seeds each (3 now), or about 100,000 test"
    )


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("memory", 870 * 2**20, "870 MiB peak memory"),
        ("time", 66.0, "66.0 s to train"),
        ("time", 600.0, "10.0 min to train"),
        ("time", 9000.0, "2.5 h to train"),
        ("inference", 0.011, "11.0 ms an example in inference"),
    ],
)
def test_costs_say_what_they_stand_on(axis, value: float, text: str) -> None:
    assert format_cost(axis, CostEstimate(value)) == text
    assert "mean of 3 measurements" in format_cost(axis, CostEstimate(value, measurements=3))
