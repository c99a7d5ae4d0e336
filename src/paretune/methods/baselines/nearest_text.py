"""Nearest neighbour: the completion of the train prompt that is most similar by TF-IDF.

Words and word pairs, sublinear TF-IDF, cosine; ties go to the first row. What looking an answer up
in the training data scores, without a model.
When: prompts repeat almost word by word, as in frequent questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paretune.data.example import Example
from paretune.methods.baselines import frequent_text
from paretune.methods.core.method import Baseline
from paretune.methods.core.options import MethodOptions


def fit(
    train: Sequence[Example], num_labels: int, options: MethodOptions, seed: int
) -> Callable[[Sequence[Example]], list[str]]:
    """Returns a function from examples to texts; the most frequent one where no word is shared."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    constant = frequent_text.fit(train, num_labels, options, seed)
    (default,) = constant(train[:1])
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    prompts = [example.segments[0][0] for example in train]
    if not any(map(vectorizer.build_analyzer(), prompts)):
        return constant  # signs only: there is no word to compare
    table = vectorizer.fit_transform(prompts)

    def predict(examples: Sequence[Example]) -> list[str]:
        # Rows have length 1, so products are cosines; sparse, a thousand prompts at a time.
        texts: list[str] = []
        for start in range(0, len(examples), 1000):
            some = examples[start : start + 1000]
            cosines = vectorizer.transform([e.segments[0][0] for e in some]) @ table.T
            nearest = np.asarray(cosines.argmax(axis=1)).ravel().tolist()
            shared = cosines.max(axis=1).toarray()[:, 0] > 0
            texts += [
                (train[place].target or "") if known else default
                for place, known in zip(nearest, shared, strict=True)
            ]
        return texts

    return predict


METHOD = Baseline(
    name="nearest_text",
    title="nearest prompt",
    options=MethodOptions,
    fit=fit,
    complexity=1,
)
