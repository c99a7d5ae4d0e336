"""What may go wrong in a run and is a result, not a crash: divergence, and memory that ends."""

from __future__ import annotations

import math

import torch

LOSS_CEILING = 50.0
"""A mean loss this many times that of a uniform answer counts as blown up.

The mean answer of a regression has a loss of a half, less than a uniform answer of two classes.
"""


class DivergedError(Exception):
    """The run blew up: the loss or a gradient is not finite, or the loss exceeds the ceiling."""

    def __init__(self, step: int, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"step {step}: {why}")


def check_finite(step: int, loss: float, gradient_norm: float, num_labels: int) -> None:
    """Raise DivergedError when this step shows that the run has blown up."""
    if not math.isfinite(loss):
        raise DivergedError(step, f"the loss is {loss}")
    if not math.isfinite(gradient_norm):
        raise DivergedError(step, f"the gradient norm is {gradient_norm}")
    ceiling = LOSS_CEILING * math.log(max(2, num_labels))
    if loss > ceiling:
        raise DivergedError(step, f"the loss is {loss:.1f}, above {ceiling:.0f}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has ended, on CUDA or on CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in said or "not enough memory" in said or "out of memory" in said
    )
