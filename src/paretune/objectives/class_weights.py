"""Class weights: errors on a rare class count as much as those on a frequent one.

``balanced`` weights a class by the inverse of its frequency in the training part (King and Zeng
2001, Political Analysis 9(2), and scikit-learn's ``class_weight``); else the study gives ratios by
label. Either way their mean over the training examples is 1, so that a learning rate keeps its
meaning. If examples have several labels, each has two classes: without it and with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paretune.errors import StudyError, suggest
from paretune.metrics.classification import multi_hot
from paretune.objectives.example import Example

ClassWeights = tuple[tuple[float, ...], ...]
"""(labels, 1), or (2, labels): without the label, and with it."""


def count_classes(examples: Sequence[Example], labels: Sequence[str]) -> NDArray[np.float64]:
    """How often each label or tag occurs, (labels, 1), or of several labels (2, labels)."""
    if any(isinstance(e.label, str) for e in examples):
        present = multi_hot(e.label for e in examples).sum(axis=0).astype(float)
        return np.stack([len(examples) - present, present])
    indices = [labels.index(tag) for e in examples for tag in (e.target or "").split()]
    indices += [int(e.label) for e in examples if e.label is not None]
    return np.bincount(indices, minlength=len(labels)).astype(float)[:, None]


def weight_classes(
    train: Sequence[Example], weights: str | Mapping[str, float], labels: Sequence[str]
) -> ClassWeights | None:
    """The weights of the classes; ``none`` has none.

    Args:
        weights: ``none``, ``balanced``, or ratios by label; a label without one has 1.

    Raises:
        StudyError: a name is no label.
    """
    if weights == "none":
        return None
    where = "training.class_weights"
    counts = count_classes(train, labels)
    ratios = 1 / np.maximum(counts, 1.0)
    if not isinstance(weights, str):
        ratios = np.ones_like(counts)
        of_labels = ratios[:, 0] if counts.shape[1] == 1 else ratios[1]
        for name, weight in weights.items():
            if name not in labels:
                remedy = suggest(name, labels) or f"They are {', '.join(labels)}."
                raise StudyError(f'"{name}" is none of the labels.', where=where, remedy=remedy)
            of_labels[labels.index(name)] = weight
    scaled = ratios * (counts.sum(axis=0) / (counts * ratios).sum(axis=0))
    return tuple(map(tuple, scaled.tolist()))
