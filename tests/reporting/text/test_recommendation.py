import re
import shlex

import pytest
from support import fake_records as fake
from support.fake_cells import mostly_collapsed, topic_cells

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.pareto.recommend import Budget, recommend
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.reporting.build import build_report
from paretune.reporting.text.comparison import describe_sample_size
from paretune.reporting.text.formatting import format_cost
from paretune.reporting.text.recommendation import Advice, write_advice


def of(levels=None, budget: Budget | None = None, **more) -> Advice:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    cells = topic_cells(study, fake.whole(study, levels))
    return write_advice(recommend(cells, budget), **more)


def test_three_lines_that_fit_a_terminal_and_the_command() -> None:
    advice = of(study="my study.yaml", store="a b")
    assert advice.take == "full" and advice.kind == "method" and advice.proven
    first, second, third = advice.lines
    assert first == "On topics, take full fine-tuning: 0.79 accuracy, 1.85 GiB peak memory."
    assert re.fullmatch(
        r"  Proven better than every baseline, expected loss \d\.\d points, \d+ % likely best\.",
        second,
    )
    assert re.fullmatch(r"  With less than 1\.85 GiB, take LoRA: \d\.\d points less\.", third)
    assert advice.headline == "Take full fine-tuning: 0.79 accuracy, 1.85 GiB peak memory."
    assert shlex.split(advice.command) == [
        "paretune", "export", "my study.yaml", "--task", "topics", "--model", "e5-small",
        "--method", "full", "--store", "a b",
    ]  # fmt: skip


def test_the_same_in_sentences() -> None:
    advice = of(budget=Budget(within_points=5.0))
    first, second, third, fourth, fifth = advice.reasons
    assert re.fullmatch(
        r"Expected loss \d\.\d points, \d+ % likely best, \d+ % likely over 5 points below the "
        r"best, <1 % likely below constant answer\.",
        third,
    )
    assert first == "Take LoRA: 0.77 accuracy, half of full fine-tuning's memory."
    assert second == "Proven better than every baseline, cheaper than full fine-tuning."
    assert re.match(r"Score: 0\.77 \[.*\] \(60 examples, 3 seeds\), 870 MiB peak memory\.", fourth)
    assert fifth.startswith(
        "It has the least peak memory of all that are expected to score within 5 points of the "
        "best, full fine-tuning (full fine-tuning minus LoRA: 0.0"
    )
    assert advice.explanations == (fourth, fifth)
    assert any(
        text.startswith("To decide between full fine-tuning and LoRA: about")
        for text in advice.changes
    )


@pytest.mark.parametrize("levels", [None, {"full": 0.6, "tfidf": 0.55, "lora": 0.5}])
def test_no_line_is_wider_than_a_terminal(levels) -> None:
    model = {"name": "m", "label": "an-encoder-with-a-long-name-large"}
    task = fake.own_task("a-task-with-a-name-of-forty-characters-xx")
    study = fake.study(tasks=[task], models=[model, "b"], methods=["full", "lora"])
    cells = group_into_cells(study, fake.whole(study, levels))
    for budget in (Budget(), Budget({"memory": 1.0}), Budget(proven=True, within_points=12.5)):
        advice = write_advice(recommend(cells, budget))
        assert 1 <= len(advice.lines) <= 3
        assert max(map(len, advice.lines)) <= 80


def test_with_several_models_the_model_is_named() -> None:
    study = fake.study(models=["a", "b"], methods=["full", "lora"])
    cells = topic_cells(study)
    advice = write_advice(recommend(cells))
    assert advice.take in ("full on a", "full on b")
    assert f"--model {advice.take[-1]} --method full" in advice.command


def test_a_budget_is_named_and_so_is_what_lies_outside() -> None:
    advice = of(budget=Budget({"memory": 900 * 2**20}))
    assert "below the best inside the budget" in advice.reasons[2]
    assert any(
        text.startswith(
            "With a larger budget, full fine-tuning scored higher (1.85 GiB peak memory); +"
        )
        for text in advice.changes
    )
    none = of({"tfidf": 0.6}, budget=Budget({"memory": 2**20}))
    assert none.reasons[0].startswith("Take the baseline TF-IDF: 0.")
    assert none.reasons[1] == "No method fits the budget."
    nothing = of(budget=Budget({"memory": 2**20}))
    assert (
        nothing.reasons
        == nothing.lines
        == (
            "On topics, there is nothing to take.",
            "No method fits the budget.",
            "No baseline scores above the constant answer (0.47).",
        )
    )
    assert any(
        t.startswith("Proven better than every baseline, with the least peak memory: ")
        for t in nothing.changes
    )


def test_a_cost_that_was_not_measured_is_not_taken_for_too_much() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [r for r in fake.whole(study) if r.run.stage != "cost"]
    cells = topic_cells(study, records)
    advice = write_advice(recommend(cells, Budget({"memory": 900 * 2**20})))
    assert "No method is known to fit the budget: a limited cost was not measured" in " ".join(
        advice.reasons
    )


LOW = {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45}


def test_a_task_where_everything_is_below_the_constant_answer_says_so() -> None:
    flat = of(LOW)
    assert flat.reasons == (
        "On topics, there is nothing to take.",
        "Nothing scores above the constant answer (0.47).",
    )
    assert (flat.take, flat.command) == ("", "")
    assert any(text.startswith("More steps (now 80), other rates") for text in flat.changes)


def test_a_guess_is_called_one_and_says_what_would_decide_it() -> None:
    advice = of({**LOW, "full": 0.6})
    assert advice.kind == "guess"
    assert advice.reasons[0].startswith("The best guess is full fine-tuning: 0.")
    assert re.search(r"^Not proven better than [\w -]+: \+\d+ points \[-", advice.reasons[1])
    assert advice.lines[1].startswith("  Not proven better than ")
    other = of({**LOW, "full": 0.6, "tfidf": 0.55})
    assert other.kind == "guess"
    assert other.reasons[-1] == "If a wrong switch is costly, stay with TF-IDF (--proven)."
    (sentence,) = (t for t in advice.changes if t.startswith("To decide between "))
    assert re.search(r": about [\d,]+ seeds on [\d,]+ examples; now 3 seeds, 60 examples", sentence)
    assert "--method full" in advice.command


def test_the_third_line_says_what_would_change_the_recommendation() -> None:
    cheap = of(budget=Budget(within_points=5.0))
    assert cheap.lines[1].startswith(
        "  Proven better than every baseline, cheaper than full fine-tuning"
    )
    assert re.match(r"  To decide between full fine-tuning and LoRA: about [\d,]+ ", cheap.lines[2])
    limited = of(budget=Budget({"memory": 900 * 2**20}))
    assert limited.lines[2] == (
        "  With a larger budget, full fine-tuning scored higher (1.85 GiB peak memory)."
    )
    low = of({"tfidf": 0.6, **LOW})
    assert low.kind == "baseline"
    assert low.lines[2] == (
        "  More steps (now 80), other rates, methods, models or data could change this."
    )


def test_a_rate_at_the_edge_would_change_it_first() -> None:
    study = fake.study(methods=["full"])
    records = [r for r in fake.whole(study) if r.run.method.name != "full"]
    for rate, level in ((1e-4, 0.3), (1e-3, 0.6)):
        run = fake.make_run(study, "tune", "full", 0, learning_rate=rate)
        records.append(fake.record(run, {"selection": fake.answers(level, n=40, part="s")}))
    for seed in (1, 2, 3):
        run = fake.make_run(study, "final", "full", seed, learning_rate=1e-3)
        records.append(fake.record(run, {"test": fake.answers(0.8)}))
    advice = write_advice(recommend(topic_cells(study, records)))
    assert advice.lines[2] == (
        "  Try higher rates for full fine-tuning (1e-3): the highest tried was best."
    )


def test_what_was_not_learned_comes_first_with_steps_and_rates_as_causes() -> None:
    study, records = mostly_collapsed(tfidf=0.7)
    cells = topic_cells(study, records)
    warning = write_advice(recommend(cells)).warnings[0]
    assert warning == (
        "Nothing learned: 7 of 8 seeds give every example the same answer after 60 steps; "
        "train longer or raise the learning rate."
    )
    # The best of the rates tried is their highest: so it says how high they went.
    for rate, level in ((1e-4, 0.3), (1e-3, 0.6)):
        run = fake.make_run(study, "tune", "full", 0, learning_rate=rate)
        records.append(fake.record(run, {"selection": fake.answers(level, n=40, part="s")}))
    cells = topic_cells(study, records)
    advice = write_advice(recommend(cells))
    assert advice.warnings[0].endswith("raise the learning rate (1e-3 is the highest tried).")
    assert (
        "Try higher rates for full fine-tuning (1e-3): the highest tried was best."
        in advice.changes
    )


def test_one_method_that_learned_nothing_is_named() -> None:
    (warning,) = of().warnings
    assert warning.startswith(
        "Nothing learned by prompt tuning: 3 of 3 seeds give every example the same answer"
    )


def test_a_study_of_baselines_alone_has_a_score() -> None:
    """0.1.0 said "No method has a score" above the probe's score."""
    study = fake.study(methods=["head_only"])
    cells = topic_cells(study, fake.whole(study, {"head_only": 0.8}))
    advice = write_advice(recommend(cells))
    assert advice.reasons[0].startswith("Take the baseline linear probe: 0.")
    assert advice.reasons[1] == "No method has a score beside the baselines."
    (task, _) = build_report(study, fake.whole(study, {"head_only": 0.8})).tasks
    assert not any("has a score" in text for text in (*task.sentences, *task.further_sentences))


def test_collapsed_lost_and_unfinished_are_said() -> None:
    study = fake.study(methods=["full", "lora"])
    records = [
        r
        for r in fake.whole(study, {"lora": 0.6})
        if not (r.run.method.name == "full" and r.run.seed == 2)
    ]
    records.append(fake.record(fake.make_run(study, "final", "full", 2), outcome="diverged"))
    waiting = fake.state(fake.make_run(study, "final", "lora", 9))
    cells = topic_cells(study, records, [waiting])
    advice = write_advice(recommend(cells))
    assert advice.take == "full"
    assert "1 of 3 runs of full fine-tuning failed; the expected score counts that." in (
        advice.changes
    )
    # The expectation of a further run leads.
    assert re.match(r"On topics, .* full fine-tuning: 0\.\d\d accuracy expected", advice.lines[0])
    assert "Not finished: LoRA 3 of 3 runs." in advice.warnings
    assert write_advice(recommend([])).reasons == ("On , no method has a score yet.",)


def test_a_claim_on_runs_that_trained_says_so() -> None:
    study = fake.study(methods=["full"], protocol={"seeds": list(range(1, 9))})
    records = fake.whole(study, {"full": 0.99})
    records = [
        fake.record(r.run, outcome="diverged")
        if (r.run.method.name, r.run.stage, r.run.seed) == ("full", "final", 2)
        else r
        for r in records
    ]
    report = build_report(study, records)
    advice = report.tasks[0].advice
    assert advice is not None and advice.proven
    claim = "Proven better than every baseline, of runs that trained (1 of 8 runs failed)"
    assert claim in advice.lines[1] and claim in advice.reasons[1]
    assert report.signs["▲"].endswith(", of runs that trained")


def test_before_a_method_is_trained_no_baseline_is_to_be_taken() -> None:
    study = fake.study(methods=["full", "lora"])
    baselines = [r for r in fake.whole(study) if r.run.method.name in ("tfidf", "head_only")]
    waiting = [fake.state(fake.make_run(study, "final", name, 1)) for name in ("full", "lora")]
    advice = write_advice(recommend(topic_cells(study, baselines, waiting)))
    assert (advice.take, advice.command, advice.kind) == ("", "", "none")
    assert advice.lines == (
        "On topics, nothing has been trained yet.",
        "Still to run: full fine-tuning and LoRA.",
    )


def test_the_papers_protocol_recommends_nothing() -> None:
    study = fake.study(protocol={"preset": "paper"})
    run = fake.make_run(study, "final", "lora", 42, selection="test")
    records = [fake.record(run, {"test": fake.answers(0.7)}), *fake.cell(study, "majority", None)]
    advice = write_advice(recommend(topic_cells(study, records)))
    assert advice.take == "" and "selected on the test part" in advice.reasons[0]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (
            SampleSize(5, 60, None, 1234, None, varies=True, blind=False),
            "To decide between a and b: about 1,300 examples; now 5 seeds, 60 examples; more seeds "
            "alone are not enough, since the test part is too small",
        ),
        (
            SampleSize(5, 60, 14, 99, None, varies=True, blind=False),
            "To decide between a and b: about 14 seeds, or 99 examples; now 5 seeds, 60 examples",
        ),
        (
            SampleSize(3, 60, None, None, (452_608, 9_052_160), varies=True, blind=False),
            "To decide between a and b: more than 1,000 seeds on more than 100,000 examples; now 3 "
            "seeds, 60 examples",
        ),
        (
            SampleSize(3, 60, 1000, 100_000, None, varies=True, blind=False),
            "To decide between a and b: about 1,000 seeds, or 100,000 examples; now 3 seeds, 60 "
            "examples",
        ),
        (
            SampleSize(1, 60, None, 590, None, varies=False, blind=True),
            "To decide between a and b: more seeds on about 590 examples; now 1 seed, 60 examples; "
            "one seed cannot show how much seeds differ",
        ),
        (
            SampleSize(3, 60, 40, None, None, True, False, cross_validated_rows=1456, seconds=30),
            "To decide between a and b: about 40 seeds; now 3 seeds, 60 examples; the seeds take "
            "30.0 s more; more examples alone are not enough, since seeds differ too much; or "
            "about 1,500 labelled rows, cross-validated",
        ),
    ],
)
def test_numbers_to_run_are_rounded_up_and_not_written_out_where_nobody_would_run_them(
    size: SampleSize, text: str
) -> None:
    assert "; ".join(describe_sample_size(size, "a", "b")) == text


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
