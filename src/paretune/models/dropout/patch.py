"""The one way in which dropout is replaced: for the time of a pass, torch's function is ours.

Marian, T5 and others call ``torch.nn.functional.dropout`` themselves, with no module to hook, and
``nn.Dropout`` calls it too. (A torch function mode would see every function of torch, and is off in
what a backward pass computes again.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor

from paretune.models.dropout.rng import DropoutRng


@contextmanager
def seeded_dropout(rng: DropoutRng) -> Iterator[None]:
    """Draw every dropout of a forward and backward pass from ``rng`` while the block runs.

    One pass at a time in a process.
    """
    before = F.dropout

    def dropout(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        # Never in place, which is only a way to save memory.
        return rng.drop(input, p) if training else input

    F.dropout = dropout
    try:
        yield
    finally:
        F.dropout = before
