import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from support import fake_records as fake

from paretune.reporting import disagreement
from paretune.reporting.build import build_report
from paretune.reporting.page import write_page

STUDY = {"tasks": [fake.own_task("t")], "protocol": {"seeds": [1, 2, 3]}}


def records_of(study, answers: dict[str, list[list[int]]], label: list[int]) -> list:
    """One final run for each list of answers, its seed the list's place from 1 on."""
    return [
        fake.record(
            fake.make_run(study, "final", method, seed),
            {"test": fake.predictions(label, prediction)},
        )
        for method, runs in answers.items()
        for seed, prediction in enumerate(runs, start=1)
    ]


def found_in(answers, label, **changes):
    study = fake.study(**{**STUDY, **changes})
    (task,) = build_report(study, records_of(study, answers, label)).tasks
    return task.disagreement


def test_counts_are_over_the_seeds_that_both_have() -> None:
    label = [0, 0, 1, 1]
    full = [[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 1, 0]]
    lora = [[0, 1, 1, 0], [1, 1, 1, 0]]
    table = found_in({"full": full, "lora": lora}, label)
    (pair,) = table.pairs
    assert pair.runs == 2
    # Seed 1: both 2, only full 2. Seed 2: both 1, only full 2, neither 1.
    assert (pair.both, pair.only_a, pair.only_b, pair.neither) == (3, 4, 0, 1)
    assert pair.basis == "4 test examples × 2 pairs of runs"


def test_usual_answers_decide_what_is_named_and_the_clearest_comes_first() -> None:
    label = [0, 0, 1, 2]
    full = [[0, 0, 1, 2], [0, 0, 1, 2], [1, 0, 1, 1]]
    lora = [[1, 2, 1, 2], [1, 2, 1, 2], [0, 2, 1, 2]]
    table = found_in({"full": full, "lora": lora}, label)
    (pair,) = table.pairs
    assert pair.differing == 2
    assert [table.examples[place][0] for place in pair.named] == ["test-1", "test-0"]
    sides = {side.name: side for side in table.sides}
    answers = [table.texts[sides["LoRA"].answers[place]] for place in pair.named]
    assert answers == ["2", "1"]
    assert [sides["LoRA"].scores[place] for place in pair.named] == [0, 0.3333]
    assert [sides["full fine-tuning"].scores[place] for place in pair.named] == [1, 0.6667]
    assert "differ on 2 of 4 test examples; all are listed" in pair.summary


def test_one_run_stands_beside_every_seed_and_strangers_beside_none() -> None:
    label = [0, 1]
    answers = {"full": [[0, 1], [0, 0]], "majority": [[0, 0]]}
    table = found_in(answers, label)
    (pair,) = table.pairs
    assert pair.runs == 2 and pair.both == 2 and pair.only_a == 1 and pair.neither == 1
    study = fake.study(**STUDY)
    records = records_of(study, {"full": [[0, 1]]}, label)
    stranger = fake.make_run(study, "final", "lora", 9)
    records.append(fake.record(stranger, {"test": fake.predictions(label, [1, 1])}))
    (task,) = build_report(study, records).tasks
    lonely = task.disagreement
    assert lonely.pairs[0].runs == 0
    assert lonely.pairs[0].basis == "no seed that both have: nothing can be counted"


def test_what_is_left_out_is_told(monkeypatch) -> None:
    label = np.zeros(90, dtype=int).tolist()
    wrong = np.ones(90, dtype=int).tolist()
    table = found_in({"full": [label], "lora": [wrong]}, label)
    (pair,) = table.pairs
    assert len(pair.named) == disagreement.MAX_LISTED["examples"] == 25 and pair.differing == 90
    assert "the 25 with the clearest difference are listed, 65 are left out" in (pair.summary)
    monkeypatch.setattr(disagreement, "MAX_EXAMPLES", 10)
    few = found_in({"full": [label], "lora": [wrong]}, label)
    assert len(few.examples) == 10
    assert "the 10 with the clearest difference are listed, 80 are left out" in (
        few.pairs[0].summary
    )


def test_labels_are_named_where_the_study_names_them() -> None:
    task = {**fake.own_task("t"), "labels": ["no", "yes"]}
    answers = {"full": [[0, 1]], "lora": [[1, 1]]}
    assert found_in(answers, [0, 1], tasks=[task]).texts == ("no", "yes")
    assert found_in(answers, [0, 1]).texts == ("0", "1")
    unread = {"full": [[0, -1]], "lora": [[1, 1]]}
    assert found_in(unread, [0, 1], tasks=[task]).texts == ("no", "no label", "yes")
    unnamed = {"full": [[0, 2]], "lora": [[1, 1]]}  # three labels, two names
    assert set(found_in(unnamed, [0, 1], tasks=[task]).texts) == {"0", "1", "2"}


def test_the_two_highest_methods_stand_there_first() -> None:
    study = fake.study(**STUDY)
    (task,) = build_report(study, fake.whole(study)).tasks
    table = task.disagreement
    names = {
        table.sides[table.pairs[table.default_pair].a].name,
        table.sides[table.pairs[table.default_pair].b].name,
    }
    assert names == {"full fine-tuning", "LoRA"}
    for pair in table.pairs:
        total = pair.both + pair.only_a + pair.only_b + pair.neither
        assert total == 60 * pair.runs


def test_numbers_and_single_methods_have_none() -> None:
    assert found_in({"full": [[0, 1]]}, [0, 1]) is None
    study = fake.study(**STUDY)
    (task,) = build_report(study, []).tasks
    assert task.disagreement is None


def test_the_page_has_the_pair_without_javascript(tmp_path: Path) -> None:
    study = fake.study(**STUDY)
    records = fake.whole(study)
    text = write_page(build_report(study, records), tmp_path / "r.html").read_text("utf-8")
    assert "60 test examples × 3 pairs of runs" in text
    body = re.search(r'<tbody data-part="examples">(.*?)</tbody>', text, re.S)
    assert body is not None and 0 < body[1].count("<tr>") <= 25
    evil = fake.predictions([0, 1], [1, 1])
    evil = replace(evil, uid=("<img src=x onerror=alert(1)>", "b"))
    other = replace(fake.predictions([0, 1], [0, 1]), uid=evil.uid)
    runs = [fake.make_run(study, "final", name, 1) for name in ("full", "lora")]
    hostile = [
        fake.record(run, {"test": part}) for run, part in zip(runs, (evil, other), strict=True)
    ]
    text = write_page(build_report(study, hostile), tmp_path / "r.html").read_text("utf-8")
    assert "<img src=x" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
