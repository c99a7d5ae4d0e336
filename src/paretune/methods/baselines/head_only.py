"""Head only (linear probe): the backbone stays frozen, only the head is trained.

Source: Alain and Bengio 2016, arXiv:1610.01644.
Equation: p(y|x) = head(f(x)), with f frozen.
Trained parameters: those of the head.
Start: the base model. Always beside the methods of a study: what does not beat it has learned
nothing in the backbone.
When: never for its own sake: it is the baseline that every method has to beat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretune.methods.core.method import Head, Method, Trains
from paretune.methods.core.options import MethodOptions

if TYPE_CHECKING:
    from torch import nn

    from paretune.methods.core.injection import Injection
    from paretune.methods.core.run_axis import Fleet
    from paretune.models.structure.anatomy import Anatomy


def inject(
    model: nn.Module, anatomy: Anatomy, options: MethodOptions, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Add nothing: a head is trained with every method."""
    from paretune.methods.core.injection import Injection

    return Injection({})


def count_parameters(model: nn.Module, anatomy: Anatomy, options: MethodOptions) -> int:
    """None: the head is counted apart."""
    return 0


METHOD = Method(
    name="head_only",
    title="linear probe",
    options=MethodOptions,
    learning_rates=(1e-3, 5e-3, 2e-2),
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    trains=Trains.HEAD,
    head=Head.NEW,
    not_in_stack="the head is trained with every method",
)
