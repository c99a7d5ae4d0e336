"""The source as its own translation, or the prompt as its own answer, unchanged.

What a model scores that learnt to copy: names, numbers and formatting are often the same in both
languages, and a summary has the words of its text, so this is not 0, and no method below it
translates or answers. Needs no model and trains nothing.
When: never: every translation has to score higher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paretune.data.example import Example
from paretune.methods.core.method import Baseline
from paretune.methods.core.options import MethodOptions


def fit(
    train: Sequence[Example], num_labels: int, options: MethodOptions, seed: int
) -> Callable[[Sequence[Example]], list[str]]:
    """Returns a function from examples to texts: their sources."""
    return lambda examples: [example.segments[0][0] for example in examples]


METHOD = Baseline(
    name="copy_source",
    title="copied source",
    options=MethodOptions,
    fit=fit,
    is_useful=False,
)
