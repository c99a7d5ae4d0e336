"""Outer folds: every labelled row is inside one and outside all others, groups and texts whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from paretune.data.audit import audit
from paretune.data.example import Dataset
from paretune.data.split import (
    OuterDesign,
    choose_outer_design,
    find_obstacle,
    labelled_rows,
    split_by_fold,
)
from paretune.errors import DataError
from paretune.objectives.example import Example
from paretune.study import Checks, OuterFold, Protocol, TaskSpec

TASK = TaskSpec(name="made", kind="classification", train="a.csv", text="text", label="label")


def rows(part: str, count: int, *, groups: int = 0) -> tuple[Example, ...]:
    """Labels 0, 0, 0, 1 in turn; ``groups``: so many, shared by both parts."""
    return tuple(
        Example(
            f"{part}:{i}",
            ((f"{part} text {i}", None),),
            int(i % 4 == 3),
            f"{part}.csv line {i + 2}",
            f"g{i % groups}" if groups else None,
        )
        for i in range(count)
    )


def make_dataset(train: int = 60, test: int = 20, *, groups: int = 0) -> Dataset:
    return Dataset(
        task="made",
        kind="classification",
        labels=("no", "yes"),
        train=rows("train", train, groups=groups),
        test=rows("test", test, groups=groups),
        metric="accuracy",
        language="en",
        licence="CC0-1.0",
        source="made up",
        clustered=bool(groups),
    )


def inside(dataset: Dataset, folds: int, repeat: int = 0, seed: int = 0) -> list[list[Example]]:
    places = [OuterFold(folds=folds, index=i, repeat=repeat) for i in range(folds)]
    return [split_by_fold(dataset, place, seed)[1] for place in places]


def test_every_row_is_in_one_fold_and_no_run_sees_its_own() -> None:
    dataset = make_dataset()
    whole = labelled_rows(dataset)
    answered: Counter[str] = Counter()
    for index in range(5):
        outside, own = split_by_fold(dataset, OuterFold(folds=5, index=index), 0)
        assert not {e.uid for e in outside} & {e.uid for e in own}
        assert sorted(e.uid for e in (*outside, *own)) == sorted(e.uid for e in whole)
        assert own == [e for e in whole if e in own]  # in the order of the data
        answered.update(e.uid for e in own)
    assert answered == Counter(e.uid for e in whole)


def test_groups_and_equal_texts_stay_whole_over_train_and_test() -> None:
    dataset = make_dataset(groups=11)
    twin = replace(dataset.test[0], uid="test:twin", segments=dataset.train[5].segments)
    dataset = replace(dataset, test=(*dataset.test, twin))
    parts = inside(dataset, 3)
    for group in {e.group for e in labelled_rows(dataset)}:
        assert sum(any(e.group == group for e in part) for part in parts) == 1
    (home,) = [part for part in parts if twin in part]
    assert dataset.train[5] in home


def test_a_repeat_and_another_seed_divide_anew() -> None:
    dataset = make_dataset()
    first = inside(dataset, 5)
    assert inside(dataset, 5) == first
    assert inside(dataset, 5, repeat=1) != first
    assert inside(dataset, 5, seed=1) != first


def test_rows_without_an_answer_are_in_no_fold() -> None:
    dataset = make_dataset()
    dataset = replace(dataset, test=(replace(dataset.test[0], label=None), *dataset.test[1:]))
    assert len(labelled_rows(dataset)) == 79
    assert sum(map(len, inside(dataset, 5))) == 79


@pytest.mark.parametrize(
    ("dataset", "folds", "obstacle"),
    [
        (make_dataset(), 5, ""),
        (make_dataset(8, 4), 5, "12 labelled rows are too few for 5 folds"),
        (make_dataset(groups=4), 5, "the rows have 4 of them: 5 folds need 5"),
        (make_dataset(groups=3), 2, "the rows have 3 of them: 2 folds need 4"),
        (make_dataset(groups=4), 2, ""),
    ],
)
def test_what_cannot_be_divided_is_said(dataset: Dataset, folds: int, obstacle: str) -> None:
    assert find_obstacle(dataset, folds).endswith(obstacle)
    assert bool(find_obstacle(dataset, folds)) == bool(obstacle)


@pytest.mark.parametrize(
    ("seeds", "folds"), [(1, 0), (2, 0), (3, 3), (4, 4), (5, 5), (6, 3), (7, 0), (8, 4), (10, 5)]
)
def test_auto_takes_the_folds_that_divide_the_seeds(seeds: int, folds: int) -> None:
    protocol = Protocol(seeds=tuple(range(1, seeds + 1)))
    design = choose_outer_design(protocol, TASK, make_dataset())
    assert design.folds == folds
    assert ("takes 3, 4 or 5 seeds, or a multiple of these" in design.reason) == (folds == 0)


def test_auto_keeps_the_split_where_rows_suffice_or_forbid() -> None:
    protocol = Protocol()
    below, above = make_dataset(800, 199), make_dataset(800, 200)
    assert choose_outer_design(protocol, TASK, below).folds == 5
    assert "1,000 labelled rows" in choose_outer_design(protocol, TASK, above).reason
    dataset = make_dataset()
    unlabelled = replace(dataset, test=tuple(replace(e, label=None) for e in dataset.test))
    assert "no label" in choose_outer_design(protocol, TASK, unlabelled).reason
    translation = replace(dataset, kind="translation")
    assert "generated texts" in choose_outer_design(protocol, TASK, translation).reason
    boolq = TaskSpec(name="boolq", language="sl", split="paper")
    assert choose_outer_design(protocol, boolq, dataset).folds == 0
    own = TASK.model_copy(update={"test": "/data/held-out.csv"})
    design = choose_outer_design(protocol, own, dataset)
    assert (design.folds, design.reason) == (0, "the study names held-out.csv for it")
    assert choose_outer_design(Protocol(outer=5), own, dataset).folds == 5
    assert choose_outer_design(Protocol(preset="paper"), TASK, dataset).folds == 0
    assert choose_outer_design(Protocol(outer="split"), TASK, dataset) == OuterDesign(0)


def test_what_the_study_asks_for_wins_or_is_refused() -> None:
    assert choose_outer_design(Protocol(outer=5), TASK, make_dataset(900, 900)).folds == 5
    with pytest.raises(DataError, match=r"too few for 5 folds\. .*outer: split"):
        choose_outer_design(Protocol(outer=5), TASK, make_dataset(8, 4))


def test_the_audit_of_all_rows_finds_no_leak_between_parts_that_are_one() -> None:
    dataset = make_dataset()
    copies = tuple(
        replace(e, segments=dataset.train[i].segments, label=dataset.train[i].label)
        for i, e in enumerate(dataset.test)
    )
    leaking = replace(dataset, test=copies)
    assert "leak" in {f.code for f in audit(leaking)}
    findings = audit(leaking, Checks(), OuterDesign(5, "it has 80 labelled rows"))
    codes = {f.code: f for f in findings}
    assert "leak" not in codes and "duplicate" in codes
    assert "tested by 5-fold cross-validation" in codes["test-design"].what
    assert "outer: split" in codes["test-design"].remedy
