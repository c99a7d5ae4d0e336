"""Which run goes on, by the selection part alone, and which weights stay within a budget."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_records import answers, make_run, record, study as make_study

from paretune.analysis.cells import group_into_cells
from paretune.analysis.run_selection import (
    select_weights_to_drop,
    sort_by_priority,
)
from paretune.store.record import Record
from paretune.study import Study

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
