"""What a report says of a race: what it stands for, and what was stopped."""

from __future__ import annotations

import re

import numpy as np
from support import fake_cells

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.recommend import Budget, recommend
from paretune.reporting.build import build_report, describe_race
from paretune.store.record import Record
from paretune.study import Study

LEVELS = {"majority": 0.5, "tfidf": 0.55, "head_only": 0.6}
APART = LEVELS | {"full": 0.95, "lora": 0.75, "prompt": 0.7, "ia3": 0.65}


def stopped(count: int) -> tuple[Study, list[Record]]:
    study = fake_cells.raced()
    records = fake_cells.draw_records(study, APART, np.random.default_rng(0), rows=300)
    baselines = ("majority", "tfidf", "head_only")
    kept = [
        r
        for r in records
        if r.run.stage == "cost" or r.run.method.name in baselines or r.run.seed <= count
    ]
    return study, kept


def test_every_sentence_names_the_maximum_and_who_was_stopped() -> None:
    report = build_report(*stopped(2))
    (task,) = report.tasks
    assert task.advice is not None and not report.unfinished
    text = " ".join(task.advice.reasons)
    assert re.search(
        r"A race: (9\d|>99) % likely, 5 seeds of each method would give the same answer", text
    )
    assert "more runs could not change the choice: full fine-tuning after 2, LoRA after 2" in text
    assert "Not proven better than linear probe: a race ended before all seeds" in text
    flags = {row.title: row.flags for row in task.methods}
    assert "stopped after 2 of 5 seeds: more could not change the choice" in flags["LoRA"]
    assert all(row.at_most_points_worse is None for row in task.methods)


def test_a_race_that_is_not_over_says_so() -> None:
    report = build_report(*stopped(1))
    (task,) = report.tasks
    assert task.advice is not None and report.unfinished
    assert any("The race is not over" in sentence for sentence in task.advice.reasons)


def test_with_all_runs_there_is_nothing_to_say() -> None:
    (task,) = build_report(*stopped(5)).tasks
    assert task.advice is not None
    assert not any("race" in sentence for sentence in task.advice.reasons)


def test_other_limits_than_those_that_were_raced_to_have_their_own_chance() -> None:
    study, records = stopped(2)
    cells = group_into_cells(study, records)
    small = recommend(cells, Budget({"memory": 1000 * 2**20}))
    assert small.chosen is not None and small.chosen.cell.method == "lora"
    (first, *_) = describe_race(study, cells, small)
    assert "likely, 5 seeds of each method would give the same answer" in first
