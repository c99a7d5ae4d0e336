"""Which run goes on, by the selection part alone, and which weights stay within a budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import fake_records as fake
from support.fake_records import answers, make_run, record, study as make_study

from paretune.analysis.cells import group_into_cells
from paretune.analysis.run_selection import (
    SelectedRun,
    best_runs_fit,
    select_run,
    select_weights_to_drop,
    sort_by_priority,
)
from paretune.store.record import Predictions, Record
from paretune.study import Study

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


SIZE = {"full": 100, "lora": 4, "prompt": 1}


def make_records(study: Study, **qualities: list[float]) -> list[Record]:
    """Final runs of the first task: of each method one seed for each selection quality."""
    records = []
    for method, each in qualities.items():
        for seed, quality in enumerate(each, 1):
            selection = answers(quality, seed=seed, part="selection")
            test = answers(0.6, seed=seed)
            kept = {"weights": f"{method}{seed}", "trained_bytes": SIZE[method]}
            parts = {"selection": selection, "test": test}
            records.append(record(make_run(study, "final", method, seed), parts, result=kept))
    return records


def names(records: list[Record]) -> list[str]:
    return [str(r.result["weights"]) for r in records]


def test_the_best_of_every_method_come_before_other_seeds() -> None:
    study = make_study()
    records = make_records(study, full=[0.3, 0.9, 0.6], lora=[0.9, 0.3], prompt=[0.5])
    cells = group_into_cells(study, records)
    assert names(sort_by_priority(records, cells)) == [
        "prompt1",
        "lora1",
        "full2",
        "lora2",
        "full3",
        "full1",
    ]
    first = sort_by_priority(records, cells, {("topics", "e5-small", "full")})
    assert names(first) == ["full2", "prompt1", "lora1", "lora2", "full3", "full1"]


@pytest.mark.parametrize(
    ("budget", "recommended", "dropped"),
    [
        (309, (), []),
        (308, (), ["full1"]),
        (109, (), ["full3", "full1"]),
        (108, (), ["lora2", "full3", "full1"]),
        (104, (), ["full2", "full3", "full1"]),
        (104, ("full",), ["lora1", "lora2", "full3", "full1"]),
        (9, ("full",), ["full2", "full3", "full1"]),
        (0, ("full",), ["full2", "prompt1", "lora1", "lora2", "full3", "full1"]),
    ],
)
def test_what_does_not_fit_is_passed_over(
    budget: int, recommended: tuple[str, ...], dropped: list[str]
) -> None:
    study = make_study()
    records = make_records(study, full=[0.3, 0.9, 0.6], lora=[0.9, 0.3], prompt=[0.5])
    cells = group_into_cells(study, records)
    cell_keys = {("topics", "e5-small", method) for method in recommended}
    assert names(select_weights_to_drop(records, cells, budget, cell_keys)) == dropped
    assert best_runs_fit(records, cells, budget) is (budget >= 105)


def test_runs_that_the_study_no_longer_has_go_first() -> None:
    study = make_study()
    records = make_records(study, full=[0.9], lora=[0.9])
    less = make_study(methods=["lora"])
    assert names(sort_by_priority(records, group_into_cells(less, records))) == ["lora1", "full1"]


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [("2GiB", 2 * 2**30), ("500 MB", 500_000_000), (0, 0), (1000, 1000), (None, 4 * 2**30)],
)
def test_the_budget_is_a_size_and_no_part_of_what_a_study_is_known_by(
    written: Any, bytes_: int
) -> None:
    protocol = {} if written is None else {"keep_weights": written}
    study = make_study(protocol=protocol)
    assert study.protocol.keep_weights == bytes_
    assert study.study_hash == make_study(protocol={}).study_hash
    assert "keep_weights" not in study.canonical_form()["protocol"]
