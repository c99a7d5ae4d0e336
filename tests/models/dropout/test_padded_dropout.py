"""Dropout in a padded batch of several runs is that of each run alone, at its own length."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paretune.models.dropout import DropoutRng, seeded_dropout

SEEDS, ROWS, LENGTHS, P = [11, 22, 33], [2, 0, 3], [5, 0, 9], 0.3
AXES = {
    "text": (lambda tokens: (tokens, 7), 0),
    "behind a prompt": (lambda tokens: (tokens + 4, 7), 4),
    "attention": (lambda tokens: (2, tokens, tokens), 0),
    "attention with a prefix": (lambda tokens: (2, tokens, tokens + 3), 3),
    "one row a text": (lambda tokens: (7,), 0),
}


def shared_rng() -> DropoutRng:
    rng = DropoutRng()
    rng.begin_pass(SEEDS, [ROWS])
    rng.run_lengths = LENGTHS
    return rng


def alone(seed: int, x: Tensor, passed: int = 0) -> Tensor:
    rng = DropoutRng()
    rng.begin_pass([seed], [])
    rng.offset = passed
    return rng.drop(x, P)


@pytest.mark.parametrize("kind", AXES)
def test_each_run_draws_as_at_its_own_length(kind: str) -> None:
    """Bit for bit, forward and backward; behind its length all falls away."""
    shape, _ = AXES[kind]
    x = (1 + torch.rand(sum(ROWS), *shape(max(LENGTHS)))).requires_grad_(True)
    out = shared_rng().drop(x, P)
    out.sum().backward()
    assert x.grad is not None
    at = 0
    for seed, rows, length in zip(SEEDS, ROWS, LENGTHS, strict=True):
        if not rows:
            continue
        front = (slice(at, at + rows), *(slice(size) for size in shape(length)))
        own = x.detach()[front].clone().requires_grad_(True)
        expected = alone(seed, own)
        expected.sum().backward()
        assert torch.equal(out[front], expected) and own.grad is not None
        assert torch.equal(x.grad[front], own.grad)
        assert 0 < int((expected == 0).sum()) < expected.numel()
        rest = out.detach()[at : at + rows].clone()
        rest[(slice(None), *front[1:])] = 0
        assert not rest.any()
        at += rows


def test_the_next_dropout_draws_anew() -> None:
    """By its place in the pass, as alone."""
    rng, x = shared_rng(), torch.ones(5, 9, 7)
    first, second = rng.drop(x, P), rng.drop(x, P)
    assert not torch.equal(first, second)
    assert torch.equal(second[2:], alone(SEEDS[2], x[2:], passed=1))


def test_a_table_of_each_run_draws_as_the_one_alone() -> None:
    tables = torch.ones(2, 6, 7)
    out = shared_rng().drop_per_run(tables, [0, 2], P)
    for own, seed in zip(out, (11, 33), strict=True):
        assert torch.equal(own, alone(seed, tables[0]))


def test_what_is_one_runs_alone_draws_as_alone() -> None:
    rng, x = shared_rng(), torch.ones(1, 4, 7)
    with rng.single_run(2):
        assert torch.equal(rng.drop(x, P), alone(SEEDS[2], x))
    assert torch.equal(rng.drop(torch.ones(5, 9, 7), P)[2:], alone(33, torch.ones(3, 9, 7), 1))


def test_without_probability_nothing_is_counted() -> None:
    rng, x = shared_rng(), torch.ones(5, 9, 7)
    assert rng.drop(x, 0.0) is x and rng.offset == 0


def test_what_holds_no_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no texts of 9 tokens"):
        shared_rng().drop(torch.ones(5, 8, 7), P)
    with pytest.raises(ValueError, match="4 rows are not those of the runs"):
        shared_rng().drop(torch.ones(4, 9, 7), P)


def test_torch_draws_by_it_while_it_is_open() -> None:
    before, x = F.dropout, torch.ones(5, 9, 7)
    with seeded_dropout(shared_rng()):
        assert torch.equal(F.dropout(x, P), shared_rng().drop(x, P))
        assert F.dropout(x, P, training=False) is x
    assert F.dropout is before
