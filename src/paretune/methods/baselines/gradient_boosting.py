"""Gradient boosting on the columns of a table: what needs no language model and no sentence.

Source: Friedman 2001, Annals of Statistics 29(5); scikit-learn's histogram form (Ke et al. 2017,
LightGBM), with its default settings. Columns of numbers are taken as numbers, all others as
categories; what train did not know, and what is missing, counts as missing.
When: the data is a table: the measure of what its sentences and a language model can do for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from paretune.data.example import Example
from paretune.methods.baselines import majority
from paretune.methods.core.method import Baseline
from paretune.methods.core.options import MethodOptions
from paretune.objectives.values import fit_target_scale

MAX_CATEGORIES = 200
"""Of one column, its most frequent; scikit-learn takes 255 at most. The rest counts as missing."""


def fit(
    train: Sequence[Example], num_labels: int, options: MethodOptions, seed: int
) -> Callable[[Sequence[Example]], NDArray[np.float64]]:
    """Returns a function from examples to log-probabilities, (examples, labels).

    With one label in train that is the majority answer. Of numbers: to deviations from their mean
    in train, (examples, 1).
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    table = _encode_columns(train)
    categorical = [known is not None for known in table]
    settings = {"categorical_features": categorical, "random_state": seed % 2**32}
    if (scale := fit_target_scale(train)) is not None:
        line = HistGradientBoostingRegressor(**settings)
        line.fit(_build_matrix(train, table), scale.standardise(train))
        return lambda examples: np.asarray(line.predict(_build_matrix(examples, table))).reshape(
            -1, 1
        )
    labels = [int(e.label) for e in train if e.label is not None]
    if len(set(labels)) == 1:
        return majority.fit(train, num_labels, options, seed)  # nothing to tell apart
    model = HistGradientBoostingClassifier(**settings)
    model.fit(_build_matrix(train, table), labels)
    seen = [int(c) for c in model.classes_]

    def scores(examples: Sequence[Example]) -> NDArray[np.float64]:
        answers = np.full((len(examples), num_labels), -1e3)  # a label unseen in train: storable
        probabilities = model.predict_proba(_build_matrix(examples, table))
        answers[:, seen] = np.log(np.maximum(probabilities, 1e-300))
        return answers

    return scores


def _encode_columns(train: Sequence[Example]) -> list[dict[object, int] | None]:
    """For each column None if its values are numbers, otherwise the code of each category."""
    codes: list[dict[object, int] | None] = []
    for column in zip(*(e.features for e in train), strict=True):
        values = [v for v in column if v is not None]
        if all(isinstance(v, float) for v in values):
            codes.append(None)
            continue
        counts: dict[object, int] = {}
        for value in values:
            counts[value] = counts.get(value, 0) + 1
        frequent = sorted(counts, key=lambda v: (-counts[v], str(v)))[:MAX_CATEGORIES]
        codes.append({value: code for code, value in enumerate(frequent)})
    return codes


def _build_matrix(
    examples: Sequence[Example], table: Sequence[dict[object, int] | None]
) -> NDArray[np.float64]:
    """(examples, columns): numbers, or codes of categories; NaN for what is missing or unknown."""
    rows = np.full((len(examples), len(table)), np.nan)
    for i, example in enumerate(examples):
        for j, (value, codes) in enumerate(zip(example.features, table, strict=True)):
            if codes is not None:
                rows[i, j] = codes.get(value, np.nan)
            elif isinstance(value, float):
                rows[i, j] = value
    return rows


METHOD = Baseline(
    name="gradient_boosting",
    title="gradient boosting",
    options=MethodOptions,
    fit=fit,
    complexity=2,
)
