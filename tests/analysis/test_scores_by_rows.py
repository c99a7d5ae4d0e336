"""Comparisons on shares of the labelled rows, and from how many of them on a lead is proven."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import fake_records as fake
from support.shared_rows import shared_rows

from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.fewer_rows import (
    LeadByRows,
    Levels,
    compare_on_shares,
    count_labelled_rows,
    list_leads,
)
from paretune.analysis.over_tasks import compare_over_tasks
from paretune.store.record import Record
from paretune.study import Study


def compare(study: Study, records: list[Record]) -> dict[str, Levels]:
    cells = group_into_cells(study, records)
    reference = study.protocol.reference
    return {
        task.key: compare_on_shares(
            PairwiseComparisons([c for c in cells if c.task == task.key], reference), reference
        )
        for task in study.tasks
    }


def find(leads: list[LeadByRows], method: str, rival: str, task: str = "topics") -> LeadByRows:
    (lead,) = [x for x in leads if (x.task, x.method, x.rival) == (task, method, rival)]
    return lead


def test_each_share_is_compared_as_if_it_were_all_rows() -> None:
    study, records = shared_rows()
    levels = compare(study, records)["topics"]
    assert list(levels) == [0.25, 0.5, 1.0]
    for share in (0.25, 0.5):
        # A study whose rows were those of the share alone.
        alone = [
            replace(record, run=record.run.on_rows(1))
            for record in records
            if record.run.rows == share
        ]
        cells = group_into_cells(study, alone)
        expected = PairwiseComparisons(cells, study.protocol.reference).pairs("e5-small")
        actual = levels[share].pairs("e5-small")
        assert [(p.a, p.b, p.p_holm, p.difference) for p in actual] == [
            (p.a, p.b, p.p_holm, p.difference) for p in expected
        ]
        assert {p.standing for p in actual} != {"unclear"}


def test_rows_are_counted_outside_each_fold() -> None:
    study, records = shared_rows()
    cells = group_into_cells(study, records)
    assert [count_labelled_rows(cells, share) for share in (0.25, 0.5, 1.0)] == [50, 100, 200]
    assert count_labelled_rows(fake.topic_cells(fake.study()), 1.0) is None


def test_leads_are_proven_from_all_rows_downwards() -> None:
    study, records = shared_rows()
    leads = list_leads(compare(study, records), "lora")
    pairs = [(lead.method, lead.rival) for lead in leads]
    useful = ("head_only", "tfidf")
    assert sorted(pairs) == sorted(
        [("full", "lora"), *((method, base) for method in ("lora", "full") for base in useful)]
    )
    lead = find(leads, "lora", "tfidf")
    assert lead.least_share == 0.5
    assert lead.standings == {0.25: "unclear", 0.5: "above", 1.0: "above"}
    assert find(leads, "full", "tfidf").least_share == 1.0
    assert find(leads, "full", "lora").least_share is None
    points, low, high = lead.points[1.0]
    assert points == pytest.approx(33, abs=8) and low < points < high


@pytest.mark.parametrize(
    ("standings", "least"),
    [
        ({0.25: "above", 0.5: "unclear", 1.0: "above"}, 1.0),
        ({0.25: "above", 0.5: "above", 1.0: "unclear"}, None),
        ({0.25: "above", 0.5: "above"}, None),
        ({0.25: "below", 0.5: "above", 1.0: "above"}, 0.5),
    ],
)
def test_a_gap_ends_what_is_proven(standings: dict, least: float | None) -> None:
    assert LeadByRows("t", "m", "a", "b", {}, standings).least_share == least


def test_over_all_tasks_each_share_is_that_of_its_comparisons() -> None:
    study, records = shared_rows(("topics", "entailment"))
    tasks = compare(study, records)
    leads = list_leads(tasks, "lora")
    lead = find(leads, "lora", "tfidf", task="")
    assert leads[0].task == ""
    for share in (0.25, 0.5, 1.0):
        rows = compare_over_tasks([levels[share] for levels in tasks.values()], "lora")
        (row,) = [r for r in rows if (r.method, r.reference) == ("lora", "tfidf")]
        assert lead.points[share] == (row.points, row.low, row.high)
        assert lead.standings[share] == row.standing


def test_shares_of_one_method_alone_are_no_comparison() -> None:
    study, records = shared_rows()
    alone = [r for r in records if r.run.rows == 1 or r.run.method.name == "lora"]
    assert compare(study, alone)["topics"] == {}


def test_a_share_is_judged_when_all_its_runs_have_ended() -> None:
    study, records = shared_rows()
    last = next(r for r in records if r.run.rows == 0.5 and r.run.method.name == "lora")
    lead = find(list_leads(compare(study, [r for r in records if r is not last])), "lora", "tfidf")
    assert lead.standings == {0.25: "unclear", 0.5: "unclear", 1.0: "above"}
    assert lead.least_share == 1.0


def test_over_tasks_a_share_of_few_folds_proves_nothing() -> None:
    study, records = shared_rows(("topics", "entailment"))
    begun = [
        r
        for r in records
        if r.run.rows == 1 or r.run.method.name == "tfidf" or r.run.outer.index == 0
    ]
    lead = find(list_leads(compare(study, begun)), "lora", "tfidf", task="")
    assert lead.standings == {0.25: "unclear", 0.5: "unclear", 1.0: "above"}


def test_over_tasks_two_folds_each_prove_nothing_whatever_ends_the_study() -> None:
    study, records = shared_rows(("topics", "entailment"))
    begun = [r for r in records if r.run.rows == 1 and r.run.outer.index < 2]
    cells = [replace(cell, judged_at_end=False) for cell in group_into_cells(study, begun)]
    rows = compare_over_tasks(
        PairwiseComparisons([cell for cell in cells if cell.task == task.key])
        for task in study.tasks
    )
    assert rows and {row.withheld for row in rows} == {"under three common folds"}


def test_what_reads_no_training_rows_is_the_same_on_every_share() -> None:
    study, records = shared_rows()
    untuned = [
        fake.record(
            r.run.model_copy(
                update={"method": fake.MethodSpec(name="untuned"), "learning_rate": None}
            ),
            r.predictions,
        )
        for r in records
        if r.run.method.name == "head_only" and r.run.rows == 1
    ]
    levels = compare(study, [*records, *untuned])["topics"]
    scores = [
        cell.interval.estimate
        for level in levels.values()
        for cell in level.cells
        if cell.name == "untuned" and cell.interval
    ]
    assert len(scores) == 3 and len({*scores}) == 1
