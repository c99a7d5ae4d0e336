"""Every dropout of a pass drawn by :mod:`.chance`, wherever a model calls it.

Marian, T5 and others call ``torch.nn.functional.dropout`` themselves, with no module to hook, and
``nn.Dropout`` calls it too, so for the time of a pass it is ours. (A torch function mode would see
every function of torch, and is off in what a backward pass computes again.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch.nn.functional as F
from torch import Tensor

from paretune.models.dropout.rng import DropoutRng, drop


def patch_dropout(chance: DropoutRng) -> AbstractContextManager[None]:
    """While it is open, torch's dropout draws from ``chance``; one pass at a time in a process."""
    return patch_functional_dropout(lambda x, p: drop(x, chance, p))


@contextmanager
def patch_functional_dropout(dropped: Callable[[Tensor, float], Tensor]) -> Iterator[None]:
    """While it is open, torch's dropout in training is ``dropped``, of a tensor and p."""
    before = F.dropout

    def ours(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        # Never in place, which is only a way to save memory.
        return dropped(input, p) if training else input

    F.dropout = ours
    try:
        yield
    finally:
        F.dropout = before
