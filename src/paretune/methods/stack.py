"""Stack: several methods in one model, as the study file names them.

Equation: that of each member, the later ones acting on what the earlier ones give.
Example: {name: stack, label: lora+bitfit, methods: [{name: lora, rank: 8}, bitfit]}
A method may be named several times with ``layers`` that have none in common, as LoRA of rank 2 in
0-5 and of rank 16 in 6-11.
Trained parameters: the sum over the members.
Start: the base model if every member's is.
Merges: if every member does, in their order. PEFT export: none.
When: a combination is to be tried that has no name.

A learning rate is the first member's; each other one learns at the same multiple of its own middle
rate, so that prompts and adapters can be trained together.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import nn

from paretune.errors import MethodError
from paretune.methods.core.injection import Injection
from paretune.methods.core.method import Baseline, ConfiguredMethod, Method
from paretune.methods.core.options import (
    ALL,
    LayerOptions,
    MethodList,
    MethodOptions,
    parse_options,
)
from paretune.methods.core.registry import get
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy

NAME = "stack"
MAX_METHODS = 20
"""Methods in one model."""


class StackOptions(MethodOptions):
    """``methods``: names, or names with options, in the order in which they act."""

    methods: MethodList = ()
    least: ClassVar[int] = 2
    _tokenised: tuple[ConfiguredMethod, ...] = ()

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """A copy with the token ids of members that start from a text."""
        tokenised = self.model_copy()
        tokenised._tokenised = tuple(m.with_tokenizer(tokenizer) for m in configure_members(self))
        return tokenised


def configure_members(combination: Any) -> list[ConfiguredMethod]:
    """The members with their checked options, in order.

    Args:
        combination: options of a stack, or those of a method that has them in ``as_stack``.

    Raises:
        MethodError: fewer than two members, one named twice in the same layers, or some that do not
            go together.
    """
    is_stack = isinstance(combination, StackOptions)
    options: StackOptions = combination if is_stack else combination.as_stack
    if options._tokenised:
        return list(options._tokenised)
    names = [str(member["name"]) for member in options.methods]
    if len(names) > MAX_METHODS:
        raise MethodError(
            f"{len(names)} methods; {MAX_METHODS} are the most.",
            where=f"method {NAME}",
            remedy="Name less.",
        )
    members = [get(name) for name in names]
    reasons = []
    if len(names) < options.least:
        reasons.append("a stack has at least two methods")
    for position, member in enumerate(members):
        if isinstance(member, Baseline):
            reasons.append(f"{member.name} trains no model")
        elif member.not_in_stack:
            reasons.append(f"{member.name}: {member.not_in_stack}")
        elif member.first_in_stack and {*names[:position]} - {member.name}:
            reasons.append(f"{member.name} has to come first: {member.first_in_stack}")
    before_text = sorted(
        {m.name for m in members if isinstance(m, Method) and m.virtual_tokens == "text"}
    )
    if len(before_text) > 1:
        reasons.append(f"{' and '.join(before_text)} both put virtual tokens before the text")
    if reasons:
        raise MethodError(
            "; ".join(reasons) + ".", where=f"method {NAME}", remedy="Change the list of methods."
        )
    chosen = []
    for member, values in zip(members, options.methods, strict=True):
        assert isinstance(member, Method)  # noqa: S101  (the others are conflicts)
        settings = {option: value for option, value in values.items() if option != "name"}
        chosen.append(
            ConfiguredMethod(member, parse_options(member.name, member.options, settings))
        )
    if everywhere := sorted({m.name for m in chosen if names.count(m.name) > 1 and _is_whole(m)}):
        raise MethodError(
            f"{' and '.join(everywhere)} is named twice and stands in all layers.",
            where=f"method {NAME}",
            remedy="Give each its own layers, as layers: 0-5 and layers: 6-11.",
        )
    return chosen


def _is_whole(member: ConfiguredMethod) -> bool:
    return not isinstance(member.options, LayerOptions) or member.options.layers == ALL


def _members_of(options: Any, anatomy: Anatomy) -> list[ConfiguredMethod]:
    """The members; MethodError where two of one method would stand in the same layer."""
    members = configure_members(options)
    owners: dict[tuple[str, str], ConfiguredMethod] = {}
    for member in members:
        if _is_whole(member):
            continue
        for layer in member.own_part(anatomy).layers:
            owner = owners.setdefault((member.name, layer.name), member)
            if owner is not member:
                raise MethodError(
                    f"{member.name} is named twice for layer {anatomy.find_layer(layer.name)} "
                    f"(layers: {owner.options.layers}, and layers: {member.options.layers}).",
                    where=f"method {NAME}",
                    remedy="Give each its own layers.",
                )
    return members


def inject(
    model: nn.Module, anatomy: Anatomy, options: Any, context: PassContext, seed: int
) -> Injection:
    """Inject every member, in order."""
    whole = Injection({})
    members = _members_of(options, anatomy)
    injected: list[tuple[str, Injection]] = []
    with whole.changes.on_failure():
        for member in members:
            injection = member.inject(model, anatomy, context, seed)
            whole.absorb(injection)
            injected.append((member.name, injection))
            pace = _middle_rate(member, anatomy) / _middle_rate(members[0], anatomy)
            for name in injection.parameters:
                factor = pace * injection.learning_rate_factors.get(name, 1.0)
                if factor != 1.0:
                    whole.learning_rate_factors[name] = factor
    whole.members = tuple(injected)
    return whole


def count_parameters(model: nn.Module, anatomy: Anatomy, options: Any) -> int:
    """The sum over the members."""
    return sum(m.count_parameters(model, anatomy) for m in _members_of(options, anatomy))


def merge(model: nn.Module, injection: Injection) -> None:
    """Merge the members in order and take them out.

    Raises:
        MethodError: a member does not merge; nothing was changed.
    """
    methods = {name: get(name) for name, _ in injection.members}
    merges = {n: m.merge for n, m in methods.items() if isinstance(m, Method) and m.merge}
    if unmerged := [name for name in methods if name not in merges]:
        raise MethodError(f"{', '.join(unmerged)} cannot be merged.", where=f"method {NAME}")
    for name, part in injection.members:
        merges[name](model, part)


def _middle_rate(member: ConfiguredMethod, anatomy: Anatomy) -> float:
    rates = member.learning_rates(anatomy.topology)
    assert rates is not None  # noqa: S101  (what trains nothing is no member)
    return rates[1]


METHOD = Method(
    name=NAME,
    title="stack of methods",
    options=StackOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    inject=inject,
    count_parameters=count_parameters,
    merge=merge,
    members_of=configure_members,
)
