"""Which run goes on: by the selection part alone, by the mean over the runs that trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.run_selection import SelectedRun, select_run
from paretune.store.record import Predictions, Record

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
    assert (
        selected is not None and selected.run_interval is not None and selected.interval is not None
    )
    assert (
        selected.run_interval.estimate,
        selected.run_interval.n_seeds,
        selected.run_interval.n_examples,
    ) == (0.9, 1, 20)
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
