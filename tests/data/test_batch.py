"""Orders and batches: partitions, limits, and the same answer every time."""

from __future__ import annotations

import numpy as np

from paretune.data.batch import evaluation_batches, micro_batches, order


def test_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    assert sorted(order(50, 1, 0)) == list(range(50))
    assert order(50, 1, 0) == order(50, 1, 0)
    assert len({tuple(order(50, s, e)) for s in (1, 2) for e in (0, 1)}) == 4
    assert order(0, 1, 0) == []


def test_micro_batches_partition_one_effective_batch_within_their_limits() -> None:
    draw = np.random.default_rng(1)
    for _ in range(200):
        lengths = draw.integers(3, 300, 64).tolist()
        indices = draw.permutation(64)[:16].tolist()
        batches = micro_batches(lengths, indices, 6)
        assert sorted(i for b in batches for i in b) == sorted(indices)
        for batch in batches:
            area = max(lengths[i] for i in batch) * len(batch)
            assert len(batch) <= 6
            assert area - sum(lengths[i] for i in batch) <= 0.15 * area
        assert batches == micro_batches(lengths, list(reversed(indices)), 6)


def test_equal_lengths_fill_whole_micro_batches_and_an_outlier_stands_alone() -> None:
    assert [len(b) for b in micro_batches([10] * 16, range(16), 8)] == [8, 8]
    assert micro_batches([10, 10, 300, 10], range(4), 8) == [[2], [0, 1, 3]]
    assert micro_batches([10, 10, 300, 10], range(4), 8, max_padding=1.0) == [[2, 0, 1, 3]]
    assert micro_batches([], [], 8) == []


def test_evaluation_batches_hold_the_token_limit_and_start_with_the_longest() -> None:
    lengths = [5, 100, 7, 50, 6, 300]
    batches = evaluation_batches(lengths, max_tokens=100)
    assert sorted(i for b in batches for i in b) == list(range(6))
    assert batches[0] == [5]  # longer than the limit: alone
    for batch in batches[1:]:
        assert max(lengths[i] for i in batch) * len(batch) <= 100
    assert batches[1:] == [[1], [3, 2], [4, 0]]
