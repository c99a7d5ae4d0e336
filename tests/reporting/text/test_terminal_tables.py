import io

import pytest
from rich.console import Console
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.text.terminal_tables import print_tables


def print_to_text(study, records, states=(), width: int = 200, **more) -> str:
    out = io.StringIO()
    print_tables(build_report(study, records, states, **more), Console(file=out, width=width))
    return out.getvalue()


def line(text: str, *words: str) -> str:
    return next(row for row in text.splitlines() if all(word in row for word in words))


def test_every_score_carries_its_interval_examples_and_seeds() -> None:
    study = fake.study()
    text = print_to_text(study, fake.whole(study))
    row = line(text, " LoRA  ", "1e-3")
    assert "[0." in row
    assert "60 x 3" in row
    assert "1e-3" in row
    assert "better than every baseline" in row
    cost = line(text, " LoRA  ", "870 MiB", "ms (820–900)")
    assert "296 k" in cost


def test_collapse_divergence_and_memory_are_flagged() -> None:
    study = fake.study()
    runs = [fake.make_run(study, "final", "lora", s) for s in (1, 2, 3)]
    records = [
        fake.record(runs[0], {"test": fake.constant()}),
        fake.record(runs[1], outcome="diverged"),
        fake.record(runs[2], outcome="out_of_memory"),
    ]
    text = print_to_text(study, records, width=300)
    row = line(text, " LoRA  ", "60 x 1")
    for flag in ("collapsed 1/3", "diverged 1/3", "out of memory 1/3"):
        assert flag in row
    assert "Memory ran out for LoRA, in 1 of 3 seeds." in text


def test_what_was_not_measured_says_so_and_is_never_zero() -> None:
    study = fake.study()
    records = [r for r in fake.whole(study) if r.run.stage != "cost" or r.run.method.name != "lora"]
    shut = fake.cost(fake.make_run(study, "cost", "full", 1), None)
    records = [r for r in records if r.run_id != shut.run_id]
    text = print_to_text(study, [*records, shut], width=260)
    assert "LoRA" not in text[text.index("Cost. One solo") : text.index("Where the bytes go")]
    assert "not measured: the counter of this system is shut" in text
    assert " 0 MiB" not in text
    assert " 0 KiB" not in text


def test_undecided_and_edge_rates_are_marked() -> None:
    study = fake.study()
    runs = [fake.make_run(study, "tune", "lora", 0, learning_rate=r) for r in (1e-4, 1e-3)]
    records = [fake.record(r, {"selection": fake.answers(0.6, part="s")}) for r in runs]
    final = fake.make_run(study, "final", "lora", 1, learning_rate=1e-4)
    records.append(fake.record(final, {"test": fake.answers(0.6)}))
    text = print_to_text(study, records, width=300)
    assert "1e-4 (runner-up close, lowest tried)" in text
    assert "Runner-up close: the second" in " ".join(text.split())


def test_a_missing_baseline_withholds_the_verdict() -> None:
    study = fake.study()
    records = [r for r in fake.whole(study) if r.run.method.name != "tfidf"]
    text = print_to_text(study, records, width=220)
    assert "better than linear probe, constant answer (no score yet of TF-IDF)" in text
    assert "The best guess is full fine-tuning: 0.79" in text
    assert "Not proven better than every baseline: no score yet of TF-IDF." in text


def test_a_narrow_terminal_gets_several_tables() -> None:
    study = fake.study()
    text = print_to_text(study, fake.whole(study), width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert "e5-small on topics" in text  # one model is told once, in the heading
    assert "[0." in line(print_to_text(study, fake.whole(study), width=80), " LoRA  ", "60 x 3")
    narrow = print_to_text(study, fake.whole(study), width=60)
    assert "[0." in line(narrow, " LoRA  ", "60 x 3")
    assert "rank" not in line(narrow, "method", "beside the baselines")


def test_names_cannot_steer_the_terminal() -> None:
    study = fake.study(models=[{"name": "m", "label": "x\x1b[2J[red]y\n"}])
    text = print_to_text(study, fake.whole(study))
    assert "\x1b" not in text
    assert "x\N{REPLACEMENT CHARACTER}[2J[red]y\N{REPLACEMENT CHARACTER}" in text


def test_the_papers_scores_are_labelled_and_departures_listed() -> None:
    study = fake.study(protocol={"preset": "paper"})
    run = fake.make_run(study, "final", "lora", 42, selection="test")
    records = [fake.record(run, {"test": fake.answers(0.7)})]
    text = print_to_text(study, records, width=300)
    assert "selected on the test part" in line(text, " LoRA  ")
    assert "COPA, prompt tuning: the paper has none" in text


@pytest.mark.parametrize("width", [40, 80])
def test_an_empty_study_is_no_trouble(width: int) -> None:
    text = print_to_text(fake.study(), [], width=width)
    assert "no method has a score yet" in " ".join(text.split())
    assert "Not finished" in text


def test_several_models_are_named_together() -> None:
    study = fake.study(models=["a", "b"])
    text = " ".join(print_to_text(study, fake.whole(study)).split())
    assert "better than every baseline: full fine-tuning and LoRA on every model." in text
    assert (
        "same answer was given to every example by prompt tuning on every model, in 6 of 6 seeds."
        in text
    )
