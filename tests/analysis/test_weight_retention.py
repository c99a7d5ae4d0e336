"""Which trained weights stay within a budget: the recommended first, small before large."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_records import answers, make_run, record, study

from paretune.analysis.cells import group_into_cells
from paretune.analysis.weight_retention import (
    best_runs_fit,
    select_weights_to_drop,
    sort_by_priority,
)
from paretune.errors import StudyError
from paretune.store.record import Record
from paretune.study import Study

SIZE = {"full": 100, "lora": 4, "prompt": 1}


def records(given: Study, **qualities: list[float]) -> list[Record]:
    """Final runs of the first task: of each method one seed for each selection quality."""
    found = []
    for method, each in qualities.items():
        for seed, quality in enumerate(each, 1):
            selection = answers(quality, seed=seed, part="selection")
            test = answers(0.6, seed=seed)
            kept = {"weights": f"{method}{seed}", "trained_bytes": SIZE[method]}
            parts = {"selection": selection, "test": test}
            found.append(record(make_run(given, "final", method, seed), parts, result=kept))
    return found


def names(found: list[Record]) -> list[str]:
    return [str(r.result["weights"]) for r in found]


def test_the_best_of_every_method_come_before_other_seeds() -> None:
    given = study()
    held = records(given, full=[0.3, 0.9, 0.6], lora=[0.9, 0.3], prompt=[0.5])
    cells = group_into_cells(given, held)
    assert names(sort_by_priority(held, cells)) == [
        "prompt1",
        "lora1",
        "full2",
        "lora2",
        "full3",
        "full1",
    ]
    first = sort_by_priority(held, cells, {("topics", "e5-small", "full")})
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
    given = study()
    held = records(given, full=[0.3, 0.9, 0.6], lora=[0.9, 0.3], prompt=[0.5])
    cells = group_into_cells(given, held)
    wanted = {("topics", "e5-small", method) for method in recommended}
    assert names(select_weights_to_drop(held, cells, budget, wanted)) == dropped
    assert best_runs_fit(held, cells, budget) is (budget >= 105)


def test_runs_that_the_study_no_longer_has_go_first() -> None:
    given = study()
    held = records(given, full=[0.9], lora=[0.9])
    less = study(methods=["lora"])
    assert names(sort_by_priority(held, group_into_cells(less, held))) == ["lora1", "full1"]


def test_the_only_candidate_stays() -> None:
    given = study()
    held = records(given, full=[0.9])
    assert select_weights_to_drop(held, group_into_cells(given, held), 100) == []


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [("2GiB", 2 * 2**30), ("500 MB", 500_000_000), (0, 0), (1000, 1000), (None, 4 * 2**30)],
)
def test_the_budget_is_a_size_and_no_part_of_what_a_study_is_known_by(
    written: Any, bytes_: int
) -> None:
    protocol = {} if written is None else {"keep_weights": written}
    given = study(protocol=protocol)
    assert given.protocol.keep_weights == bytes_
    assert given.study_hash == study(protocol={}).study_hash
    assert "keep_weights" not in given.canonical_form()["protocol"]


@pytest.mark.parametrize("written", ["much", "4 parsecs", -1, True])
def test_what_is_no_size_is_refused_by_name(written: Any) -> None:
    with pytest.raises(StudyError, match=r"keep_weights"):
        study(protocol={"keep_weights": written})
