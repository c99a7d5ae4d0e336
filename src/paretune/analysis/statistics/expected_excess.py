"""Expected improvement of a normal variable over a threshold.

    E[max(X - q, 0)] = sd (z Phi(z) + phi(z)),   z = (mean - q) / sd

(Mockus 1975; Jones, Schonlau and Welch 1998, doi 10.1023/A:1008306431147.) A race against time
(:mod:`paretune.search.budget`) and a search (:mod:`paretune.autopeft.acquisition`) both ask for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def expected_excess(z: ArrayLike) -> Array:
    """E[max(z + N, 0)] of a standard normal N, for each ``z``."""
    from scipy.special import ndtr

    z = np.asarray(z, dtype=float)
    return np.asarray(z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
