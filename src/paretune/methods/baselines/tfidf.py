"""TF-IDF and logistic regression: what the bare words of an example already tell.

Words and word pairs, sublinear TF-IDF, scikit-learn's logistic regression with C = 1; for numbers
its ridge regression with alpha = 1. A pair is joined to one text. For multiple choice each choice
with its premise is classified as right or wrong and the likeliest choice is the answer.
When: never for its own sake: what does not beat it needs no language model.
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


def fit(
    train: Sequence[Example], num_labels: int, options: MethodOptions, seed: int
) -> Callable[[Sequence[Example]], NDArray[np.float64]]:
    """Returns a function from examples to log-probabilities, (examples, labels).

    With one label in train, or no word in its texts, that is the majority answer.
    Of numbers: to deviations from their mean in train, (examples, 1).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    texts = [_join_segment(segment) for e in train for segment in e.segments]
    constant = majority.fit(train, num_labels, options, seed)
    if not any(map(words.build_analyzer(), texts)):
        return constant  # signs only: there is no word to learn from
    if (scale := fit_target_scale(train)) is not None:
        line = make_pipeline(words, Ridge(alpha=1.0))
        line.fit(texts, scale.standardise(train))
        return lambda examples: np.asarray(
            line.predict([_join_segment(e.segments[0]) for e in examples])
        ).reshape(-1, 1)
    choices = len(train[0].segments)
    if choices > 1:
        answers = [int(c == e.label) for e in train for c in range(choices)]
    else:
        answers = [int(e.label) if e.label is not None else -1 for e in train]
    if len(set(answers)) == 1:
        return constant
    model = make_pipeline(
        words,
        LogisticRegression(C=1.0, max_iter=2000, random_state=seed % 2**32),
    )
    model.fit(texts, answers)
    seen = [int(c) for c in model[-1].classes_]

    def scores(examples: Sequence[Example]) -> NDArray[np.float64]:
        flat = [_join_segment(segment) for e in examples for segment in e.segments]
        log_probabilities = model.predict_log_proba(flat)
        if choices > 1:
            right: NDArray[np.float64] = log_probabilities[:, seen.index(1)]
            return right.reshape(len(examples), choices)
        table = np.full((len(examples), num_labels), -np.inf)
        table[:, seen] = log_probabilities
        finite: NDArray[np.float64] = np.maximum(table, -1e3)  # a label unseen in train: storable
        return finite

    return scores


def _join_segment(segment: tuple[str, str | None]) -> str:
    return segment[0] if segment[1] is None else f"{segment[0]} {segment[1]}"


METHOD = Baseline(
    name="tfidf",
    title="TF-IDF",
    options=MethodOptions,
    fit=fit,
    complexity=1,
)
