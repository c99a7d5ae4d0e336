"""The updates of low-rank methods: what a forward pass adds is the delta."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from paretune.methods import loha, lokr, lora
from paretune.methods.core.low_rank import LowRankOptions
from paretune.methods.core.run_axis import Fleet, make_generator

MAKERS: dict[str, tuple[Callable[..., nn.Module], Any]] = {
    "lora": (lora.LoraUpdate, lora.LoraOptions(rank=3)),
    "lokr-low-rank": (lokr.LokrUpdate, lokr.LokrOptions(rank=1, decompose_factor=2)),
    "lokr-full": (lokr.LokrUpdate, lokr.LokrOptions(rank=4, decompose_factor=2)),
    "loha-factorised": (loha.LohaUpdate, LowRankOptions(rank=1)),
    "loha-materialised": (loha.LohaUpdate, LowRankOptions(rank=3)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_update_is_the_delta(name: str) -> None:
    """What the forward pass adds is what ``delta`` says, run by run."""
    make, options = MAKERS[name]
    fleet = Fleet(2)
    fleet.set_row_counts([1, 1])
    layer = make(
        nn.Linear(6, 4).double(), options, fleet, [make_generator(1), make_generator(2)]
    ).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    added = layer(x, torch.zeros(2, 3, 4, dtype=torch.float64))
    expected = torch.stack([x[run] @ layer.delta(run).T for run in (0, 1)])
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("number", "factor", "factors"),
    [(768, -1, (24, 32)), (384, -1, (16, 24)), (127, -1, (1, 127)), (128, 4, (4, 32)),
     (768, 10, (8, 96)), (3072, 50, (48, 64))],
)  # fmt: skip
def test_lokr_factorises_as_peft(number: int, factor: int, factors: tuple[int, int]) -> None:
    from peft.tuners.lokr.layer import factorization

    assert lokr.factorise(number, factor) == factors == factorization(number, factor)
