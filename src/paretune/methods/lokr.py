"""LoKr: the Kronecker product of a small full matrix and a low-rank one.

Source: Yeh et al. 2023 (LyCORIS), arXiv:2309.14859, section 3; Edalati et al. 2022 (KronA),
arXiv:2212.10650.
Equation: h = W x + (alpha / rank) (C (x) (A B)) x, with W frozen; where the rank is at least half
of the larger side of A B, one full matrix D stands in its place.
Shapes, for out = l * k and in = m * n: C (runs, l, m), A (runs, k, rank), B (runs, rank, n) or
D (runs, k, n).
Trained parameters: l * m + rank * (k + n), or l * m + k * n, for each target layer.
Start: the base model (C = 0; the others uniform on +-1/sqrt(fan in), as PEFT).
Merges: W + (alpha / rank) C (x) (A B). PEFT export: LOKR.
When: the file must be as small as it gets and some loss of quality is acceptable.

The product is never built: x, seen as an m x n matrix X, gives C X (A B)^T.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, fill_peft_layers, merge_deltas
from paretune.methods.core.low_rank import LowRankOptions, attach_updates, count_updates
from paretune.methods.core.method import Method, always
from paretune.methods.core.run_axis import Fleet, draw_uniform, per_run_linear
from paretune.models.structure.anatomy import Anatomy

NAME = "lokr"


class Options(LowRankOptions):
    """``decompose_factor`` bounds l and m (-1: near the root)."""

    decompose_factor: int = Field(default=-1, ge=-1, le=4096)


class LokrUpdate(nn.Module):
    """One Kronecker update for each run, beside a frozen linear layer."""

    C: Tensor
    A: Tensor
    B: Tensor
    D: Tensor | None

    def __init__(
        self, base: nn.Linear, options: Options, fleet: Fleet, generators: list[torch.Generator]
    ) -> None:
        super().__init__()
        self.register_parameter("D", None)
        self.fleet, self.scaling = fleet, options.scaling
        shapes = _tensor_shapes(base, options)
        self.inner_rows = shapes["C"][1]
        for name, shape in shapes.items():
            zeros = torch.zeros(fleet.runs, *shape)
            values = zeros if name == "C" else draw_uniform(shape, shape[1], generators)
            self.register_parameter(name, nn.Parameter(values.to(base.weight.device)))

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        columns = x.reshape(*x.shape[:-1], self.inner_rows, -1)
        if self.D is not None:
            right = per_run_linear(columns, self.D, self.fleet)
        else:
            right = per_run_linear(per_run_linear(columns, self.B, self.fleet), self.A, self.fleet)
        product = per_run_linear(right.transpose(-1, -2), self.C, self.fleet).transpose(-1, -2)
        return out + product.flatten(-2) * self.scaling

    def delta(self, run: int = 0) -> Tensor:
        """The update of the weight, (out, in)."""
        right = self.A[run] @ self.B[run] if self.D is None else self.D[run]
        return torch.kron(self.C[run], right) * self.scaling


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put an update beside each target layer."""
    return attach_updates(model, anatomy, options, fleet, seeds, NAME, LokrUpdate)


def count_parameters(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Sum of l * m + rank * (k + n), or l * m + k * n, over the target layers."""

    def count_layer(layer: nn.Linear, layer_options: Options) -> int:
        return sum(math.prod(shape) for shape in _tensor_shapes(layer, layer_options).values())

    return count_updates(model, anatomy, options, count_layer)


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """PEFT's LoKr with the same tensors."""
    import peft

    config = peft.LoKrConfig(
        r=options.rank,
        alpha=options.effective_alpha,
        decompose_factor=options.decompose_factor,
        **options.peft_layers(injection),
        **common,
    )
    names = {"C": "lokr_w1", "A": "lokr_w2_a", "B": "lokr_w2_b", "D": "lokr_w2"}
    return fill_peft_layers(model, config, injection, NAME, names)


def _tensor_shapes(base: nn.Linear, options: Options) -> dict[str, tuple[int, int]]:
    rows, inner_rows = factorise(base.out_features, options.decompose_factor)
    columns, inner_columns = factorise(base.in_features, options.decompose_factor)
    if options.rank < max(inner_rows, inner_columns) / 2:
        right = {"A": (inner_rows, options.rank), "B": (options.rank, inner_columns)}
    else:
        right = {"D": (inner_rows, inner_columns)}
    return {"C": (rows, columns), **right}


def factorise(number: int, factor: int) -> tuple[int, int]:
    """``number`` as a product of two factors, the smaller first, as near to its root as it goes.

    A ``factor`` that divides the number is itself the first, as in LyCORIS; otherwise it bounds the
    smaller one, and -1 sets no bound.
    """
    if factor > 0 and number % factor == 0:
        return factor, number // factor
    highest = math.isqrt(number) if factor < 1 else min(factor, math.isqrt(number))
    small = next(n for n in range(highest, 0, -1) if number % n == 0)
    return small, number // small


METHOD = Method(
    name=NAME,
    title="LoKr",
    options=Options,
    learning_rates=(1e-3, 3e-3, 1e-2),
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    merge=merge_deltas,
    to_peft=to_peft,
    reads_base_weights=LowRankOptions.trains_base_modules,
    mixes=always,
    saved_widths=9.5,
    layers_below=LowRankOptions.count_layers_below,
    size_option="rank",
)
