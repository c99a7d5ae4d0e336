"""The answer on one screen of a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.document import Report
from paretune.reporting.text.terminal_screen import (
    print_answer,
    print_headlines,
    print_screen,
)


def print_to_text(report: Report, width: int = 80, study: str = "s.yaml") -> str:
    out = io.StringIO()
    print_screen(report, Console(file=out, width=width), study)
    return out.getvalue()


def sample() -> Report:
    """As the sample study: three tasks, four methods, the probe and two baselines."""
    study = fake.study(
        methods=["full", "lora", "loha", "prompt"],
        tasks=[fake.own_task(name) for name in ("routing-en", "paraphrase-en", "follows-en")],
    )
    return build_report(study, fake.whole(study, {"prompt": 0.55}))


@pytest.mark.parametrize("width", [80, 120])
def test_a_study_of_three_tasks_fits_one_screen(width: int) -> None:
    text = print_to_text(sample(), width)
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(cell_len, lines)) <= width
    (head,) = (line for line in lines if "routing-en " in line and "follows-en" in line[30:])
    assert "paraphrase-en" in head  # one table, at 80 columns too


def test_the_table_has_scores_signs_and_memory_of_every_method() -> None:
    text = print_to_text(sample(), 90)
    (row,) = (line for line in text.splitlines() if line.startswith("LoRA "))
    assert re.fullmatch(r"LoRA( +0\.\d\d \[0\.\d\d, 0\.\d\d\] ?[▲≈▼]\*?){3} +870 MiB", row)
    for name in ("full fine-tuning", "LoHa", "prompt tuning", "linear probe", "TF-IDF"):
        assert sum(line.startswith(f"{name} ") for line in text.splitlines()) == 1
    assert "▲ better than every baseline" in text and "* the one to take" in text
    assert "Score: accuracy, 60 test examples, 3 seeds." in " ".join(text.split())


def test_memory_that_was_not_measured_is_said() -> None:
    study = fake.study(tasks=[fake.own_task("routing-en")])
    records = fake.whole(study)
    assert "not measured" not in print_to_text(build_report(study, records))
    without = [record for record in records if record.run.stage != "cost"]
    text = print_to_text(build_report(study, without))
    assert "– memory not measured" in " ".join(text.split())
    assert all(line.endswith("–") for line in text.splitlines() if line.startswith("lora "))


def test_three_lines_a_task_then_where_the_rest_is() -> None:
    parts = print_to_text(sample(), 300, "my study.yaml").split("\n\n")
    assert len(parts) == 8  # sentence, table, three tasks, over all, health, where the rest is
    for name, part in zip(("routing-en", "paraphrase-en", "follows-en"), parts[2:5], strict=True):
        take, why, change = part.splitlines()
        assert take.startswith(f"On {name}, take full fine-tuning: 0.")
        assert why.startswith("  Proven better than every baseline, expected loss ")
        assert change.startswith("  With less than 1.85 GiB, take LoRA: ")
    assert parts[5].startswith("Over all tasks\n  LoRA against full fine-tuning on 3 tasks: -")
    assert "paretune report my study.yaml --details" in parts[7]
    assert "paretune compare my study.yaml full lora" in parts[7]


def test_ranks_are_shown_where_they_need_no_second_table() -> None:
    one = fake.study(methods=["full", "lora"], tasks=[fake.own_task("routing-en")])
    report = build_report(one, fake.whole(one))
    text = print_to_text(report)
    assert re.search(r"\nLoRA +0\.\d\d \[0\.\d\d, 0\.\d\d\] ▲ +\d(–\d)? +870 MiB\n", text)
    assert re.search(r"\n +score \[95 %\] +rank +memory\n", text)
    assert text.count("full fine-tuning: 0.") == 1  # the task's own lines say it
    assert "rank" not in print_to_text(sample()) and print_to_text(sample(), 120).count("rank") == 3
    narrow = print_to_text(report, 32).splitlines()
    assert max(cell_len(line) for line in narrow if not line.startswith("A")) <= 32
    assert sum(line.startswith("LoRA ") for line in narrow) == 1
    assert not any("MiB" in line for line in narrow if line.startswith("LoRA "))


def test_the_answer_comes_before_the_table_in_a_demonstration() -> None:
    study = fake.study(methods=["full", "lora"], tasks=[fake.own_task("routing-en")])
    out = io.StringIO()
    print_answer(
        build_report(study, fake.whole(study)), Console(file=out, width=80), "It took 9 s."
    )
    answer, table = out.getvalue().strip("\n").split("\n\n")
    assert len(answer.splitlines()) == 5
    assert answer.splitlines()[1].startswith("On routing-en, take full fine-tuning: 0.")
    assert answer.endswith("\n  It took 9 s.")
    assert table.splitlines()[2].startswith("full fine-tuning ")


def test_quiet_is_one_line_a_task() -> None:
    out = io.StringIO()
    print_headlines(sample(), Console(file=out, width=40))
    assert [line.partition(",")[0] for line in out.getvalue().splitlines()] == [
        "On routing-en", "On paraphrase-en", "On follows-en",
    ]  # fmt: skip


def test_sentences_are_short() -> None:
    study = fake.study(methods=["full", "lora", "loha", "prompt"])
    for levels in ({}, {"full": 0.5, "lora": 0.52, "loha": 0.48, "prompt": 0.45, "tfidf": 0.6}):
        report = build_report(study, fake.whole(study, levels))
        for task in report.tasks:
            assert task.advice is not None
            for text in (*task.advice.warnings, *task.advice.reasons, *task.advice.changes):
                bare = re.sub(r"\([^()]*\)|\[[^\]]*\]", "", text)
                for sentence in re.split(r"(?<=[.;]) ", bare):
                    assert len(sentence.split()) <= 25, sentence


def test_what_was_not_learned_comes_after_the_three_lines() -> None:
    study = fake.study(methods=["full", "lora"])
    text = print_to_text(
        build_report(study, fake.whole(study, {"full": None, "lora": None, "tfidf": 0.6})), 300
    )
    task = text.split("\n\n")[2].splitlines()
    assert task[0].startswith("On topics, take the baseline TF-IDF: 0.")
    assert task[2].startswith("  Nothing learned: 6 of 6 seeds give every example the same answer")
    assert "seeds constant: 12 of 18" in text


def test_where_nothing_is_to_be_taken_the_reason_is_there() -> None:
    study = fake.study(methods=["full"])
    low = print_to_text(
        build_report(study, fake.whole(study, {"full": 0.4, "tfidf": 0.3, "head_only": 0.3})), 300
    )
    assert "On topics, there is nothing to take.\n  Nothing scores above the constant answer" in low
    records = [r for r in fake.whole(study) if r.run.method.name != "tfidf"]
    text = print_to_text(build_report(study, records), 300)
    assert "Not compared with TF-IDF: no run has trained yet." in text
    empty = print_to_text(build_report(study, []), 300)
    assert "On topics, no" in empty and not any(line == "." for line in empty.splitlines())


def test_the_one_sentence_counts_tasks() -> None:
    assert sample().sentence == (
        "Take full fine-tuning on routing-en, paraphrase-en and follows-en: proven better than "
        "every baseline."
    )
    large = build_report(fake.large(5), fake.whole(fake.large(5)))
    assert "on 5 tasks" in large.sentence


def test_several_models_stand_in_groups_and_many_tasks_in_several_tables() -> None:
    study = fake.large(5)
    text = print_to_text(build_report(study, fake.whole(study)))
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert lines.count("a") == 2 or lines.count("a") == 3  # once in each table
    assert all(re.search(rf"On task{i}, take .+ on [abc]:", text) for i in range(5))


def test_health_says_what_was_lost_and_what_lies_at_the_edge() -> None:
    study = fake.study(methods=["lora"], tasks=[fake.own_task("t")])
    records = fake.whole(study)
    records = [r for r in records if not (r.run.method.name == "lora" and r.run.stage != "cost")]
    for rate, level in ((1e-4, 0.3), (1e-3, 0.7)):
        run = fake.make_run(study, "tune", "lora", 0, learning_rate=rate)
        records.append(fake.record(run, {"selection": fake.answers(level, n=40, part="s")}))
    for seed, outcome in ((1, "ok"), (2, "diverged"), (3, "out_of_memory")):
        run = fake.make_run(study, "final", "lora", seed)
        parts = {"test": fake.answers(0.8)} if outcome == "ok" else {}
        records.append(fake.record(run, parts, outcome))
    health = {one.title: one for one in build_report(study, records).health}
    assert (health["seeds diverged"].text, health["seeds diverged"].alarm) == ("1 of 6", True)
    assert (health["seeds lost"].text, health["seeds constant"].text) == ("1 of 6", "0 of 6")
    assert health["learning rates"].text == "best at the edge of those tried for 1 of 2 methods"


def test_costs_measured_on_a_busy_machine_are_counted() -> None:
    study = fake.study(methods=["lora"], tasks=[fake.own_task("t")])
    records = fake.whole(study)
    fine = build_report(study, records).health
    assert not any("in doubt" in one.title for one in fine)
    for place, record in enumerate(records):
        if record.run.stage == "cost" and record.run.method.name == "lora":
            contradiction = {"own_step_seconds": 0.2, "runs": 3, "ratio": 4.2}
            records[place] = replace(
                record, measured={**record.measured, "contradicted": contradiction}
            )
    (item,) = (o for o in build_report(study, records).health if "in doubt" in o.title)
    assert (item.text, item.alarm) == ("1 of 2", True)
    assert "step times in doubt (busy machine): 1 of 2" in print_to_text(
        build_report(study, records), 300
    )
