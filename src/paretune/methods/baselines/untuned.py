"""Untuned: the model as it comes, which trains nothing.

Source: the checkpoint, by whoever trained it.
Equation: h = f(x), with f frozen.
Trained parameters: none.
Start: the base model, and so it stays. Beside the methods of every task of a model that can answer
without training (a translation, or a task that a language model is asked by a prompt): what does
not beat it has made the model worse.
When: never for its own sake: it is the baseline that every method has to beat.
"""

from __future__ import annotations

from paretune.methods.baselines.head_only import count_parameters, inject
from paretune.methods.core.method import Head, Method, Trains
from paretune.methods.core.options import MethodOptions

METHOD = Method(
    name="untuned",
    title="untuned model",
    options=MethodOptions,
    learning_rates=None,
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    trains=Trains.NOTHING,
    head=Head.PRETRAINED,
    not_in_stack="it trains nothing",
)
