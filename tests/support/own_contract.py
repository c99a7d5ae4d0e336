"""The contract of the methods of this package, with what is known of each of them."""

from __future__ import annotations

from functools import partial

import torch

from paretune.methods import dora
from paretune.methods.core.injection import Injection
from paretune.testing.method_walk import Walk
from paretune.testing.methods import MethodContract
from support.zero_effect import ZERO


class OwnMethodContract(MethodContract):
    """Which tensors are without effect at zero, and which the gradient holds constant."""

    def neutral_tensors(self, walk: Walk) -> tuple[str, ...] | None:
        return ZERO[walk.method]

    def hold_constants(self, injection: Injection) -> str:
        updates = [u for u in injection.adapters.values() if isinstance(u, dora.DoraUpdate)]
        for update in updates:
            update.row_norms = partial(torch.Tensor.detach, update.row_norms())
        return "DoRA's norms held constant, as its gradient has them" if updates else ""
