"""Divergence of a run: a result, not a crash."""

from __future__ import annotations

import math

LOSS_CEILING = 50.0
"""A mean loss this many times that of a uniform answer counts as blown up.

The mean answer of a regression has a loss of a half, less than a uniform answer of two classes.
"""


class DivergedError(Exception):
    """The run blew up: the loss or a gradient is not finite, or the loss exceeds the ceiling."""

    def __init__(self, step: int, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"step {step}: {why}")


def check_finite(step: int, loss: float, gradient_norm: float, num_classes: int) -> None:
    """Raise DivergedError when this step shows that the run has blown up."""
    if not math.isfinite(loss):
        raise DivergedError(step, f"the loss is {loss}")
    if not math.isfinite(gradient_norm):
        raise DivergedError(step, f"the gradient norm is {gradient_norm}")
    ceiling = LOSS_CEILING * math.log(max(2, num_classes))
    if loss > ceiling:
        raise DivergedError(step, f"the loss is {loss:.1f}, above {ceiling:.0f}")
