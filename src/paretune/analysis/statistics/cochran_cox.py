"""How far a score may be off where seeds are few: half the width of its interval.

Two variances, of seeds and of examples, each with its own degrees of freedom. Welch and
Satterthwaite's degrees of freedom of their sum are right on average; but two or three seeds are
alike by chance now and then, the sum then looks as sure as its many examples, and the interval
holds the true score in as few as 87 % of simulated studies (docs/statistics.md). So the quantile
is the mean of both parts' quantiles, weighted by their variances (Cochran and Cox 1950,
"Experimental Designs", section 4.14; Cochran 1964, Biometrics 20)::

    half = (t_seeds v_seeds + t_examples v_examples) / sqrt(v_seeds + v_examples)

With one seed it is Student's of the examples, without an examples' part Student's of the seeds.
Banerjee's rule, which differences use
(:mod:`paretune.analysis.statistics.conservative_difference`), is never narrower: it is
safe at the strict levels of many comparisons, which a single score does not need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


def cochran_cox_half_width(
    v_seeds: ArrayLike, seeds: int, v_examples: ArrayLike, units: int, level: float
) -> NDArray[Any]:
    """Half the width of two-sided intervals that hold the truth with ``level``.

    Shapes: ``v_seeds`` and ``v_examples`` alike, any; one interval for each entry.

    Args:
        v_seeds: variance of the mean score that comes from seeds; not read where there is one seed.
        seeds: how many.
        v_examples: its variance that comes from the test examples.
        units: how many independent units of examples, at least 2.
        level: 0.95, say.
    """
    examples = np.asarray(v_examples, dtype=float)
    own = float(special.stdtrit(units - 1, (1 + level) / 2))
    if seeds == 1:
        return np.asarray(own * np.sqrt(examples))
    between = np.asarray(v_seeds, dtype=float)
    error = np.sqrt(between + examples)
    theirs = float(special.stdtrit(seeds - 1, (1 + level) / 2))
    weighted = theirs * between + own * examples
    # Where nothing moves the score, nothing is uncertain.
    return np.asarray(np.divide(weighted, error, out=np.zeros(error.shape), where=error > 0))
