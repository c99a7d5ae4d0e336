"""The common part of LoRA, DoRA, LoHa and LoKr: PEFT's options, and the places of the updates.

``target_modules`` as a list holds roles (``query``, ``all_linear``) and ends of modules' names; as
a string with the signs of a regular expression, an expression for a module's whole name.
``exclude_modules`` is read in the same way. A key of ``rank_pattern`` and ``alpha_pattern`` is a
regular expression for the end of a name, whole between dots; the first that matches counts.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods.core.initialisation import draw_uniform, init_generator
from paretune.methods.core.injection import (
    Injection,
    attach,
    fill_peft_layers,
    get_linear,
    merge_deltas,
)
from paretune.methods.core.method import Method, PeftExport
from paretune.methods.core.options import ALL, LayerNumbers, LayerOptions, Names
from paretune.models.pass_context import PassContext
from paretune.models.quantised import is_quantised
from paretune.models.structure.anatomy import Anatomy, find_target_modules
from paretune.models.structure.layers import is_within

REGEX_CHARACTERS = re.compile(r"[\\*+?\[\](){}|^$]")
"""Characters that occur in regular expressions and not in the names of modules."""


def _check_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(
            f'"{text}" is no regular expression ({error}); names of modules go into a [list]'
        ) from None
    return text


def _has_expression(value: Any) -> str:
    is_expression = isinstance(value, str) and REGEX_CHARACTERS.search(value)
    return "expression" if is_expression else "names"


Expression = Annotated[str, AfterValidator(_check_expression)]
"""A regular expression."""
Modules = Annotated[
    Annotated[Expression, Tag("expression")] | Annotated[Names, Tag("names")],
    Discriminator(_has_expression),
]
"""A list of names, or the text of a regular expression."""


def match_layers(
    anatomy: Anatomy, targets: Sequence[str] | str, option: str, *, allow_unmatched: bool = False
) -> list[str]:
    """Names of the linear layers that a list of names or a regular expression matches."""
    if not isinstance(targets, str):
        return find_target_modules(anatomy, targets, option=option, allow_unmatched=allow_unmatched)
    names = [name for name in anatomy.linear_layers if re.fullmatch(targets, name)]
    if not names and not allow_unmatched:
        raise MethodError(
            f'{option}: "{targets}" matches the whole name of no linear layer.',
            remedy=f"The first is {anatomy.linear_layers[0]}; begin with .* for any beginning.",
        )
    return names


def keep_layers(names: Iterable[str], anatomy: Anatomy, numbers: Sequence[int]) -> list[str]:
    """The modules that are inside these layers; MethodError where there is no such layer."""
    count = len(anatomy.layers)
    if not all(0 <= number < count for number in numbers):
        raise MethodError(
            f"layers_to_transform: {list(numbers)} are no layers; the model has 0 to {count - 1}."
        )
    inside = [anatomy.layers[number].name for number in numbers]
    return [name for name in names if is_within(name, *inside)]


def matches_end(key: str, name: str) -> bool:
    """Whether a pattern's key matches the end of a name, whole between dots."""
    return re.fullmatch(rf"(.*\.)?({key})", name) is not None


def first_match(pattern: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """The value of the first key that matches the end of a name."""
    return next(
        (value for key, value in (pattern or {}).items() if matches_end(key, name)), default
    )


Rank = Annotated[int, Field(ge=1, le=1024)]
Alpha = Annotated[float, Field(ge=0.01, le=4096)]


class LowRankOptions(LayerOptions):
    """``alpha`` None is twice ``rank``, whatever ``rank_pattern`` says.

    ``target_modules``, ``exclude_modules``, ``layers_to_transform``, ``rank_pattern`` and
    ``alpha_pattern`` as in PEFT; layers are counted through the whole model, and a target may be a
    role; with None they are the topology's (``Topology.default_targets``).
    ``modules_to_save``: modules of the base that are trained in full; the head always is.
    """

    rank: Rank = 8
    alpha: Alpha | None = None
    target_modules: Modules | None = None
    exclude_modules: Modules | None = None
    layers_to_transform: LayerNumbers | None = None
    rank_pattern: Annotated[dict[Expression, Rank], Field(min_length=1)] | None = None
    alpha_pattern: Annotated[dict[Expression, Alpha], Field(min_length=1)] | None = None
    modules_to_save: Names | None = None
    allow_unmatched: bool = False
    HINTS: ClassVar[Mapping[str, str]] = {
        "layers_pattern": "layers_to_transform counts the layers of every architecture",
        "bias": "take a stack of lora and bitfit",
    }

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        if self.layers_to_transform is not None and self.layers != ALL:
            raise ValueError(
                "layers and layers_to_transform say the same; keep one (layers has ranges: 0-3)"
            )
        return self

    @property
    def effective_alpha(self) -> float:
        """``alpha``, or twice the rank."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    @property
    def scaling(self) -> float:
        """The factor of the update: alpha / rank."""
        return self.effective_alpha / self.rank

    @property
    def learning_rate_factors(self) -> dict[str, float]:
        """Factors on the method's learning rate, by name of the tensors with another rate."""
        return {}

    def for_layer(self, name: str) -> Self:
        """The options of one layer: its own rank and alpha."""
        if not self.rank_pattern and not self.alpha_pattern:
            return self
        rank = first_match(self.rank_pattern, name, self.rank)
        alpha = first_match(self.alpha_pattern, name, self.effective_alpha)
        patterns = {"rank_pattern": None, "alpha_pattern": None}
        return self.model_copy(update={"rank": rank, "alpha": alpha, **patterns})

    def select_layers(self, anatomy: Anatomy, in_full: Sequence[str] = ()) -> list[str]:
        """Names of the layers that are adapted, in the model's order; none of those ``in_full``.

        Raises:
            MethodError: a name or pattern matches nothing, or no layer is left.
        """
        lenient = self.allow_unmatched
        targets = self.target_modules or anatomy.topology.default_targets
        names = match_layers(anatomy, targets, "target_modules", allow_unmatched=lenient)
        if (excluded := self.exclude_modules) is not None:
            out = {*match_layers(anatomy, excluded, "exclude_modules", allow_unmatched=lenient)}
            if not out.intersection(names) and not lenient:
                raise MethodError(
                    "exclude_modules: none of them is among the target_modules.",
                    remedy="Remove it, or name what is to be left out.",
                )
            names = [name for name in names if name not in out]
        if self.layers_to_transform is not None:
            names = keep_layers(names, anatomy, self.layers_to_transform)
        adapted = [name for name in names if not is_within(name, *in_full)]
        if not adapted and (names or not lenient):
            raise MethodError(
                "no layer is left to stand beside.",
                remedy="Name more in target_modules or layers_to_transform, or less in "
                "modules_to_save.",
            )
        for option in ("rank_pattern", "alpha_pattern"):
            for key in getattr(self, option) or ():
                if not any(matches_end(key, name) for name in adapted) and not lenient:
                    raise MethodError(
                        f'{option}: "{key}" matches none of the layers that the method is beside.',
                        remedy=f"The first of these is {adapted[0]}.",
                    )
        return adapted

    def count_layers_below(self, anatomy: Anatomy) -> int:
        """How many layers lie below the lowest that is adapted; 0 beside trained modules."""
        if self.modules_to_save:
            return 0
        names = self.select_layers(anatomy)
        return min((anatomy.find_layer(name) or 0 for name in names), default=0)

    def peft_fields(self) -> dict[str, Any]:
        """The fields of PEFT's config but for those of :meth:`peft_layers`."""
        return {"r": self.rank, "alpha": self.effective_alpha}

    def peft_layers(self, injection: Injection) -> dict[str, Any]:
        """The fields of PEFT's config that name layers, their ranks and their alphas."""
        of_layer = {name: self.for_layer(name) for name in injection.adapters}
        alpha = self.effective_alpha
        numbers: dict[str, Any] = {}
        if self.layers != ALL or self.layers_to_transform is not None:
            # PEFT counts in each list of layers. The full names tell the lists apart; of a linear
            # layer outside all lists they alone say where it is.
            matches = [re.match(r"(?:^|.*?\.)([^.]+)\.(\d+)\.", name) for name in of_layer]
            if all(matches):
                numbers = {
                    "layers_to_transform": sorted({int(match[2]) for match in matches if match}),
                    "layers_pattern": sorted({match[1] for match in matches if match}),
                }
        return {
            **numbers,
            "target_modules": sorted(of_layer),
            "rank_pattern": {n: o.rank for n, o in of_layer.items() if o.rank != self.rank},
            "alpha_pattern": {
                n: o.effective_alpha for n, o in of_layer.items() if o.effective_alpha != alpha
            },
        }


class LowRankUpdate(nn.Module, ABC):
    """Base of the updates beside a frozen linear layer.

    Each tensor of :meth:`shapes` is uniform on +-1/sqrt(fan in), as PEFT draws it; that
    called ``zero`` starts at 0, so that the update does. ``peft_config``: the name of PEFT's config
    class; ``peft_names``: what PEFT calls the tensors.
    """

    zero: ClassVar[str]
    peft_config: ClassVar[str]
    peft_names: ClassVar[Mapping[str, str]]

    def __init__(
        self,
        base: nn.Linear,
        options: LowRankOptions,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.scaling = options.scaling
        device = base.weight.device
        for name, shape in self.shapes(base, options).items():
            zeros = torch.zeros(shape)
            values = zeros if name == self.zero else draw_uniform(shape, shape[1], generator)
            self.register_parameter(name, nn.Parameter(values.to(device)))

    @classmethod
    @abstractmethod
    def shapes(cls, base: nn.Linear, options: Any) -> dict[str, tuple[int, int]]:
        """The shape of each tensor, by name."""

    @classmethod
    def count(cls, base: nn.Linear, options: Any) -> int:
        """Trained parameters beside a layer."""
        return sum(math.prod(shape) for shape in cls.shapes(base, options).values())

    @abstractmethod
    def delta(self) -> Tensor:
        """The update of the weight, (out, in)."""


def low_rank_method(update: type[LowRankUpdate], *, name: str, **facts: Any) -> Method:
    """The method that puts an update beside each target layer.

    ``modules_to_save`` are trained in full beside them. ``facts``: further fields of
    :class:`Method`.
    """

    def inject(
        model: nn.Module, anatomy: Anatomy, options: Any, context: PassContext, seed: int
    ) -> Injection:
        in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
        updates: dict[str, nn.Module] = {
            layer: update(
                get_linear(model, layer),
                options.for_layer(layer),
                init_generator(seed, name, layer),
            )
            for layer in options.select_layers(anatomy, in_full)
        }
        injection = train_modules(model, attach(model, name, updates), in_full)
        factors = options.learning_rate_factors
        injection.learning_rate_factors = {
            place: factors[tensor]
            for place in injection.parameters
            if (tensor := place.rpartition(".")[2]) in factors
        }
        return injection

    def to_peft(
        model: nn.Module, options: Any, injection: Injection, common: dict[str, Any]
    ) -> Any:
        import peft

        fields = {**options.peft_fields(), **options.peft_layers(injection), **common}
        config = getattr(peft, update.peft_config)(**fields)
        return fill_peft_layers(model, config, injection, name, update.peft_names)

    defaults: dict[str, Any] = {
        "merge": merge_deltas,
        "reads_base_weights": lambda options: bool(options.modules_to_save),
    }
    return Method(
        name=name,
        inject=inject,
        count_parameters=partial(count_updates, update=update),
        peft_export=PeftExport(to_peft),
        **{**defaults, **facts},
    )


def count_updates(
    model: nn.Module, anatomy: Anatomy, options: LowRankOptions, update: type[LowRankUpdate]
) -> int:
    """Trained parameters: of all updates, and of what is trained in full beside."""
    in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
    names = options.select_layers(anatomy, in_full)
    updates = sum(update.count(get_linear(model, n), options.for_layer(n)) for n in names)
    return updates + sum(p.numel() for m in in_full for p in model.get_submodule(m).parameters())


OPTION = "modules_to_save"


def find_modules_to_save(
    model: nn.Module, anatomy: Anatomy, names: Sequence[str] | None
) -> list[str]:
    """Full names of the modules that are trained in full, without those of the head.

    Args:
        names: ``embeddings`` (the word embeddings), or the ends of modules' names.

    Raises:
        MethodError: a name matches nothing, or a module that shares weights with another.
    """
    matched: list[str] = []
    modules = dict(model.named_modules())
    for word in names or ():
        end = anatomy.word_embeddings if word == "embeddings" else word
        hits = [name for name in modules if name == end or name.endswith(f".{end}")]
        if not any([*modules[n].parameters()] or is_quantised(modules[n]) for n in hits):
            raise MethodError(
                f'{OPTION}: "{word}" matches no module with weights.',
                remedy=f"Name the end of a module's name, as {anatomy.layers[-1].name}; "
                "embeddings stands for the word embeddings.",
            )
        matched += hits
    outside = [
        name for name in dict.fromkeys(matched) if not is_within(name, *anatomy.head_modules)
    ]
    outermost = [n for n in outside if not any(n.startswith(f"{module}.") for module in outside)]
    for name in outermost:
        if is_quantised(model.get_submodule(name)):
            raise MethodError(
                f"{OPTION}: {name} is quantised, and no step moves quantised weights.",
                remedy="Name embeddings or normalisations, or take the model unquantised.",
            )
        # Shared weights would stay equal here, and not in PEFT.
        inside = dict(model.get_submodule(name).named_parameters()).values()
        for tensor_name, parameter in model.named_parameters(remove_duplicate=False):
            if any(parameter is p for p in inside) and not tensor_name.startswith(f"{name}."):
                raise MethodError(
                    f"{OPTION}: {name} has weights that {tensor_name.rpartition('.')[0]} has too.",
                    remedy="Name a module of its own, or take full.",
                )
    return outermost


def train_modules(model: nn.Module, injection: Injection, names: Sequence[str]) -> Injection:
    """Give each module weights of its own for the run, trained with the method's."""
    for name in names:
        for tensor_name, parameter in model.get_submodule(name).named_parameters():
            injection.base_weights[f"{name}.{tensor_name}"] = parameter.data
            parameter.data = parameter.data.clone()
            injection.parameters[f"{name}.{tensor_name}"] = parameter
    injection.modules_to_save = tuple(names)

    def restore_base() -> None:
        for name, data in injection.base_weights.items():
            model.get_parameter(name).data = data
        injection.base_weights.clear()

    if names:
        injection.changes.callback(restore_base)
    return injection
