"""The gradients of the methods' own modules, against finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from paretune.methods import bitfit, dora, houlsby, ia3, loha, lokr, lora
from paretune.methods.core.low_rank import LowRankOptions
from paretune.methods.core.run_axis import Fleet, make_generator

MAKERS: dict[str, tuple[Callable[..., nn.Module], Any]] = {
    "lora": (lora.LoraUpdate, lora.LoraOptions(rank=3)),
    "dora": (dora.DoraUpdate, dora.DoraOptions(rank=3)),
    "lokr-low-rank": (lokr.LokrUpdate, lokr.LokrOptions(rank=1, decompose_factor=2)),
    "lokr-full": (lokr.LokrUpdate, lokr.LokrOptions(rank=4, decompose_factor=2)),
    "houlsby": (houlsby.Bottleneck, houlsby.HoulsbyOptions(reduction_factor=2)),
    "bitfit": (lambda layer, _, fleet, __: bitfit.BiasShift(layer.bias.detach(), fleet), None),
    "ia3": (lambda layer, _, fleet, __: ia3.Scale(4, (1, 3), fleet, layer.weight.device), None),
    "loha-factorised": (loha.LohaUpdate, LowRankOptions(rank=1)),
    "loha-materialised": (loha.LohaUpdate, LowRankOptions(rank=3)),
}


@pytest.mark.parametrize("shares", [[3], [2, 2], [3, 1]], ids=["alone", "even", "uneven"])
@pytest.mark.parametrize("name", MAKERS)
def test_gradcheck(name: str, shares: list[int]) -> None:
    make, options = MAKERS[name]
    fleet = Fleet(len(shares))
    fleet.set_row_counts(shares)
    torch.manual_seed(0)
    draws = [make_generator(seed) for seed in range(len(shares))]
    layer = make(nn.Linear(6, 4).double(), options, fleet, draws).double()
    if name.startswith("loha"):
        assert layer.factorised == name.endswith("factorised")
    own = dict(layer.named_parameters())
    for parameter in own.values():  # away from the start, where half of them are 0
        nn.init.normal_(parameter)
    if name == "dora":  # the norm is a constant to the gradient, by the paper's section 4.3
        norms = layer.row_norms()
        layer.row_norms = lambda: norms  # type: ignore[method-assign]
    x = torch.randn(sum(shares), 2, 6, dtype=torch.float64, requires_grad=True)

    def answer(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return functional_call(layer, dict(zip(own, values, strict=True)), (x, 2 * x[..., :4]))

    assert torch.autograd.gradcheck(answer, (x, *own.values()))


@pytest.mark.parametrize("name", [name for name in MAKERS if name.startswith("lo")])
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


def test_khatri_rao_is_exact() -> None:
    options = LowRankOptions(rank=2)
    layer = loha.LohaUpdate(nn.Linear(40, 30), options, Fleet(), [make_generator(0)]).double()
    nn.init.normal_(layer.B2)
    assert layer.factorised
    up, down = layer.khatri_rao()
    assert (up.shape, down.shape) == ((1, 30, 4), (1, 4, 40))
    product = (up[0] @ down[0]) * layer.scaling
    torch.testing.assert_close(product, layer.delta(), rtol=0, atol=1e-12)


def test_loha_takes_the_cheaper_form() -> None:
    """The full delta is built only where rank^2 (in + out) is not below in * out."""
    layer = nn.Linear(768, 768)
    forms = {
        rank: loha.LohaUpdate(
            layer, LowRankOptions(rank=rank), Fleet(), [make_generator(0)]
        ).factorised
        for rank in (1, 16, 19, 20, 64)
    }
    assert forms == {1: True, 16: True, 19: True, 20: False, 64: False}


@pytest.mark.parametrize(
    ("number", "factor", "factors"),
    [(768, -1, (24, 32)), (384, -1, (16, 24)), (127, -1, (1, 127)), (128, 4, (4, 32)),
     (768, 10, (8, 96)), (3072, 50, (48, 64))],
)  # fmt: skip
def test_lokr_factorises_as_peft(number: int, factor: int, factors: tuple[int, int]) -> None:
    from peft.tuners.lokr.layer import factorization

    assert lokr.factorise(number, factor) == factors == factorization(number, factor)
