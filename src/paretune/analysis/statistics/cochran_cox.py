"""Half the width of a score's interval when seeds are few (Cochran and Cox).

A mean score has two variances, one from seeds and one from test examples, each with its own degrees
of freedom. The Welch-Satterthwaite degrees of freedom of their sum are right on average. But two or
three seeds sometimes agree by chance; then the sum looks as certain as its many examples, and the
interval covers the true score in as few as 87 % of simulated studies. So the
quantile is the mean of both quantiles, weighted by the variances (Cochran and Cox 1950,
"Experimental Designs", section 4.14; Cochran 1964, Biometrics 20)::

    half = (t_seeds v_seeds + t_examples v_examples) / sqrt(v_seeds + v_examples)

With one seed this is Student's interval of the examples; without variance from examples it is
Student's interval of the seeds. Banerjee's rule, used for differences
(:mod:`paretune.analysis.statistics.score_difference`), is never narrower: it holds at the strict
levels of many comparisons, which a single score does not need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


def cochran_cox_half_width(
    v_seeds: ArrayLike, seeds: int, v_examples: ArrayLike, units: int, level: float
) -> NDArray[Any]:
    """Half the width of two-sided intervals with coverage ``level``.

    Shapes: ``v_seeds`` and ``v_examples`` alike, any; one interval for each entry.

    Args:
        v_seeds: variance of the mean score that comes from seeds; ignored if there is one seed.
        seeds: number of seeds.
        v_examples: variance of the mean score that comes from test examples.
        units: number of independent units of examples, at least 2.
        level: for example 0.95.
    """
    examples = np.asarray(v_examples, dtype=float)
    t_examples = float(special.stdtrit(units - 1, (1 + level) / 2))
    if seeds == 1:
        return np.asarray(t_examples * np.sqrt(examples))
    between = np.asarray(v_seeds, dtype=float)
    error = np.sqrt(between + examples)
    t_seeds = float(special.stdtrit(seeds - 1, (1 + level) / 2))
    weighted = t_seeds * between + t_examples * examples
    # Without any variance the interval is the estimate.
    return np.asarray(np.divide(weighted, error, out=np.zeros(error.shape), where=error > 0))
