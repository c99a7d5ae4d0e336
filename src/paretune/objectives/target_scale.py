"""What a loss needs beside outputs and labels: the unit of the targets, and label smoothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paretune.data.example import Example


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of the numbers in the training part."""

    mean: float
    deviation: float

    def standardise(self, examples: Sequence[Example]) -> list[float]:
        """The labels in standard deviations from the mean."""
        return [(e.label - self.mean) / self.deviation for e in examples if e.label is not None]


def fit_target_scale(train: Sequence[Example]) -> TargetScale | None:
    """The scale of the numbers of ``train``; None where it has none."""
    numbers = [e.label for e in train if isinstance(e.label, float)]
    if not numbers:
        return None
    # A part whose numbers are all the same is an error of the audit; it must not divide by 0 here.
    return TargetScale(statistics.fmean(numbers), statistics.pstdev(numbers) or 1.0)


@dataclass(frozen=True)
class LossOptions:
    """What the loss of a run needs beside outputs and labels; chosen once for the run."""

    target_scale: TargetScale | None = None
    label_smoothing: float = 0.0
