"""Forgetting, the shifted part and answers without a label; no verdict feels them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import fake_records as fake
from support.fake_records import topic_cells
from support.report_texts import find_table, texts_by_method

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.costs import estimate_cost
from paretune.analysis.secondary_scores import (
    measure_forgetting,
    score_shifted,
)
from paretune.metrics.classification import NO_LABEL
from paretune.reporting.build import build_report
from paretune.reporting.page import render_page
from paretune.reporting.tables import build_front_table, build_tables
from paretune.store.record import Predictions, Record
from paretune.study import Run, Study


def measured(changes: dict[str, float]) -> tuple[Study, list[Record]]:
    """Final runs of the methods in ``changes`` with their mean rise."""
    study = fake.study(tasks=[fake.own_task("topics")])
    records = []
    for record in fake.whole(study):
        change = changes.get(record.run.method.name)
        if change is not None and record.run.stage == "final":
            stored = fake.forgetting(record.run.seed, change)
            record = replace(record, result={**record.result, "forgetting": stored})
        records.append(record)
    return study, records


def cell_of(study: Study, records: list[Record], method: str) -> Cell:
    return next(c for c in group_into_cells(study, records) if c.method == method)


def test_the_change_is_a_mean_over_tokens_and_runs() -> None:
    study, records = measured({"lora": 0.2})
    cell = cell_of(study, records, "lora")
    forgetting = measure_forgetting(cell)
    assert forgetting is not None
    stored = [r.result["forgetting"] for r in cell.final]
    changes = [(sum(s["after"]) - sum(s["before"])) / sum(s["tokens"]) for s in stored]
    assert forgetting.change.estimate == pytest.approx(np.mean(changes))
    assert forgetting.change.low < np.mean(changes) < forgetting.change.high
    assert (forgetting.change.n_examples, forgetting.change.n_seeds) == (40, 3)
    assert forgetting.after - forgetting.before == pytest.approx(forgetting.change.estimate)
    # Wider than the scatter of runs alone: blocks differ too.
    assert forgetting.standard_error > np.std(changes, ddof=1) / 3**0.5
    assert measure_forgetting(cell_of(study, records, "full")) is None


def test_it_is_an_axis_of_the_front_where_a_gain_is_no_merit() -> None:
    study, records = measured({"full": 0.5, "lora": -0.2})
    (task,) = build_report(study, records).tasks
    assert task.fronts[-1].axis == "forgetting"
    gained = estimate_cost(cell_of(study, records, "lora"), "forgetting")
    lost = estimate_cost(cell_of(study, records, "full"), "forgetting")
    assert gained is not None and gained.value == 0.0 and gained.standard_error > 0
    assert lost is not None and lost.value == pytest.approx(0.5, abs=0.1)
    assert texts_by_method(build_front_table(task))["LoRA"][-1].startswith("0.000 nats")


def test_it_changes_no_verdict_and_stands_in_every_output() -> None:
    study, records = measured({"full": 0.5, "lora": 0.1})
    report = build_report(study, records)
    (task,) = report.tasks
    (plain,) = build_report(study, measured({})[1]).tasks
    assert task.sentences == plain.sentences and plain.find_table("forgetting") is None
    assert [row["method"] for row in find_table(task, "forgetting").rows] == ["full", "lora"]
    assert "What training cost the language model" in render_page(report, lambda: "")
    table = next(t for t in build_tables(report) if t.name == "forgetting")
    assert len(table.rows) == 2


def with_shifted(records: list[Record], quality: float, n: int = 80) -> list[Record]:
    def shift(run: Run) -> dict[str, Predictions]:
        return {"test_shifted": fake.answers(quality, n=n, seed=run.seed, part="test_shifted")}

    return fake.add_parts(records, shift)


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
    # Two independent parts of 60 and 80 rows, at least.
    rows = (0.25 * 0.8 / 60 + 0.25 / 80) ** 0.5
    assert shifted.change.high - shifted.change.low > 2 * rows


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


def unread(part: Predictions, count: int) -> Predictions:
    """The first ``count`` answers named no label."""
    answers = (*(NO_LABEL for _ in range(count)), *part.prediction[count:])
    return replace(part, prediction=answers, scores=tuple(() for _ in answers))


def text_study() -> tuple[Study, list[Record]]:
    study = fake.study(methods=["lora"], tasks=[fake.own_task("topics")])
    records = list(fake.cell(study, "majority", None))
    for seed in study.protocol.seeds:
        run = fake.make_run(study, "final", "lora", seed).model_copy(update={"readout": "text"})
        records.append(fake.record(run, {"test": unread(fake.answers(0.9, seed=seed), 6)}))
    return study, records


def test_the_share_of_answers_without_a_label_is_told() -> None:
    study, records = text_study()
    cells = {cell.method: cell for cell in topic_cells(study, records)}
    assert cells["lora"].unread_share == pytest.approx(6 / 60)
    assert cells["majority"].unread_share == 0.0
    (task,) = build_report(study, records, []).tasks
    sentences = [s for s in task.sentences if s.startswith("No label was found")]
    assert len(sentences) == 1 and "which count as wrong: 10.0% of LoRA" in sentences[0]
