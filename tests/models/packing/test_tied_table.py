"""A table of words tied to the LM head: its gradient is autograd's, made in one matrix."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paretune.models.packing.layout import Packing
from paretune.models.packing.recomputed import share_tied_table

WORDS, WIDTH = 11, 4
IDS = torch.tensor([[3], [0], [3], [7], [10]])


class Scaled(nn.Embedding):
    """As Gemma's, which scales what it looks up."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2.5


def tied(kind: type[nn.Embedding], padding: int | None) -> Any:
    torch.manual_seed(1)
    table = kind(WORDS, WIDTH, padding_idx=padding)
    nn.init.normal_(table.weight)
    lm_head = nn.Linear(WIDTH, WORDS, bias=False)
    lm_head.weight = table.weight
    return SimpleNamespace(
        get_input_embeddings=lambda: table, get_output_embeddings=lambda: lm_head, table=table
    )


def by_grad(loss: Tensor, weight: nn.Parameter) -> Tensor:
    return torch.autograd.grad(loss, weight)[0]


def by_backward(loss: Tensor, weight: nn.Parameter) -> Tensor:
    weight.grad = None
    loss.backward()
    assert weight.grad is not None
    return weight.grad


@pytest.mark.parametrize("ask", [by_grad, by_backward])
@pytest.mark.parametrize("scored", [True, False])
@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize("kind", [nn.Embedding, Scaled])
def test_the_gradient_is_that_of_autograd(
    kind: type[nn.Embedding],
    padding: int | None,
    scored: bool,
    ask: Callable[[Tensor, nn.Parameter], Tensor],
) -> None:
    """Also of a loss that does not read the LM head: then it is of the rows alone."""
    model, packing = tied(kind, padding), Packing()

    def lose() -> Tensor:
        hidden = model.table(IDS).tanh()
        weight = model.table.weight if packing.word_table is None else packing.word_table
        return (hidden @ weight.mT).sin().sum() if scored else hidden.square().sum()

    expected = ask(lose(), model.table.weight)
    with packing.changes:
        share_tied_table(packing, model)
        torch.testing.assert_close(ask(lose(), model.table.weight), expected)
        assert packing.word_table is not None
        with torch.no_grad():
            looked_up = model.table(IDS)
        assert packing.word_table is None
    torch.testing.assert_close(looked_up, model.table(IDS))
    assert "forward" not in vars(model.table)


def test_two_passes_before_a_step_add_up() -> None:
    model, packing = tied(nn.Embedding, None), Packing()

    def lose(ids: Tensor) -> Tensor:
        hidden = model.table(ids).tanh()
        weight = model.table.weight if packing.word_table is None else packing.word_table
        return (hidden @ weight.mT).sin().sum()

    expected = by_backward(lose(IDS) + lose(IDS[:2]), model.table.weight)
    with packing.changes:
        share_tied_table(packing, model)
        model.table.weight.grad = None
        lose(IDS).backward()
        lose(IDS[:2]).backward()
    torch.testing.assert_close(model.table.weight.grad, expected)


def test_frozen_and_untied_tables_are_left_alone() -> None:
    frozen, untied = tied(nn.Embedding, None), tied(nn.Embedding, None)
    frozen.table.weight.requires_grad_(False)
    untied.get_output_embeddings().weight = nn.Parameter(torch.ones(WORDS, WIDTH))
    for model in (frozen, untied):
        share_tied_table(Packing(), model)
        assert "forward" not in vars(model.table)
