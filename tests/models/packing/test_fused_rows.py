"""Normalisations and gated feed-forward parts in one node are those of the model files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP, Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from paretune.models.changes import ModelChanges
from paretune.models.packing.recomputed import fuse_rows

WIDTH, INNER = 6, 10


def build(kind: str) -> nn.Module:
    """A module with drawn weights."""
    sizes: Any = {"hidden_size": WIDTH, "intermediate_size": INNER, "mlp_bias": False}
    constructors: dict[str, Any] = {
        "LlamaRMSNorm": lambda: LlamaRMSNorm(WIDTH),
        "Gemma3RMSNorm": lambda: Gemma3RMSNorm(WIDTH),
        "LlamaMLP": lambda: LlamaMLP(SimpleNamespace(**sizes, hidden_act="silu")),
        "Gemma3MLP": lambda: Gemma3MLP(
            SimpleNamespace(**sizes, hidden_activation="gelu_pytorch_tanh")
        ),
    }
    draw = torch.Generator().manual_seed(1)
    module: nn.Module = constructors[kind]()
    for parameter in module.parameters():
        parameter.data += torch.randn(parameter.shape, generator=draw) * 0.3
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["LlamaRMSNorm", "Gemma3RMSNorm", "LlamaMLP", "Gemma3MLP"])
def test_outputs_and_gradients_are_those_of_the_module(kind: str, dtype: torch.dtype) -> None:
    model = nn.ModuleDict({"own": build(kind).to(dtype)})
    draw = torch.Generator().manual_seed(2)
    x = (torch.randn(5, 1, WIDTH, generator=draw) * 2).to(dtype).requires_grad_()
    cotangent = torch.randn(5, 1, WIDTH, generator=draw).to(dtype)

    def compute() -> list[torch.Tensor]:
        out = model["own"](x)
        loss = (out * cotangent).sum()
        return [out, *torch.autograd.grad(loss, [x, *model.parameters()])]

    expected = compute()
    with ModelChanges() as changes:
        fuse_rows(changes, model, SimpleNamespace(layers=()))  # type: ignore[arg-type]
        assert "forward" in vars(model["own"])
        fused = compute()
    assert "forward" not in vars(model["own"])
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0, "atol": 0.1}
    for one, other in zip(fused, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_what_a_method_computes_itself_is_left_alone() -> None:
    model = nn.ModuleDict({"own": build("LlamaMLP")})
    own: Any = model["own"]
    own.forward = lambda x: x
    with ModelChanges() as changes:
        fuse_rows(changes, model, SimpleNamespace(layers=()))  # type: ignore[arg-type]
        assert own(3) == 3
