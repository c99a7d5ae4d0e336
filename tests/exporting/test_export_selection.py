"""Without a method an export hands out what is recommended, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.recommend import Budget, choose
from paretune.errors import MethodError, StudyError
from paretune.exporting.export_selection import FORMS, select_cell, select_form
from paretune.store.record import Record
from paretune.study import MethodSpec, Study


@pytest.fixture
def study() -> Study:
    return fake.study(tasks=[fake.own_task("topics")], methods=["full", "lora"])


def with_weights(records: list[Record]) -> list[Record]:
    """The records, final ones with the selection score of a run that left a model."""
    return [
        replace(
            r, result={**r.result, "scores": {**r.result["scores"], "selection": {"primary": 1}}}
        )
        if r.run.stage == "final"
        else r
        for r in records
    ]


def test_the_recommended_method_is_taken_though_another_scores_higher(study: Study) -> None:
    records = with_weights(fake.whole(study, {"full": 0.85, "lora": 0.8}))
    budget = Budget(within_points=30.0)
    cell, cells = select_cell(study, records, None, None, None, budget)
    chosen = choose(group_into_cells(study, records), budget).chosen
    highest = max((c for c in cells if c.interval), key=lambda c: c.interval.estimate)
    assert chosen is not None and cell.method == chosen.cell.method != highest.method


def test_a_recommended_baseline_has_no_weights_and_the_best_that_has_is_named(study: Study) -> None:
    records = with_weights(fake.whole(study, {"full": 0.5, "lora": 0.6, "tfidf": 0.99}))
    refusal = r"is the baseline tfidf, \d\.\d\d \[.*\], which has no trained weights to export"
    with pytest.raises(StudyError, match=refusal) as error:
        select_cell(study, records, None, None, None)
    assert "The best that was trained is lora, 0." in error.value.remedy
    assert 'model="e5-small" and method="lora" export it.' in error.value.remedy
    assert select_cell(study, records, None, None, "lora")[0].method == "lora"


def test_where_nothing_is_recommended_the_method_must_be_named(study: Study) -> None:
    level = dict.fromkeys(("full", "lora", "head_only"))
    records = with_weights(fake.whole(study, {**level, "tfidf": 0.1}))
    with pytest.raises(StudyError, match=r"no method is recommended\. .*method=.NAME"):
        select_cell(study, records, None, None, None)


def test_solved_examples_of_a_prompt_are_in_no_export(study: Study) -> None:
    run = fake.whole(study, {"full": 0.5, "lora": 0.6})[0].run
    few_shot = run.model_copy(update={"method": MethodSpec(name="few_shot")})
    with pytest.raises(MethodError, match="solved examples of its prompt, which no export holds"):
        select_form("auto", dict.fromkeys(FORMS, ""), few_shot)
