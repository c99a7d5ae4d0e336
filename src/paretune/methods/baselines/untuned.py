"""Untuned: the model as it comes, which trains nothing.

Source: the checkpoint, by whoever trained it.
Equation: h = f(x), with f frozen.
Trained parameters: none.
Start: the base model, and so it stays. Always beside the methods of a translation: what does not
beat it has made the model worse.
When: never for its own sake: it is the baseline that every method has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paretune.methods.core.method import Head, Method, Trains

if TYPE_CHECKING:
    from torch import nn

    from paretune.methods.core.injection import Injection
    from paretune.methods.core.run_axis import Fleet
    from paretune.models.structure.anatomy import Anatomy


@dataclass(frozen=True)
class Options:
    """The untuned model has no options."""


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Add nothing."""
    from paretune.methods.core.injection import Injection

    return Injection({})


def count_parameters(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """None."""
    return 0


METHOD = Method(
    name="untuned",
    title="the untuned model",
    options=Options,
    learning_rates=None,
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    trains=Trains.NOTHING,
    head=Head.PRETRAINED,
    not_in_stack="it trains nothing",
)
