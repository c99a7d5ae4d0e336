"""Forgetting of cells: a ratio of sums with its interval, and a cost that is never below 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import fake_records as fake
from support.report_texts import find_table, texts_by_method

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.pareto.costs import estimate_cost
from paretune.analysis.secondary_scores import measure_forgetting
from paretune.reporting.build import build_report
from paretune.reporting.page import render_page
from paretune.reporting.tables import build_front_table, build_tables
from paretune.store.record import Record
from paretune.study import Study


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


def test_its_interval_covers_the_true_change() -> None:
    """Texts and runs are drawn anew; 95 % of 200 intervals of 3 runs and 30 blocks, less noise."""
    study, records = measured({"lora": 0.0})
    covered, truth = 0, 0.1
    final = [r for r in records if r.run.method.name == "lora" and r.run.stage == "final"]
    rng = np.random.default_rng(5)
    for _ in range(200):
        tokens = rng.integers(10, 50, 30)
        block = truth + rng.normal(0, 0.15, 30)
        sample = []
        for record in final:
            rise = block + rng.normal(0, 0.03) + rng.normal(0, 0.05, 30)
            stored = {
                "before": (tokens * 3.0).tolist(),
                "after": (tokens * (3.0 + rise)).tolist(),
                "tokens": tokens.tolist(),
            }
            sample.append(replace(record, result={**record.result, "forgetting": stored}))
        forgetting = measure_forgetting(cell_of(study, sample, "lora"))
        assert forgetting is not None
        covered += forgetting.change.low <= truth <= forgetting.change.high
    assert covered >= 180


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
