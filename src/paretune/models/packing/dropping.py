"""Every dropout of a pass drawn by :mod:`.chance`, wherever a model calls it.

Marian, T5 and others call ``torch.nn.functional.dropout`` themselves, with no module to hook, and
``nn.Dropout`` calls it too, so for the time of a pass it is ours. (A torch function mode would see
every function of torch, and is off in what a backward pass computes again.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor

from paretune.models.packing.chance import Chance, drop


@contextmanager
def dropping(chance: Chance) -> Iterator[None]:
    """While it is open, torch's dropout draws from ``chance``; one pass at a time in a process."""
    before = F.dropout

    def ours(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        # Never in place, which is only a way to save memory.
        return drop(input, chance, p) if training else input

    F.dropout = ours
    try:
        yield
    finally:
        F.dropout = before
