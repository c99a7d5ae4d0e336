"""Stack: several methods in one model, as the study file names them.

Equation: that of each member, the later ones acting on what the earlier ones give.
Example: {name: stack, label: lora+bitfit, methods: [{name: lora, rank: 8}, bitfit]}
Trained parameters: the sum over the members.
Start: the base model if every member's is.
Merges: if every member does, in their order. PEFT export: none.
When: a combination is to be tried that has no name.

A learning rate is the first member's; each other one learns at the same multiple of its own middle
rate, so that prompts and adapters can be trained together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from torch import nn

from paretune import methods
from paretune.errors import MethodError
from paretune.methods.core import options as method_options
from paretune.methods.core.injection import Injection
from paretune.methods.core.options import EVERY_KIND, derived_option, methods_option
from paretune.methods.core.run_axis import Fleet
from paretune.models.structure.anatomy import Anatomy

NAME = "stack"
TITLE = "stack of methods"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True

_ALONE = {
    "full": "it trains everything already",
    "head_only": "the head is trained with every method",
    "stack": "name its members instead",
    "untuned": "it trains nothing",
}
MAX_METHODS = 20
"""Methods in one model."""
_DOORS = {"prompt", "p_tuning"}


@dataclass(frozen=True)
class Options:
    """``methods``: names, or names with options, in the order in which they act."""

    methods: tuple[Mapping[str, Any], ...] = methods_option()
    told: tuple[Any, ...] = derived_option()


def resolve_members(options: Options) -> list[tuple[ModuleType, Any]]:
    """Each member's module and checked options.

    Raises:
        MethodError: fewer than two members, one named twice, or some that do not go together.
    """
    names = [str(given["name"]) for given in options.methods]
    if len(names) > MAX_METHODS:
        raise MethodError(
            f"{len(names)} methods; {MAX_METHODS} are the most.",
            where=f"method {NAME}",
            remedy="Name less.",
        )
    reasons = [f"{name}: {_ALONE[name]}" for name in names if name in _ALONE]
    if len(names) < 2:
        reasons.append("a stack has at least two methods")
    reasons += [
        f"{name} is named twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if len(_DOORS.intersection(names)) > 1:
        reasons.append(f"{' and '.join(sorted(_DOORS))} both stand before the text")
    if "dora" in names[1:]:
        reasons.append("dora measures the weights that it finds, so it comes first")
    theirs = [name for name in names if name.startswith(methods.PEFT)]
    reasons += [f"{name}: it takes the place of layers that others stand beside" for name in theirs]
    modules = [methods.get(name) for name in names if name not in theirs]
    reasons += [
        f"{module.NAME} trains no model" for module in modules if not methods.trains_a_model(module)
    ]
    if reasons:
        raise MethodError(
            "; ".join(reasons) + ".", where=f"method {NAME}", remedy="Mend the list of methods."
        )
    if options.told:
        return list(zip(modules, options.told, strict=True))
    return [
        (module, method_options.parse_options(module.NAME, module.Options, _member_options(given)))
        for module, given in zip(modules, options.methods, strict=True)
    ]


def with_tokenizer(options: Options, tokenizer: Any) -> Options:
    """The options with the tokens of members that start from a text."""
    told = [
        module.with_tokenizer(own, tokenizer) if hasattr(module, "with_tokenizer") else own
        for module, own in resolve_members(options)
    ]
    return replace(options, told=tuple(told))


def learning_rates(options: Options) -> tuple[float, float, float]:
    """Those of the first member."""
    low, middle, high = resolve_members(options)[0][0].LEARNING_RATES
    return low, middle, high


def code_epoch(options: Options) -> int:
    """The stack's own, and how often those of its members were raised."""
    return CODE_EPOCH + sum(int(module.CODE_EPOCH) - 1 for module, _ in resolve_members(options))


def reads_weights(options: Options) -> bool:
    """Whether any member reads them."""
    return any(methods.reads_weights(module, own) for module, own in resolve_members(options))


def trains_alone(options: Options) -> bool:
    """Whether any member does."""
    return any(methods.trains_alone(module, own) for module, own in resolve_members(options))


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Inject every member, in order."""
    whole = Injection({}, undo=lambda: None)
    first = learning_rates(options)[1]
    held: list[tuple[ModuleType, Injection]] = []
    for module, own in resolve_members(options):
        try:
            injection: Injection = module.inject(model, anatomy, own, fleet, seeds)
        except Exception:  # whatever it is, it goes on up; the members before must not stay
            for _, earlier in reversed(held):
                earlier.undo()
            raise
        held.append((module, injection))
        whole.parameters |= injection.parameters
        whole.virtual_tokens += injection.virtual_tokens
        whole.supports_packing &= injection.supports_packing
        whole.placeholder_id = whole.placeholder_id or injection.placeholder_id
        pace = module.LEARNING_RATES[1] / first
        for name in injection.parameters:
            factor = pace * injection.learning_rate_factors.get(name, 1.0)
            if factor != 1.0:
                whole.learning_rate_factors[name] = factor

    def undo() -> None:
        for _, injection in reversed(held):
            injection.undo()

    whole.undo = undo
    whole.members = tuple(held)
    return whole


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """The sum over the members."""
    return sum(
        module.parameter_count(model, anatomy, own) for module, own in resolve_members(options)
    )


def merge(model: nn.Module, injection: Injection) -> None:
    """Merge the members in order and take them out.

    Raises:
        MethodError: a member does not merge; nothing was changed.
    """
    if reason := _unmergeable(module for module, _ in injection.members):
        raise MethodError(f"{reason}.", where=f"method {NAME}")
    for module, held in injection.members:
        module.merge(model, held)


def not_merged(options: Options) -> str:
    """Why a stack of these members cannot be merged, or ""."""
    return _unmergeable(module for module, _ in resolve_members(options))


def _unmergeable(modules: Iterable[ModuleType]) -> str:
    firm = [module.NAME for module in modules if not hasattr(module, "merge")]
    return f"{', '.join(firm)} cannot be merged" if firm else ""


def _member_options(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "name"}
