"""Modules of the base that are trained in full beside an adapter: PEFT's ``modules_to_save``.

The head is always trained, with every method. What else is named here gets weights of its own for
the run; the base's are kept, as PEFT does, and come back when the method is undone.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from paretune.errors import MethodError
from paretune.methods.core.injection import Injection, is_within_any
from paretune.models.structure.anatomy import Anatomy

OPTION = "modules_to_save"


def find_modules_to_save(
    model: nn.Module, anatomy: Anatomy, names: Sequence[str] | None
) -> list[str]:
    """Full names of the modules that are trained in full, without those of the head.

    Args:
        model: the base.
        anatomy: of it.
        names: ``embeddings`` (the word embeddings), or the ends of modules' names.

    Raises:
        MethodError: a name matches nothing, or a module that shares weights with another.
    """
    matched: list[str] = []
    modules = dict(model.named_modules())
    for word in names or ():
        end = anatomy.word_embeddings if word == "embeddings" else word
        hits = [name for name in modules if name == end or name.endswith(f".{end}")]
        if not any(list(modules[name].parameters()) for name in hits):
            raise MethodError(
                f'{OPTION}: "{word}" matches no module with weights.',
                remedy=f"Name the end of a module's name, as {anatomy.layers[-1].name}; "
                "embeddings stands for the word embeddings.",
            )
        matched += hits
    outside = [
        name for name in dict.fromkeys(matched) if not is_within_any(name, anatomy.head_modules)
    ]
    outermost = [n for n in outside if not any(n.startswith(f"{other}.") for other in outside)]
    for name in outermost:
        _refuse_tied(model, name)
    return outermost


def _refuse_tied(model: nn.Module, module: str) -> None:
    """Refuse shared weights: they would stay equal here, and not in PEFT."""
    names_of: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(parameter, []).append(name)
    for names in names_of.values():
        inside = [name for name in names if name.startswith(f"{module}.")]
        if inside and len(inside) < len(names):
            other = next(name for name in names if name not in inside)
            raise MethodError(
                f"{OPTION}: {module} has weights that {other.rpartition('.')[0]} has too.",
                remedy="Name a module of its own, or take full.",
            )


def train_modules(model: nn.Module, injection: Injection, names: Sequence[str]) -> Injection:
    """Give each module weights of its own for the run, trained with the method's."""
    for name in names:
        for own, parameter in model.get_submodule(name).named_parameters():
            injection.base_weights[f"{name}.{own}"] = parameter.data
            parameter.data = parameter.data.clone()
            injection.parameters[f"{name}.{own}"] = parameter
    injection.modules_to_save = tuple(names)

    def restore_base() -> None:
        for name, data in injection.base_weights.items():
            model.get_parameter(name).data = data
        injection.base_weights.clear()

    if names:
        injection.changes.push(restore_base)
    return injection


def count_module_parameters(model: nn.Module, names: Sequence[str]) -> int:
    """How many parameters the modules have."""
    return sum(p.numel() for name in names for p in model.get_submodule(name).parameters())
