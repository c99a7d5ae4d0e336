"""Every dropout of a forward pass drawn by :mod:`.chance`, wherever a model calls it.

Marian, T5 and others call ``torch.nn.functional.dropout`` themselves, with no module to hook; a
mode of torch's own sees these calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from paretune.models.packing.chance import Chance, drop


class Dropping(TorchFunctionMode):
    """While it is entered, dropout draws from ``chance``; all else is as it was."""

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self.chance = chance

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """What torch calls in the place of each of its functions."""
        if func is F.dropout:
            return _drop(self.chance, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _drop(
    chance: Chance, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Dropout as torch's; never in place, which is only a way to save memory."""
    return drop(input, chance, p) if training else input
