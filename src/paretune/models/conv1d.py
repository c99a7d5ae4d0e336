"""GPT-2's ``Conv1D`` layers as the linear layers that they are, and back.

They keep their weights transposed, (in, out). Everything here and in PEFT's tuners that we compare
with reads and changes linear layers, so they become ``nn.Linear`` at loading; an export has the
checkpoint's layout again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from paretune.models.structure.layers import parent_name


def to_linear_layers(model: Any) -> tuple[str, ...]:
    """Replace every ``Conv1D`` by a linear layer, in place; the names of those replaced."""
    names = tuple(name for name, module in model.named_modules() if isinstance(module, Conv1D))
    for name in names:
        old = model.get_submodule(name)
        new = nn.Linear(old.nx, old.nf, device="meta")
        _replace(model, name, old, new)
    return names


def to_conv1d_layers(model: Any, names: Iterable[str]) -> None:
    """Undo :func:`to_linear_layers`, in place, with the weights as they are now."""
    for name in names:
        old = model.get_submodule(name)
        # Made as small as can be: its constructor draws weights, and these are replaced.
        new = Conv1D(1, 1)
        new.nf, new.nx = old.out_features, old.in_features
        _replace(model, name, old, new)


def _replace(model: Any, name: str, old: Any, new: Any) -> None:
    new.weight = nn.Parameter(old.weight.detach().t().contiguous(), old.weight.requires_grad)
    new.bias = old.bias
    new.train(old.training)
    setattr(model.get_submodule(parent_name(name)), name.rpartition(".")[2], new)
