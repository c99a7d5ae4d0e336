"""P-values of several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ALPHA = 0.05
"""A difference is clear where its corrected two-sided p-value is below this."""


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values that bound the chance of any false claim in the family (Holm 1979)."""
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]
