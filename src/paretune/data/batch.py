"""Shuffles examples and splits them into passes, which do not change an optimiser step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paretune.study import derive_seed


def shuffle_order(n: int, seed: int, epoch: int) -> list[int]:
    """A permutation of ``n`` examples for an epoch, from a generator of its own."""
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", epoch)))
    return [int(i) for i in generator.permutation(n)]


PASS_OVERHEAD_TOKENS = 40
"""Fixed cost of a pass through a model on a CPU, in tokens (dev/log.md)."""
NEVER_SPLIT = 1 << 40
"""A fixed cost so large that only the micro-batch splits a batch."""
GRADIENT_OVERHEAD_TOKENS = 64
"""Cost of adding to the gradients of a whole model in one pass, in tokens (dev/log.md)."""


def pass_overhead_tokens(trained: int, total: int, device: str) -> int:
    """Cost of a pass beside its tokens, in tokens: it grows with the trained share of the model.

    Every pass adds to all gradients that there are. A GPU takes a whole micro-batch at once: a pass
    costs hundreds of launches there, and its peak memory is that of the batch that was asked for.
    """
    if not device.startswith("cpu"):
        return NEVER_SPLIT
    return PASS_OVERHEAD_TOKENS + round(GRADIENT_OVERHEAD_TOKENS * trained / total)


def split_by_length(
    lengths: Sequence[int],
    indices: Sequence[int],
    micro_batch: int,
    pass_tokens: int = PASS_OVERHEAD_TOKENS,
) -> list[list[int]]:
    """Split one effective batch into micro-batches of similar length, at the least cost.

    The cost of a micro-batch is its padded tokens and ``pass_tokens`` for the pass itself; the cut
    with the lowest sum is found exactly, by dynamic programming over the sorted examples. The
    longest come first, so that what does not fit in memory fails at once.

    Args:
        lengths: tokens of every example of the part; (examples,).
        pass_tokens: fixed cost of a pass, in tokens; for several choices, tokens of one choice.

    Returns:
        A partition of ``indices``; the same for any order of ``indices``.
    """
    ordered = sorted(indices, key=lambda i: (-lengths[i], i))
    lowest = [0.0] + [float("inf")] * len(ordered)
    starts = [0] * (len(ordered) + 1)
    for end in range(1, len(ordered) + 1):
        for start in range(max(0, end - micro_batch), end):
            area = lengths[ordered[start]] * (end - start)
            cost = lowest[start] + area + pass_tokens
            if cost < lowest[end]:
                lowest[end], starts[end] = cost, start
    batches: list[list[int]] = []
    end = len(ordered)
    while end:
        batches.insert(0, ordered[starts[end] : end])
        end = starts[end]
    return batches


def split_by_count(
    lengths: Sequence[int], indices: Sequence[int], micro_batch: int
) -> list[list[int]]:
    """Split one effective batch into as few micro-batches as possible, the longest first."""
    ordered = sorted(indices, key=lambda i: (-lengths[i], i))
    return [ordered[i : i + micro_batch] for i in range(0, len(ordered), micro_batch)]


def split_for_evaluation(
    lengths: Sequence[int], max_tokens: int, *, packed: bool = False
) -> list[list[int]]:
    """Put all examples, longest first, in batches of at most ``max_tokens`` tokens.

    An example longer than that is a batch of its own. With padding, every example of a batch counts
    as the longest; ``lengths`` then has the tokens of one choice, and ``max_tokens`` is to be
    divided by the number of choices. ``packed``: all tokens of an example count, and no padding.
    """
    batches: list[list[int]] = []
    filled = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        added = lengths[i] if packed or not batches else lengths[batches[-1][0]]
        if not batches or filled + added > max_tokens:
            batches.append([])
            filled, added = 0, lengths[i]
        batches[-1].append(i)
        filled += added
    return batches


PACKED_PASS_TOKENS = 2560
"""About the most tokens of a packed training pass on a CPU: more is no faster, and takes memory
(dev/log.md)."""


def split_packed(
    tokens: Sequence[int],
    indices: Sequence[int],
    micro_batch: int,
    pass_tokens: int = PACKED_PASS_TOKENS,
) -> list[list[int]]:
    """Split one effective batch into passes of about equal tokens, the longest examples first.

    ``tokens`` has those of every example of the part, all choices together; about ``pass_tokens``
    go together, and a longer example is a pass of its own. The order of ``indices`` plays no role.
    """
    ordered = sorted(indices, key=lambda i: (-tokens[i], i))
    total = sum(tokens[i] for i in ordered)
    passes = max(-(-total // pass_tokens), -(-len(ordered) // micro_batch))
    share = total / passes
    batches: list[list[int]] = []
    filled = 0.0
    for i in ordered:
        last = batches[-1] if batches else None
        # A pass ends nearest to where its share does.
        if last is None or len(last) == micro_batch or filled + tokens[i] / 2 > share:
            batches.append([])
            filled = 0.0
        batches[-1].append(i)
        filled += tokens[i]
    return batches
