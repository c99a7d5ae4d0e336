"""Scores on the shifted part: their interval, their change, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.secondary_scores import score_shifted
from paretune.reporting.build import build_report
from paretune.store.record import Record


def with_shifted(records: list[Record], quality: float, n: int = 80) -> list[Record]:
    return [
        replace(
            r,
            predictions={
                **r.predictions,
                "test_shifted": fake.answers(quality, n=n, seed=r.run.seed, part="test_shifted"),
            },
        )
        if "test" in r.predictions
        else r
        for r in records
    ]


def records() -> tuple[fake.Study, list[Record]]:
    study = fake.study(tasks=[fake.own_task("topics")])
    return study, fake.whole(study)


def test_the_change_is_the_difference_of_both_scores() -> None:
    study, unshifted = records()
    cell = next(
        c for c in group_into_cells(study, with_shifted(unshifted, 0.5)) if c.method == "lora"
    )
    shifted = score_shifted(cell)
    assert shifted is not None and shifted.change is not None and cell.interval is not None
    assert shifted.score.n_examples == 80 and shifted.score.n_seeds == 3
    gap = shifted.score.estimate - cell.interval.estimate
    assert shifted.change.estimate == pytest.approx(gap)
    assert shifted.change.low < gap < shifted.change.high
    # Two independent parts: wider than either score alone.
    width = shifted.change.high - shifted.change.low
    assert width > shifted.score.high - shifted.score.low


def test_verdicts_are_those_of_the_test_part() -> None:
    study, unshifted = records()
    (plain,) = build_report(study, unshifted).tasks
    (shifted,) = build_report(study, with_shifted(unshifted, 0.1)).tasks
    assert plain.find_table("shifted") is None and shifted.find_table("shifted") is not None
    assert shifted.sentences == plain.sentences and shifted.advice == plain.advice
    assert [row.verdict for row in shifted.cells] == [row.verdict for row in plain.cells]


def test_runs_on_another_version_of_the_file_are_left_out() -> None:
    study, unshifted = records()
    older = with_shifted(unshifted, 0.5)
    (first, *rest) = [r for r in older if r.run.method.name == "lora" and r.run.stage == "final"]
    other = {**first.predictions, "test_shifted": fake.answers(0.5, n=30, part="test_shifted")}
    changed = [replace(r, predictions=other) if r is first else r for r in older]
    cell = next(c for c in group_into_cells(study, changed) if c.method == "lora")
    shifted = score_shifted(cell)
    assert shifted is not None and shifted.change is None
    assert (shifted.score.n_seeds, shifted.score.n_examples) == (len(rest), 80)
