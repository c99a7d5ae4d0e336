"""Majority answer: the most frequent label of train, for every example; of numbers, their mean.

What a collapsed run scores; no method below it has learned anything. Ties go to the label that
comes first. For multiple choice this is the position that is right most often.
When: never: it is what a constant answer scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from paretune.data.example import Example
from paretune.methods.core.method import Baseline
from paretune.methods.core.options import MethodOptions
from paretune.objectives.values import fit_target_scale


def fit(
    train: Sequence[Example], num_labels: int, options: MethodOptions, seed: int
) -> Callable[[Sequence[Example]], NDArray[np.float64]]:
    """Returns a function from examples to log-probabilities, (examples, labels).

    Of numbers: to deviations from their mean, (examples, 1), so 0.
    """
    if fit_target_scale(train) is not None:
        return lambda examples: np.zeros((len(examples), 1))
    labels = [int(e.label) for e in train if e.label is not None]
    counts = np.bincount(labels, minlength=num_labels)
    scores = np.log((counts + 1) / (counts.sum() + num_labels))
    return lambda examples: np.tile(scores, (len(examples), 1))


METHOD = Baseline(
    name="majority",
    title="constant answer",
    options=MethodOptions,
    fit=fit,
    is_useful=False,
)
