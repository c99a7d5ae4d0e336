"""Learning rate schedules."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_factor(
    step: int,
    total: int,
    warmup_fraction: float,
    kind: Literal["linear", "cosine", "constant"],
) -> float:
    """The factor of the learning rate at ``step`` (0-based) of ``total`` steps.

    Linear warm-up from 0 over the first ``warmup_fraction`` of the steps (rounded up), then linear
    or cosine decay to 0, or none. The same values as ``transformers``' schedules.
    """
    warmup = math.ceil(warmup_fraction * total)
    if step < warmup:
        return step / max(1, warmup)
    if kind == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    if kind == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return max(0.0, 1.0 - progress)
