"""Places in a packed batch, without a step of Python for each row; groups at the least cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paretune.models.packing.layout import GROUP_OVERHEAD_SCORES, AttentionRole, PackedLayout


def a_layout(lengths: list[int]) -> PackedLayout:
    layout = PackedLayout()
    layout.begin_batch(lengths)
    return layout


def test_places_and_fronts_are_those_of_a_plain_loop() -> None:
    drawn = np.random.default_rng(0)
    for _ in range(20):
        lengths = drawn.integers(2, 40, drawn.integers(1, 30)).tolist()
        layout = a_layout(lengths)
        assert layout.position_ids.dtype == layout.rows_of_token(0).dtype == torch.int64
        assert layout.position_ids.tolist() == [[i] for n in lengths for i in range(n)]
        starts = layout.starts[:-1]
        assert layout.virtual_rows(2).tolist() == [s + i for s in starts for i in range(2)]


@pytest.mark.parametrize("role", ["self", "causal", "cross"])
def test_groups_of_pairs_are_the_cheapest(role: AttentionRole) -> None:
    """The same where two sides go together, of which only the sum is sorted, or neither is."""
    draw = np.random.default_rng(3)
    for _ in range(40):
        sides = draw.integers(1, 130, (draw.integers(1, 9), 2)).tolist()
        sides.sort(key=lambda both: -sum(both))
        sources, targets = (list(side) for side in zip(*sides, strict=True))
        layout = PackedLayout()
        layout.begin_batch(sources, targets=targets)
        groups = layout.groups(role)
        query_lengths, key_lengths = {
            "self": (sources, sources),
            "causal": (targets, targets),
            "cross": (targets, sources),
        }[role]
        for group in groups:
            each = slice(group.start, group.stop)
            assert group.queries.length == max(query_lengths[each])
            assert group.keys.length == max(key_lengths[each])
            assert group.causal == (role == "causal")
        cost = sum((g.stop - g.start) * g.queries.length * g.keys.length for g in groups)
        lowest = min(
            sum(
                (b - a) * max(query_lengths[a:b]) * max(key_lengths[a:b]) + GROUP_OVERHEAD_SCORES
                for a, b in zip([0, *cut], [*cut, len(sides)], strict=True)
            )
            for bits in range(1 << (len(sides) - 1))
            for cut in [[i + 1 for i in range(len(sides) - 1) if bits >> i & 1]]
        )
        assert cost + GROUP_OVERHEAD_SCORES * len(groups) == lowest


def test_a_batch_without_targets_is_not_looked_at_from_them() -> None:
    layout = PackedLayout()
    layout.begin_batch([3, 2])
    with pytest.raises(ValueError, match="cross, but the batch has no targets"):
        layout.groups("cross")
