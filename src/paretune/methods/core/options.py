"""Options of methods: a pydantic model of what a study file may say beside a method's name.

One option is shared by every method that stands beside layers: :attr:`LayerOptions.layers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from paretune.errors import MethodError
from paretune.study.specs import FrozenModel
from paretune.study.study_file import KeyPath
from paretune.study.validation_errors import read_faults

if TYPE_CHECKING:
    from paretune.models.structure.anatomy import Anatomy


class MethodOptions(FrozenModel):
    """Base of the options of every method, and the options of a method that has none.

    Values are taken as they are: ``"8"`` and ``8.0`` are no whole numbers. Study files set fields;
    private attributes are filled in later.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    READ_WITH: ClassVar[Mapping[str, str]] = {}
    """Options that are read only where another one, a flag, is true."""

    @property
    def shots(self) -> int:
        """How many solved examples of train stand in each prompt; drawn by the run's seed."""
        return 0

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """A copy that also has the token ids of its texts."""
        return self

    def count_layers_below(self, anatomy: Anatomy) -> int:
        """How many layers of an anatomy lie below everything that is trained.

        The option ``layers`` has taken others out of the anatomy before.
        """
        return 0


OptionsT = TypeVar("OptionsT", bound=FrozenModel)
Locate = Callable[[KeyPath, str], str]
"""Where a study says something, for errors: from keys below a method, and what stands there."""


def parse_options(
    method: str,
    options: type[OptionsT],
    values: Mapping[str, Any],
    locate: Locate | None = None,
) -> OptionsT:
    """Check the values of a study file and make a method's options of them.

    Raises:
        MethodError: an unknown option, a wrong type, or a value out of range; a line for each.
    """
    try:
        return options.model_validate(dict(values))
    except ValidationError as error:
        faults = []
        for fault in read_faults(error, options, values):
            option = ", option " + ".".join(map(str, fault.group)) if fault.group else ""
            where = f"method {method}{option}"
            where = where if locate is None else locate(fault.place, where)
            faults.append(MethodError(f"{fault.what}.", where=where, remedy=fault.remedy))
        if len(faults) == 1:
            raise faults[0] from None
        raise MethodError("\n".join(map(str, faults))) from None


def _as_tuple(value: Any) -> Any:
    """A list as a tuple, and what stands alone as a tuple of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
"""A list of names; one may stand alone."""
LayerNumbers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_tuple), Field(min_length=1)
]
"""Numbers of layers, from 0; one may stand alone."""


def _read_methods(value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is not a list of methods")
    methods = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
    for entry in methods:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise ValueError(f"{entry!r} is not a method; write a name, or {{name: ..., rank: 8}}")
    return tuple(dict(entry) for entry in methods)


MethodList = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_read_methods)]
"""Methods: names, or mappings with a name and the method's options."""


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

    ``layers`` chooses the layers: ``all``; ranges of numbers from 0, both ends included (``0-3``,
    ``0-1,10-11``, ``5``); or the last or first of them (``upper:4``, ``lower:4``). Layers are
    counted through the whole model, a translation model's encoder first. Training in the upper
    layers alone needs no backward pass below them, so that subset is cheaper than an equal number
    of layers spread over the model.
    """

    layers: Annotated[str, BeforeValidator(parse_subset)] = ALL
