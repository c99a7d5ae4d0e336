"""Products with trained matrices: those of autocast, without a copy of the matrix in between."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaMLP

from paretune.models.changes import ModelChanges
from paretune.models.packing.recomputed import cast_in_both_passes, fuse_rows

WIDTH, INNER = 24, 40


def linear(bias: bool = True) -> nn.ModuleDict:
    torch.manual_seed(3)
    return nn.ModuleDict({"own": nn.Linear(WIDTH, INNER, bias=bias)})


def gated() -> nn.ModuleDict:
    torch.manual_seed(3)
    sizes: Any = {"hidden_size": WIDTH, "intermediate_size": INNER, "mlp_bias": False}
    return nn.ModuleDict({"own": LlamaMLP(SimpleNamespace(**sizes, hidden_act="silu"))})


def change(changes: ModelChanges, model: nn.Module) -> None:
    cast_in_both_passes(changes, model)
    fuse_rows(changes, model, SimpleNamespace(layers=()))  # type: ignore[arg-type]


def compute(model: nn.ModuleDict, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """The output and all gradients under autocast; and what is saved for the backward pass."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(7, 1, WIDTH, generator=draw).to(dtype).requires_grad_()
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model["own"](x)
        loss = (out.float() * torch.randn(out.shape, generator=draw)).sum()
    return [out, *torch.autograd.grad(loss, [x, *trained])], saved


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("build", [linear, lambda: linear(bias=False), gated])
def test_outputs_and_gradients_are_those_of_autocast_and_no_matrix_is_copied(
    build: Callable[[], nn.ModuleDict], dtype: torch.dtype
) -> None:
    model = build()
    shapes = {p.shape for p in model.parameters() if p.ndim == 2}
    expected, saved = compute(model, dtype)
    assert any(
        {t.shape, t.mT.shape} & shapes and t.dtype == torch.bfloat16 for t in matrices(saved)
    )
    with ModelChanges() as changes:
        change(changes, model)
        actual, saved = compute(model, dtype)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            x = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(5))
            without_gradient = model["own"](x)
    own = {id(p) for p in model.parameters()}
    assert all(id(t) in own for t in matrices(saved) if {t.shape, t.mT.shape} & shapes)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(
            one, other, rtol=0.02, atol=0.02 * float(other.detach().abs().max())
        )
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(without_gradient, model["own"](x), rtol=0.02, atol=0.02)


def matrices(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor.ndim == 2]


def test_what_the_last_matrix_of_a_gated_part_reads_is_not_kept() -> None:
    model = gated()
    with ModelChanges() as changes:
        change(changes, model)
        _, saved = compute(model, torch.bfloat16)
    inner = {t.data_ptr() for t in saved if t.shape[-1] == INNER and t.shape[0] == 7}
    assert len(inner) == 2  # gate and up


def test_frozen_layers_and_those_of_a_method_are_left_alone() -> None:
    frozen, own = linear(), linear()
    frozen.requires_grad_(False)
    own["own"].forward = lambda x: x  # type: ignore[method-assign]
    with ModelChanges() as changes:
        cast_in_both_passes(changes, frozen)
        cast_in_both_passes(changes, own)
        assert "forward" not in vars(frozen["own"])
        assert own["own"](3) == 3


def test_a_hooked_last_matrix_of_a_gated_part_is_called() -> None:
    model, seen = gated(), []
    last: Any = model["own"].down_proj  # type: ignore[union-attr]
    last.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    with ModelChanges() as changes:
        change(changes, model)
        compute(model, torch.float32)
    assert seen == [(7, 1, INNER)]
