"""Which linear layers a method stands beside, and at which rank: PEFT's options, by its rules.

``target_modules`` as a list holds roles (``query``, ``all_linear``) and ends of modules' names; as
a single text with signs of a regular expression, one that a module's whole name must match.
``exclude_modules`` is read in the same way. A key of ``rank_pattern`` and ``alpha_pattern`` is a
regular expression for the end of a name, whole between dots; the first that matches counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from paretune.errors import MethodError
from paretune.methods.core.options import DEFAULT_TARGETS, bounded, checked_option
from paretune.models.structure.anatomy import Anatomy, find_target_modules

REGEX_CHARACTERS = re.compile(r"[\\*+?\[\](){}|^$]")
"""What a regular expression has and the name of a module has not."""
RANKS = (1, 1024)
ALPHAS = (0.01, 4096)


def check_modules(where: str, value: Any) -> Any:
    """A list of names, or the text of a regular expression; None as it is.

    Raises:
        MethodError: it is neither.
    """
    if isinstance(value, str) and REGEX_CHARACTERS.search(value):
        return _check_regex(where, value)
    return check_names(where, value)


def check_names(where: str, value: Any) -> tuple[str, ...] | None:
    """A list of names; None as it is.

    Raises:
        MethodError: it is none.
    """
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise MethodError(f"{value!r} is not a list of names.", where=where)
    if not names:
        raise MethodError("the list is empty.", where=where)
    return tuple(names)


def check_layers(where: str, value: Any) -> tuple[int, ...] | None:
    """Numbers of layers, from 0; one may stand alone.

    Raises:
        MethodError: they are none.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(type(one) is int and one >= 0 for one in numbers):
        raise MethodError(f"{value!r} is not a list of layers, from 0.", where=where)
    return tuple(numbers)


def _pattern_check(low: float, high: float, kind: type) -> Callable[[str, Any], Any]:
    def check(where: str, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping) or not value:
            raise MethodError(
                f"{value!r} is not a group of names and numbers.",
                where=where,
                remedy="Write {NAME: NUMBER}, as {layer.0.attention.self.query: 16}.",
            )
        for name, one in value.items():
            _check_regex(where, str(name))
            good = isinstance(one, int | kind) and not isinstance(one, bool)
            if not good or not low <= one <= high:
                raise MethodError(
                    f"{name}: {one!r} is not a number between {low} and {high}.", where=where
                )
        return {str(name): kind(one) for name, one in value.items()}

    return check


def _check_regex(where: str, text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise MethodError(
            f'"{text}" is no regular expression ({error}).',
            where=where,
            remedy="Names of modules go into a [list].",
        ) from None
    return text


@dataclass(frozen=True)
class LowRankOptions:
    """``alpha`` None is twice ``rank``, whatever ``rank_pattern`` says.

    ``target_modules``, ``exclude_modules``, ``layers_to_transform``, ``rank_pattern`` and
    ``alpha_pattern`` as in PEFT; layers are counted through the whole model, and a target may be a
    role. ``modules_to_save``: what of the base is trained in full beside the updates; the head
    always is.
    """

    rank: int = bounded(8, *RANKS)
    alpha: float | None = bounded(None, *ALPHAS)
    target_modules: tuple[str, ...] | str = checked_option(DEFAULT_TARGETS, check_modules)
    exclude_modules: tuple[str, ...] | str | None = checked_option(None, check_modules)
    layers_to_transform: tuple[int, ...] | None = checked_option(None, check_layers)
    rank_pattern: Mapping[str, int] | None = checked_option(None, _pattern_check(*RANKS, int))
    alpha_pattern: Mapping[str, float] | None = checked_option(None, _pattern_check(*ALPHAS, float))
    modules_to_save: tuple[str, ...] | None = checked_option(None, check_names)
    allow_unmatched: bool = False
    CLOSED: ClassVar[Mapping[str, str]] = {
        "layers_pattern": "layers_to_transform counts the layers of every architecture",
        "bias": "take a stack of lora and bitfit",
    }

    @property
    def effective_alpha(self) -> float:
        """Alpha, twice the rank where it is not given."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    @property
    def scaling(self) -> float:
        """What the update is multiplied by: alpha / rank."""
        return self.effective_alpha / self.rank

    def for_layer(self, name: str) -> Self:
        """The options of one layer: its own rank and alpha."""
        if not self.rank_pattern and not self.alpha_pattern:
            return self
        rank = _first_match(self.rank_pattern, name, self.rank)
        alpha = _first_match(self.alpha_pattern, name, self.effective_alpha)
        return replace(self, rank=rank, alpha=alpha, rank_pattern=None, alpha_pattern=None)

    def select_layers(self, anatomy: Anatomy, in_full: Sequence[str] = ()) -> list[str]:
        """Names of the layers that the method stands beside, in the order of the model.

        Args:
            anatomy: of the model.
            in_full: modules that are trained in full: nothing stands beside their layers.

        Raises:
            MethodError: a name or pattern matches nothing, or no layer is left.
        """
        names = select_layers(
            anatomy,
            self.target_modules,
            self.exclude_modules,
            self.layers_to_transform,
            allow_unmatched=self.allow_unmatched,
        )
        beside = [n for n in names if not f"{n}.".startswith(tuple(f"{m}." for m in in_full))]
        if names and not beside:
            raise MethodError(
                "no layer is left to stand beside: modules_to_save has them all.",
                remedy="Name less there, or take full.",
            )
        for option in ("rank_pattern", "alpha_pattern"):
            for key in getattr(self, option) or ():
                if not any(_matches(key, name) for name in beside) and not self.allow_unmatched:
                    raise MethodError(
                        f'{option}: "{key}" matches none of the layers that the method is beside.',
                        remedy=f"The first of these is {beside[0]}.",
                    )
        return beside

    def peft_patterns(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Rank and alpha of the layers that have their own, as PEFT's config takes them."""
        own = {name: self.for_layer(name) for name in names}
        return {
            "rank_pattern": {n: o.rank for n, o in own.items() if o.rank != self.rank},
            "alpha_pattern": {
                n: o.effective_alpha
                for n, o in own.items()
                if o.effective_alpha != self.effective_alpha
            },
        }


def reads_weights(options: LowRankOptions) -> bool:
    """What is trained in full is the base's own."""
    return bool(options.modules_to_save)


def select_layers(
    anatomy: Anatomy,
    wanted: Sequence[str] | str,
    excluded: Sequence[str] | str | None = None,
    layers: Sequence[int] | None = None,
    *,
    allow_unmatched: bool = False,
) -> list[str]:
    """Names of the linear layers that are wanted and neither excluded nor in another layer.

    Raises:
        MethodError: a name matches nothing, a layer is not there, or none is left.
    """
    names = match_layers(anatomy, wanted, "target_modules", allow_unmatched=allow_unmatched)
    if excluded is not None:
        out = set(
            match_layers(anatomy, excluded, "exclude_modules", allow_unmatched=allow_unmatched)
        )
        if not out.intersection(names) and not allow_unmatched:
            raise MethodError(
                "exclude_modules: none of them is among the target_modules.",
                remedy="Remove it, or name what is to be left out.",
            )
        names = [name for name in names if name not in out]
    if layers is not None:
        count = len(anatomy.layers)
        if not all(0 <= number < count for number in layers):
            raise MethodError(
                f"layers_to_transform: {list(layers)} are no layers; the model has "
                f"0 to {count - 1}."
            )
        inside = tuple(f"{anatomy.layers[number].name}." for number in layers)
        names = [name for name in names if name.startswith(inside)]
    if not names and not allow_unmatched:
        raise MethodError(
            "no layer is left to stand beside.",
            remedy="Name more in target_modules or layers_to_transform.",
        )
    return names


def match_layers(
    anatomy: Anatomy, wanted: Sequence[str] | str, option: str, *, allow_unmatched: bool = False
) -> list[str]:
    """Names of the linear layers that a list or a regular expression means.

    Raises:
        MethodError: something matches nothing.
    """
    if not isinstance(wanted, str):
        return find_target_modules(anatomy, wanted, option=option, allow_unmatched=allow_unmatched)
    found = [name for name in anatomy.linear_layers if re.fullmatch(wanted, name)]
    if not found and not allow_unmatched:
        raise MethodError(
            f'{option}: "{wanted}" matches the whole name of no linear layer.',
            remedy=f"The first is {anatomy.linear_layers[0]}; begin with .* for any beginning.",
        )
    return found


def _matches(key: str, name: str) -> bool:
    return re.fullmatch(rf"(.*\.)?({key})", name) is not None


def _first_match(pattern: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    return next((one for key, one in (pattern or {}).items() if _matches(key, name)), default)
