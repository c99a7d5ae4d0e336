"""The sizes and rates of a method that a search may choose, and how trials record them.

Importing it imports no torch, so that records can be read without a model library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from annotated_types import Ge, Le

from paretune.methods import configure_method
from paretune.methods.core.method import Method
from paretune.study import Run

if TYPE_CHECKING:
    from paretune.models.load import LoadedModel

RATE_FACTORS = (1 / 3, 1.0, 3.0)
"""Factors on the middle learning rate of the first member."""
SIZE_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors on a size option's default."""
SIZE_OPTIONS = ("rank", "reduction_factor", "num_virtual_tokens")
"""Options that set how much a method trains; of the second, more is less to train."""


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
    """The sizes of a method: its size option at :data:`SIZE_FACTORS`, within its bounds.

    A method that has several such options, or none, has one size.
    """
    options = [name for name in SIZE_OPTIONS if name in method.options.model_fields]
    if len(options) != 1:
        return Member(method.name, "", (None,))
    (option,) = options
    spec = method.options.model_fields[option]
    low = next(bound.ge for bound in spec.metadata if isinstance(bound, Ge))
    high = next(bound.le for bound in spec.metadata if isinstance(bound, Le))
    default: Any = spec.default
    values = {int(min(high, max(low, round(default * factor)))) for factor in SIZE_FACTORS}
    return Member(method.name, option, tuple(sorted(values, reverse=option == "reduction_factor")))


def measure_trial(run: Run, loaded: LoadedModel, gradients: Mapping[str, float]) -> dict[str, Any]:
    """Measure the additional fields of a trial's record.

    ``layer_gradients``: ``gradients`` summed over each layer, (layers,). ``configuration``: the
    sizes that its members could have had, and the index of its factor of the rate.

    Args:
        gradients: mean squared gradient of each trained tensor in the first step.
    """
    sums = [0.0] * len(loaded.anatomy.layers)
    for name, size in gradients.items():
        layer = loaded.anatomy.find_layer(name)
        if layer is not None:
            sums[layer] += size
    method = configure_method(run.method)
    rates = method.learning_rates(loaded.anatomy.topology)
    assert rates and run.learning_rate is not None  # noqa: S101  (it has trained)
    members = [member.method for member in method.parts or [method]]
    configuration = describe_trial(members, run.learning_rate, rates[1])
    return {"layer_gradients": sums, "configuration": configuration}


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
