"""Orders and batches: partitions and limits."""

from __future__ import annotations

import numpy as np

from paretune.data.batch import (
    shuffle_order,
    split_by_length,
    split_for_evaluation,
    split_packed,
)


def test_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    assert sorted(shuffle_order(50, 1, 0)) == list(range(50))
    assert len({tuple(shuffle_order(50, s, e)) for s in (1, 2) for e in (0, 1)}) == 4
    assert shuffle_order(0, 1, 0) == []


def cost(lengths: list[int], batches: list[list[int]], pass_tokens: int) -> int:
    return sum(max(lengths[i] for i in b) * len(b) + pass_tokens for b in batches)


def cheapest(lengths: list[int], ordered: list[int], micro_batch: int, pass_tokens: int) -> int:
    """The lowest cost over all ways to cut the sorted examples, by trying every one of them."""
    lowest = 10**9
    for cuts in range(2 ** (len(ordered) - 1)):
        parts, part = [], [ordered[0]]
        for place, i in enumerate(ordered[1:]):
            if cuts >> place & 1:
                parts.append(part)
                part = []
            part.append(i)
        parts.append(part)
        if max(map(len, parts)) <= micro_batch:
            lowest = min(lowest, cost(lengths, parts, pass_tokens))
    return lowest


def test_micro_batches_cut_one_effective_batch_at_the_lowest_cost() -> None:
    draw = np.random.default_rng(1)
    for _ in range(30):
        lengths = draw.integers(3, 300, 64).tolist()
        indices = draw.permutation(64)[:9].tolist()
        ordered = sorted(indices, key=lambda i: -lengths[i])
        for micro_batch in (1, 3, 9):
            for pass_tokens in (0, 32, 500):
                batches = split_by_length(lengths, indices, micro_batch, pass_tokens)
                assert sorted(i for b in batches for i in b) == sorted(indices)
                assert max(map(len, batches)) <= micro_batch
                assert cost(lengths, batches, pass_tokens) == cheapest(
                    lengths, ordered, micro_batch, pass_tokens
                )
                again = split_by_length(lengths, list(reversed(indices)), micro_batch, pass_tokens)
                assert batches == again


def test_equal_lengths_fill_whole_micro_batches_and_an_outlier_stands_alone() -> None:
    assert sorted(len(b) for b in split_by_length([10] * 16, range(16), 8)) == [8, 8]
    assert split_by_length([10, 10, 300, 10], range(4), 8) == [[2], [0, 1, 3]]
    assert split_by_length([10, 10, 300, 10], range(4), 8, pass_tokens=2000) == [[2, 0, 1, 3]]
    assert split_by_length([], [], 8) == []


def test_evaluation_batches_hold_the_token_limit_and_start_with_the_longest() -> None:
    lengths = [5, 100, 7, 50, 6, 300]
    batches = split_for_evaluation(lengths, max_tokens=100)
    assert sorted(i for b in batches for i in b) == list(range(6))
    assert batches[0] == [5]  # longer than the limit: alone
    for batch in batches[1:]:
        assert max(lengths[i] for i in batch) * len(batch) <= 100
    assert batches[1:] == [[1], [3, 2], [4, 0]]


def test_packed_batches_are_partitions_within_their_limits() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        tokens = draw.integers(3, 300, 64).tolist()
        batch = draw.permutation(64)[: draw.integers(1, 40)].tolist()
        most = int(draw.integers(1, 17))
        passes = split_packed(tokens, batch, most, pass_tokens=500)
        assert sorted(i for part in passes for i in part) == sorted(batch)
        assert max(map(len, passes)) <= most
        assert all(sum(tokens[i] for i in part) <= 500 + 300 for part in passes)
        assert passes == split_packed(tokens, batch[::-1], most, pass_tokens=500)
        in_order = [tokens[i] for part in passes for i in part]
        assert in_order == sorted(in_order, reverse=True)
        answered = split_for_evaluation(tokens, 700, packed=True)
        assert sorted(i for part in answered for i in part) == list(range(64))
        assert all(sum(tokens[i] for i in part) <= 700 for part in answered)
    assert split_packed([5, 5, 5, 5], [0, 1, 2, 3], 4) == [[0, 1, 2, 3]]
