"""The option ``layers``: the layers of a model in which a method stands.

``all``; ranges of numbers from 0, both ends included (``0-3``, ``0-1,10-11``, ``5``); or the last
or first of them (``upper:4``, ``lower:4``). Layers are counted through the whole model, as PEFT's
``layers_to_transform`` are here: a translation model's encoder comes first, then its decoder.

What is trained in the upper layers alone needs no backward pass below them, so that subset is
cheaper than an equal number of layers spread over the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator

from paretune.errors import MethodError
from paretune.methods.core.options import MethodOptions

ALL = "all"
_END = re.compile(r"(upper|lower):([1-9][0-9]*)")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def parse_subset(value: Any) -> str:
    """One way of writing each subset: ``0-2,5`` for ``[0, 1, 2, 5]`` and for ``5, 0-2``.

    Raises:
        ValueError: it is none of the forms above.
    """
    invalid = ValueError(
        f"{value!r} names no layers; write all, ranges of numbers from 0 (0-3, 8-11), upper:4 or "
        "lower:4"
    )
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    words = [str(part).strip() for part in parts]
    if isinstance(value, bool) or not words:
        raise invalid
    if len(words) == 1 and (words[0] == ALL or _END.fullmatch(words[0])):
        return words[0]
    numbers: set[int] = set()
    for word in words:
        match = _RANGE.fullmatch(word)
        first, last = (match[1], match[2] or match[1]) if match else ("1", "0")
        if int(last) < int(first) or int(last) > MAX_LAYERS:
            raise invalid
        numbers.update(range(int(first), int(last) + 1))
    return write_ranges(numbers)


MAX_LAYERS = 10_000
"""More than any model has: a number above it is a mistake."""


def write_ranges(numbers: Iterable[int]) -> str:
    """``0-2,5`` for 0, 1, 2 and 5."""
    ordered = sorted(numbers)
    starts = [n for before, n in pairwise([-2, *ordered]) if n != before + 1]
    ends = [n for n, after in pairwise([*ordered, ordered[-1] + 2]) if after != n + 1]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def list_layers(subset: str, count: int) -> tuple[int, ...]:
    """The numbers of a checked subset in a model of ``count`` layers, lowest first.

    Raises:
        MethodError: the model has fewer layers than it names.
    """
    if subset == ALL:
        return tuple(range(count))
    if end := _END.fullmatch(subset):
        size = int(end[2])
        chosen = [*(range(count - size, count) if end[1] == "upper" else range(size))]
        highest = size - 1
    else:
        chosen = [
            number
            for match in _RANGE.finditer(subset)
            for number in range(int(match[1]), int(match[2] or match[1]) + 1)
        ]
        highest = max(chosen)
    if highest >= count:
        raise MethodError(
            f"layers: {subset} is not in this model, which has {count} layers (0 to {count - 1})."
        )
    return tuple(chosen)


class LayerOptions(MethodOptions):
    """Base of the options of every method that stands beside layers.

    ``layers``: in which of them (:mod:`paretune.methods.core.layer_subset`).
    """

    layers: Annotated[str, BeforeValidator(parse_subset)] = ALL
