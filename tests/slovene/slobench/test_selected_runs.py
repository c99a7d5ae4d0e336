"""Which run answers a task of SloBench, by the selection part alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.statistics.differences import ROW_FACTOR
from paretune.reporting.text.formatting import format_runs
from paretune.store.record import Predictions, Record
from paretune_slovene.slobench.run_selection import SelectedRun, select_run

STUDY = fake.study()


def final(
    method: str,
    seed: int,
    selection: float | None,
    *,
    test: float = 0.5,
    loss: float | None = 0.7,
    **fields: Any,
) -> Record:
    run = fake.make_run(STUDY, "final", method, seed)
    scores = {"test": {"primary": test, "loss": 0.1, "n": 60}}
    if selection is not None:
        scores["selection"] = {"primary": selection, "loss": loss, "n": 20}
    return fake.record(run, result={"scores": scores}, **fields)


def best(*records: Record) -> SelectedRun | None:
    task = STUDY.tasks[0].key
    return select_run([cell for cell in group_into_cells(STUDY, records) if cell.task == task])


def test_the_mean_over_seeds_chooses_the_method_and_then_its_best_seed_answers() -> None:
    selected = best(
        final("full", 1, 0.9), final("full", 2, 0.3), final("full", 3, 0.3),
        final("lora", 1, 0.6), final("lora", 2, 0.7), final("lora", 3, 0.6),
    )  # fmt: skip
    assert selected is not None and (selected.cell.name, selected.record.run.seed) == ("lora", 2)
    assert selected.mean == pytest.approx(1.9 / 3) and (selected.seeds, selected.failed_seeds) == (
        3,
        0,
    )


def test_scores_on_the_test_part_change_nothing() -> None:
    selected = best(final("full", 1, 0.5, test=1.0), final("lora", 1, 0.6, test=0.0))
    assert selected is not None and selected.cell.name == "lora"


def test_ties_go_to_the_lower_loss() -> None:
    selected = best(
        final("full", 1, 0.5, loss=0.9), final("lora", 1, 0.5, loss=0.8),
        final("prompt", 1, 0.5, loss=None), final("lora", 2, 0.5, loss=0.6),
    )  # fmt: skip
    assert selected is not None and (selected.cell.name, selected.record.run.seed) == ("lora", 2)


def test_runs_that_failed_count_in_no_score_and_never_answer() -> None:
    selected = best(
        final("full", 1, 0.9), final("full", 2, 0.95, outcome="diverged"),
        final("full", 3, None, outcome="out_of_memory"), final("lora", 1, 0.4),
    )  # fmt: skip
    assert selected is not None and (selected.cell.name, selected.record.run.seed) == ("full", 1)
    assert selected.mean == pytest.approx(0.9) and (selected.seeds, selected.failed_seeds) == (3, 2)
    selected = best(
        final("full", 1, 0.3), final("full", 2, 0.95, outcome="collapsed"), final("lora", 1, 0.4)
    )
    assert selected is not None and selected.cell.name == "lora"


def test_where_every_run_answers_a_constant_one_of_them_answers() -> None:
    selected = best(
        final("full", 1, 0.3, outcome="collapsed"), final("full", 2, 0.4, outcome="collapsed")
    )
    assert selected is not None and selected.record.run.seed == 2
    assert (selected.mean, selected.seeds, selected.failed_seeds) == (pytest.approx(0.35), 2, 2)


def answered(method: str, seed: int, wrong: int, **fields: Any) -> Record:
    """A final run that has ``wrong`` of 20 selection examples wrong."""
    label = tuple(i % 2 for i in range(20))
    answers = tuple(1 - x if i < wrong else x for i, x in enumerate(label))
    part = Predictions(tuple(map(str, range(20))), label, answers, ((0.0, 0.0),) * 20)
    record = final(method, seed, 1 - wrong / 20, **fields)
    return replace(record, predictions={**record.predictions, "selection": part})


def test_what_it_was_chosen_by_has_intervals() -> None:
    selected = best(answered("full", 1, 4), answered("full", 2, 2), answered("full", 3, 6))
    assert selected is not None and None not in (selected.run_interval, selected.interval)
    of_run = selected.run_interval
    assert (of_run.estimate, of_run.n_seeds, of_run.n_examples) == (0.9, 1, 20)
    assert selected.interval.estimate == pytest.approx(selected.mean) == pytest.approx(0.8)
    assert (selected.interval.n_seeds, selected.interval.n_examples) == (3, 20)
    assert 0.3 < selected.interval.low < 0.7 and selected.interval.share_seeds > 0.1


def test_a_run_that_failed_is_in_no_interval_and_stored_answers_are_needed() -> None:
    two = answered("full", 1, 4), answered("full", 2, 2)
    selected = best(*two, final("full", 3, None, outcome="diverged"))
    whole = best(*two)
    assert selected is not None and whole is not None
    assert selected.interval == whole.interval and (selected.seeds, whole.seeds) == (3, 2)
    without = best(two[0], final("full", 2, 0.9))
    assert without is not None and without.run_interval is None and without.interval is None


def test_the_probe_may_win_but_a_baseline_without_a_model_only_where_nothing_else_is() -> None:
    bare = final("tfidf", 1, 0.99)
    selected = best(final("head_only", 1, 0.6), final("lora", 1, 0.5), bare)
    assert selected is not None and selected.cell.name == "head_only" and not selected.baseline
    selected = best(bare, final("lora", 1, None, outcome="diverged"))
    assert selected is not None and selected.cell.name == "tfidf" and selected.baseline


def test_without_an_ended_run_there_is_none() -> None:
    assert best() is None
    assert best(final("lora", 1, None), final("full", 1, 0.0, outcome="error")) is None


def test_a_run_is_selected_though_selection_parts_differ() -> None:
    study = fake.study(protocol={"seeds": [1, 2, 3], "folds": 1})
    records = [
        replace(
            record,
            predictions={
                **record.predictions,
                "selection": fake.answers(0.8, n=20, seed=place, part=f"own{place}"),
            },
            result={
                **record.result,
                "scores": {"selection": {"primary": 0.5 + place / 10, "loss": 1.0}},
            },
        )
        for place, record in enumerate(fake.crossed_cell(study, "lora", 0.8, 3))
    ]
    selected = select_run([c for c in group_into_cells(study, records) if c.final])
    assert selected is not None and selected.record.run.seed == 3
    assert selected.mean == pytest.approx(0.6)
    assert selected.run_interval is not None and selected.interval is not None
    scores = [
        np.equal(part.label, part.prediction).mean()
        for record in records
        for part in [record.predictions["selection"]]
    ]
    interval, spread = selected.interval, np.std(scores, ddof=1) ** 2
    assert interval.estimate == pytest.approx(np.mean(scores))
    assert (interval.n_examples, format_runs(interval)) == (60, "3 folds")
    # Student's interval of three runs; no surer than their 20 rows, times the factor of folds.
    rows = np.mean([p * (1 - p) / 20 for p in scores])
    least = stats.t.ppf(0.975, 2) * (ROW_FACTOR * max(spread, rows) / 3) ** 0.5
    assert least * 0.95 <= interval.high - interval.estimate <= least * 1.3 or interval.high == 1.0
    assert interval.low < interval.estimate - 0.95 * least
