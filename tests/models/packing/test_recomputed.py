"""What keeps little for the backward pass gives the outputs and gradients of what it replaces."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP, Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from paretune.models.changes import ModelChanges
from paretune.models.packing.layout import Packing
from paretune.models.packing.recomputed import cast_in_both_passes, fuse_rows, share_tied_table

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
    frozen = linear()
    frozen.requires_grad_(False)
    with ModelChanges() as changes:
        cast_in_both_passes(changes, frozen)
        assert "forward" not in vars(frozen["own"])
        for model in (linear(), gated()):
            model["own"].forward = lambda x: x  # type: ignore[method-assign]
            change(changes, model)
            assert model["own"](3) == 3


def test_a_hooked_last_matrix_of_a_gated_part_is_called() -> None:
    model, seen = gated(), []
    last: Any = model["own"].down_proj  # type: ignore[union-attr]
    last.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    with ModelChanges() as changes:
        change(changes, model)
        compute(model, torch.float32)
    assert seen == [(7, 1, INNER)]


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


WORDS = 11
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


def lose(model: Any, packing: Packing, ids: Tensor, scored: bool = True) -> Tensor:
    hidden = model.table(ids).tanh()
    weight = model.table.weight if packing.word_table is None else packing.word_table
    return (hidden @ weight.mT).sin().sum() if scored else hidden.square().sum()


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
    expected = ask(lose(model, packing, IDS, scored), model.table.weight)
    with packing.changes:
        share_tied_table(packing, model)
        gradient = ask(lose(model, packing, IDS, scored), model.table.weight)
        torch.testing.assert_close(gradient, expected)
        assert packing.word_table is not None
        with torch.no_grad():
            looked_up = model.table(IDS)
        assert packing.word_table is None
    torch.testing.assert_close(looked_up, model.table(IDS))
    assert "forward" not in vars(model.table)


def test_two_passes_before_a_step_add_up() -> None:
    model, packing = tied(nn.Embedding, None), Packing()
    both = lose(model, packing, IDS) + lose(model, packing, IDS[:2])
    expected = by_backward(both, model.table.weight)
    with packing.changes:
        share_tied_table(packing, model)
        model.table.weight.grad = None
        lose(model, packing, IDS).backward()
        lose(model, packing, IDS[:2]).backward()
    torch.testing.assert_close(model.table.weight.grad, expected)


def test_frozen_and_untied_tables_are_left_alone() -> None:
    frozen, untied = tied(nn.Embedding, None), tied(nn.Embedding, None)
    frozen.table.weight.requires_grad_(False)
    untied.get_output_embeddings().weight = nn.Parameter(torch.ones(WORDS, WIDTH))
    for model in (frozen, untied):
        share_tied_table(Packing(), model)
        assert "forward" not in vars(model.table)
