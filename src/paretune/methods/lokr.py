"""LoKr: the Kronecker product of a small full matrix and a low-rank one.

Source: Yeh et al. 2023 (LyCORIS), arXiv:2309.14859, section 3; Edalati et al. 2022 (KronA),
arXiv:2212.10650.
Equation: h = W x + (alpha / rank) (C (x) (A B)) x, with W frozen; where the rank is at least half
of the larger side of A B, one full matrix D stands in its place.
Shapes, for out = l * k and in = m * n: C (l, m), A (k, rank), B (rank, n) or
D (k, n).
Trained parameters: l * m + rank * (k + n), or l * m + k * n, for each target layer.
Start: the base model (C = 0; the others uniform on +-1/sqrt(fan in), as PEFT).
Merges: W + (alpha / rank) C (x) (A B). PEFT export: LOKR.
When: the file must be as small as it gets and some loss of quality is acceptable.

The product is never built: x, seen as an m x n matrix X, gives C X (A B)^T.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paretune.methods.core.low_rank import LowRankOptions, LowRankUpdate, low_rank_method


class LokrOptions(LowRankOptions):
    """``decompose_factor`` bounds l and m (-1: near the root)."""

    decompose_factor: int = Field(default=-1, ge=-1, le=4096)

    def peft_fields(self) -> dict[str, Any]:
        """See :meth:`LowRankOptions.peft_fields`."""
        return {**super().peft_fields(), "decompose_factor": self.decompose_factor}


class LokrUpdate(LowRankUpdate):
    """A Kronecker update beside a frozen linear layer."""

    C: Tensor
    A: Tensor
    B: Tensor
    D: Tensor | None
    zero = "C"
    peft_config = "LoKrConfig"
    peft_names: ClassVar[Mapping[str, str]] = {
        "C": "lokr_w1",
        "A": "lokr_w2_a",
        "B": "lokr_w2_b",
        "D": "lokr_w2",
    }

    def __init__(self, base: nn.Linear, options: LokrOptions, generator: torch.Generator) -> None:
        super().__init__(base, options, generator)
        if "D" not in dict(self.named_parameters()):
            self.register_parameter("D", None)
        self.inner_rows = self.C.shape[1]

    @classmethod
    def shapes(cls, base: nn.Linear, options: Any) -> dict[str, tuple[int, int]]:
        """The shape of each tensor."""
        rows, inner_rows = factorise(base.out_features, options.decompose_factor)
        columns, inner_columns = factorise(base.in_features, options.decompose_factor)
        rank = options.rank
        if rank < max(inner_rows, inner_columns) / 2:
            return {"C": (rows, columns), "A": (inner_rows, rank), "B": (rank, inner_columns)}
        return {"D": (inner_rows, inner_columns), "C": (rows, columns)}

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        columns = x.reshape(*x.shape[:-1], self.inner_rows, -1)
        if self.D is not None:
            right = F.linear(columns, self.D)
        else:
            right = F.linear(F.linear(columns, self.B), self.A)
        product = F.linear(right.transpose(-1, -2), self.C).transpose(-1, -2)
        return out + product.flatten(-2) * self.scaling

    def delta(self) -> Tensor:
        """The update of the weight, (out, in)."""
        right = self.A @ self.B if self.D is None else self.D
        return torch.kron(self.C, right) * self.scaling


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


METHOD = low_rank_method(
    LokrUpdate,
    name="lokr",
    title="LoKr",
    options=LokrOptions,
    learning_rates=(2e-3, 6e-3, 2e-2),
    saved_widths=9.5,
)
