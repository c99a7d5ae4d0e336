"""Few-shot: the model as it comes, after solved examples in its prompt; it trains nothing.

Source: Brown et al. 2020, arXiv:2005.14165.
Equation: p(y | x_1 y_1 ... x_k y_k x), with the model frozen.
Trained parameters: none.
Start: the base model, and so it stays. The k examples are drawn from the training part by the run's
seed, the labels in turn; never from the selection or the test part. Beside the methods of every
task of a model that can answer without training.
When: the model answers well from a few examples: it needs no training at all, but each answer reads
all of them.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from paretune.methods.baselines import untuned
from paretune.methods.core.options import MethodOptions


class Options(MethodOptions):
    """``k``: how many solved examples. All have room for as many tokens as the texts of a study
    (``training.max_length``) times k + 1, or as many as the model takes; where they do not fit, the
    first ones are left out.
    """

    k: int = Field(default=5, ge=1, le=100)


def count_shots(options: Options) -> int:
    """As many as the study says."""
    return options.k


METHOD = replace(
    untuned.METHOD,
    name="few_shot",
    title="few-shot prompt",
    options=Options,
    readouts=("label_words", "text"),
    shots=count_shots,
)
