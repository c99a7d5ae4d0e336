"""Methods over all tasks of a study: the mean, what differs between tasks, what is withheld."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import meta_analysis, oneway
from statsmodels.stats.multitest import multipletests
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.over_tasks import (
    OverTasks,
    TaskEffect,
    combine_effects,
    compare_over_tasks,
    heterogeneity_p_value,
    interval_of_any_task,
)
from paretune.reporting.build import write_over_tasks
from paretune.store.record import Record
from paretune.study import Study


def compare_tasks(study: Study, records: Sequence[Record]) -> tuple[OverTasks, ...]:
    cells = group_into_cells(study, records)
    by_task = [[cell for cell in cells if cell.task == task.key] for task in study.tasks]
    return compare_over_tasks(map(PairwiseComparisons, by_task), study.protocol.reference)


def of(records=None, names="abc", **changes) -> dict[tuple[str, str], OverTasks]:
    tasks = [fake.own_task(name) for name in names]
    study = fake.study(tasks=tasks, methods=["lora", "full"], **changes)
    study_records = (
        fake.whole(study, {"full": 0.8, "lora": 0.7}) if records is None else records(study)
    )
    comparisons = compare_tasks(study, study_records)
    return {(one.method, one.reference): one for one in comparisons}


def test_every_method_stands_beside_full_and_the_useful_baselines() -> None:
    comparisons = of()
    assert set(comparisons) == {
        ("lora", "full"),
        *((method, base) for method in ("lora", "full") for base in ("head_only", "tfidf")),
    }
    one = comparisons["lora", "full"]
    assert [effect.task for effect in one.effects] == ["a", "b", "c"]
    assert one.points == pytest.approx(np.mean([effect.points for effect in one.effects]))
    assert one.low < one.points < one.high and one.failed == ((0, 9), (0, 9))
    assert comparisons["full", "tfidf"].standing == "above"
    chosen = of(protocol={"seeds": [1, 2, 3], "folds": 1, "reference": "lora"})
    assert chosen["full", "lora"].points == -one.points and ("lora", "full") not in chosen


def test_p_values_are_corrected_over_the_whole_table() -> None:
    """statsmodels' Holm, over every model and reference."""
    models = [{"name": "./a", "label": "a"}, {"name": "./b", "label": "b"}]
    study = fake.study(
        tasks=[fake.own_task(name) for name in "abc"], methods=["lora", "full"], models=models
    )
    records = fake.whole(study, {"full": 0.72, "lora": 0.7})
    rows = compare_tasks(study, records)
    assert {row.model for row in rows} == {"a", "b"} and len(rows) == 2 * 5
    expected = multipletests([row.p for row in rows], method="holm")[1]
    assert [row.p_holm for row in rows] == pytest.approx(expected)
    assert any(0 < row.p < 1 and row.p_holm > row.p for row in rows)


def test_tasks_weigh_as_many_rows_as_they_have() -> None:
    effects = [TaskEffect("a", 10.0, 30, 4.0, 29.0), TaskEffect("b", 0.0, 270, 1.0, 269.0)]
    points, half, p = combine_effects(effects)
    assert points == pytest.approx(1.0)
    error = np.sqrt(0.1**2 * 4.0 + 0.9**2 * 1.0)
    assert half == pytest.approx(1.97 * error, rel=0.01)
    assert p == pytest.approx(2 * stats.norm.sf(1.0 / error), rel=0.03)


def test_a_fold_that_failed_changes_no_weight() -> None:
    tasks = [fake.own_task("a"), fake.own_task("b")]
    protocol = {"seeds": [1, 2, 3, 4, 5], "folds": 1}
    study = fake.study(tasks=tasks, methods=["lora", "full"], protocol=protocol)
    a, b, full_a, full_b = (
        fake.crossed_cell(study, method, quality, 5, task=task)
        for method, quality in (("lora", 0.6), ("full", 0.8))
        for task in "ab"
    )
    (row,) = compare_tasks(study, [*fake.without_fold(a, 2), *b, *full_a, *full_b])
    assert [effect.rows for effect in row.effects] == [60, 60] and row.failed == ((1, 10), (0, 10))


def _draw_effects(rng: np.random.Generator, true: list[float]) -> list[TaskEffect]:
    """Effects of tasks of 29 to 260 rows, whose variances are estimated on few degrees."""
    drawn = []
    for mean, rows in zip(true, (29, 56, 100, 260), strict=True):
        variance, freedom = 1000.0 / rows + 4.0, 8.0
        estimated = variance * rng.chisquare(freedom) / freedom
        drawn.append(TaskEffect("t", rng.normal(mean, variance**0.5), rows, estimated, freedom))
    return drawn


def test_equal_methods_are_called_different_in_5_percent() -> None:
    rng = np.random.default_rng(5)
    studies = [_draw_effects(rng, [0.0] * 4) for _ in range(4000)]
    wrong = np.mean([combine_effects(study)[2] < 0.05 for study in studies])
    uneven = np.mean([heterogeneity_p_value(study) < 0.05 for study in studies])
    # Four standard errors of 4,000 draws are 1.4 %.
    assert 0.03 < wrong < 0.064
    assert 0.03 < uneven < 0.07


def test_statsmodels_finds_the_same() -> None:
    rng = np.random.default_rng(7)
    for true in ([0.0] * 4, [-30.0, 30.0, -30.0, 30.0]):
        effects = _draw_effects(rng, true)
        points, variances, freedom = np.array(
            [(e.points, e.variance, e.freedom) for e in effects]
        ).T
        groups = points, variances * (freedom + 1), freedom + 1
        welch = oneway.anova_generic(*groups, use_var="unequal")
        assert heterogeneity_p_value(effects) == pytest.approx(welch.pvalue)
        mean = meta_analysis.combine_effects(points, variances, method_re="iterated", use_t=True)
        (low, high), (scaled_low, scaled_high) = mean.conf_int(use_t=True)[1::2]
        expected = min(low, scaled_low), max(high, scaled_high)
        assert interval_of_any_task(effects) == pytest.approx(expected, rel=1e-5)


def test_effects_that_differ_between_tasks_are_found_and_said() -> None:
    rng = np.random.default_rng(6)
    studies = [_draw_effects(rng, [-12.0, 12.0, -12.0, 12.0]) for _ in range(300)]
    assert np.mean([heterogeneity_p_value(study) < 0.10 for study in studies]) > 0.9

    def turned_on_c(lora: float):
        def records(study):
            even = fake.whole(study, {"full": 0.8, "lora": 0.8})
            turned = fake.whole(study, {"full": 0.95, "lora": lora})
            on_c = [r for r in turned if r.run.task.key == "c"]
            return [*(r for r in even if r.run.task.key != "c"), *on_c]

        return records

    comparison = of(turned_on_c(0.65))["lora", "full"]
    assert comparison.differs_between_tasks
    low, high = comparison.any_task
    assert low < comparison.low and high > comparison.high
    (line, *_) = write_over_tasks([comparison])
    assert line.further.startswith("effects differ between tasks (p ")
    assert " on c to " in line.further
    assert line.further.endswith(f"on any such tasks [{low:+.1f}, {high:+.1f}]")

    wider = of(turned_on_c(0.3))["lora", "full"]
    low, high = wider.any_task
    assert high - low > 100
    (line, *_) = write_over_tasks([wider])
    assert line.further.endswith("; 3 tasks are too few to say anything of others")

    narrow = replace(of(turned_on_c(0.65), names="bc")["lora", "full"], any_task=(-49.2, 44.6))
    (line, *_) = write_over_tasks([narrow])
    assert line.further.endswith("; 2 tasks are too few to say anything of others")


def test_one_run_and_failures_withhold_the_verdict() -> None:
    single = of(protocol={"seeds": [1], "folds": 1})["full", "tfidf"]
    assert single.standing == "unclear" and single.withheld.startswith(
        "full fine-tuning has one run on a that can be compared"
    )

    def failing(study):
        records = fake.whole(study, {"full": 0.8, "lora": 0.75})
        lost = [r for r in records if r.run.method.name == "full" and r.run.seed != 1]
        lost = [r for r in lost if r.run.stage == "final"]
        kept = [r for r in records if r not in lost]
        return [*kept, *(fake.record(r.run, outcome="diverged") for r in lost)]

    comparison = of(failing, protocol={"seeds": [1, 2, 3, 4], "folds": 1})["lora", "full"]
    assert comparison.failed == ((0, 12), (9, 12)) and comparison.standing == "unclear"
    (line, *_) = write_over_tasks([comparison])
    assert "9 of 12 runs of full fine-tuning failed" in line.further
