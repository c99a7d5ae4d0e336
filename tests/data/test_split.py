"""Parts: balanced, stratified, groups and duplicates together, the same every time."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from paretune.data.example import Example
from paretune.data.split import assign_folds
from paretune.errors import DataError


def examples(labels: list[int], groups: list[str | None] | None = None) -> list[Example]:
    groups = groups or [None] * len(labels)
    return [
        Example(f"train:{i}", ((f"text {i}", None),), label, f"t line {i}", group)
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


def test_cb_like_labels_are_spread_evenly() -> None:
    labels = [0] * 115 + [1] * 119 + [2] * 16
    placed = assign_folds(examples(labels), seed=0)
    assert max(Counter(placed).values()) - min(Counter(placed).values()) <= 1
    for label in range(3):
        counts = Counter(p for p, own in zip(placed, labels, strict=True) if own == label)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_parts_depend_on_the_seed_and_not_on_what_numpy_drew_before() -> None:
    rows = examples([i % 3 for i in range(60)])
    first = assign_folds(rows, seed=4)
    np.random.seed(123)
    state = np.random.get_state()[1].copy()
    assert assign_folds(rows, seed=4) == first
    assert (np.random.get_state()[1] == state).all()
    assert assign_folds(rows, seed=5) != first


def test_groups_and_equal_texts_stay_together() -> None:
    rows = examples([i % 2 for i in range(40)], [f"g{i // 3}" for i in range(40)])
    twin = Example("train:x", rows[0].segments, 1, "t", "g13")
    placed = assign_folds([*rows, twin], seed=1)
    by_group = defaultdict(set)
    for row, part in zip([*rows, twin], placed, strict=True):
        by_group[row.group].add(part)
    assert all(len(parts) == 1 for parts in by_group.values())
    assert by_group["g0"] == by_group["g13"]  # linked by the equal text


def test_a_label_with_two_groups_is_in_every_complement() -> None:
    draw = np.random.default_rng(0)
    for trial in range(300):
        n, kinds = int(draw.integers(6, 41)), int(draw.integers(2, 7))
        weights = np.arange(1, kinds + 1) / np.arange(1, kinds + 1).sum()
        labels = draw.choice(kinds, n, p=weights).tolist()
        groups = [f"g{g}" for g in draw.integers(0, n // 2 + 1, n)]
        rows = examples(labels, groups)
        placed = assign_folds(rows, seed=trial)
        by_label = defaultdict(set)
        for row, part in zip(rows, placed, strict=True):
            by_label[row.label].add((row.group, part))
        for label, pairs in by_label.items():
            if len({group for group, _ in pairs}) > 1:
                assert len({part for _, part in pairs}) > 1, (trial, label)


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be cut into 5 parts"):
        assign_folds(examples([0, 1, 0, 1]), seed=0)


def test_one_group_alone_cannot_be_cut() -> None:
    with pytest.raises(DataError, match="of one group"):
        assign_folds(examples([0, 1] * 5, ["g"] * 10), seed=0)
