"""What a search may choose of a method: its sizes and rates, and how a trial's record says them.

Needs no model library, so that records can be read without one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from annotated_types import Ge, Le

if TYPE_CHECKING:
    from paretune.methods.core.method import Method

RATE_FACTORS = (1 / 3, 1.0, 3.0)
"""Of the middle learning rate of the first member."""
SIZE_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of a size option's default."""


@dataclass(frozen=True)
class Member:
    """A method that may stand in a group of layers.

    Attributes:
        option: that sets its size; "" where it has one size.
        sizes: values of that option, fewest parameters first; (None,) without an option.
    """

    name: str
    option: str
    sizes: tuple[int | None, ...]


def describe_member(method: Method) -> Member:
    """The sizes of a method: its size option at :data:`SIZE_FACTORS`, within its bounds."""
    option = method.options.SIZE_OPTION.removeprefix("-")
    if not option:
        return Member(method.name, "", (None,))
    shrinks = option != method.options.SIZE_OPTION
    spec = method.options.model_fields[option]
    low = next(bound.ge for bound in spec.metadata if isinstance(bound, Ge))
    high = next(bound.le for bound in spec.metadata if isinstance(bound, Le))
    default: Any = spec.default
    values = {int(min(high, max(low, round(default * factor)))) for factor in SIZE_FACTORS}
    return Member(method.name, option, tuple(sorted(values, reverse=shrinks)))


def describe_trial(methods: Sequence[Method], rate: float, middle_rate: float) -> dict[str, Any]:
    """The choices of a trial that its method does not say.

    Args:
        methods: that it combines.
        rate: its learning rate.
        middle_rate: of the first of them.
    """
    members = [describe_member(method) for method in methods]
    distances = [abs(math.log(rate / middle_rate) - math.log(factor)) for factor in RATE_FACTORS]
    return {
        "members": {m.name: {"option": m.option, "sizes": m.sizes} for m in members},
        "rate": distances.index(min(distances)),
    }
