"""The most frequent completion of train, for every prompt.

What a constant text scores; no method below it has learned to answer. Texts count as the same if
they are so after SQuAD's normalisation; ties go to the one that comes first.
When: never: it is what a constant answer scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from paretune.data.example import Example
from paretune.methods.core.method import Baseline
from paretune.methods.core.options import MethodOptions
from paretune.metrics.answers import normalise_answer


def fit(
    train: Sequence[Example], num_labels: int, options: MethodOptions, seed: int
) -> Callable[[Sequence[Example]], list[str]]:
    """Returns a function from examples to texts, all the same."""
    texts = [example.target or "" for example in train]
    counts = Counter(map(normalise_answer, texts))
    # max keeps the first of equals.
    most = max(texts, key=lambda text: counts[normalise_answer(text)])
    return lambda examples: [most for _ in examples]


METHOD = Baseline(
    name="frequent_text",
    title="most frequent text",
    options=MethodOptions,
    fit=fit,
    is_useful=False,
)
