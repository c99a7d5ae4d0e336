"""All dropout of a model, set at one place and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

DropoutRates = dict[tuple[str, str], float]
"""Dropout probabilities by the name of the module, or ``config``, and of its attribute."""


def read_dropout_rates(model: nn.Module) -> DropoutRates:
    """All dropout probabilities of a model."""
    return {place: value for place, value, _ in _list_rates(model)}


def set_dropout(model: nn.Module, p: float) -> None:
    """Set every dropout probability of the model to ``p``.

    Reaches ``nn.Dropout`` modules, the numbers that attention hands to its kernel (ModernBERT's
    ``attention_dropout``), and the config. A layer that was built without dropout (ModernBERT's
    and ELECTRA's where the config has 0) gets none.
    """
    for _, _, put in _list_rates(model):
        put(p)


def restore_dropout(model: nn.Module, rates: DropoutRates) -> None:
    """Set the probabilities of :func:`read_dropout_rates`; modules added later keep theirs."""
    for place, value, put in _list_rates(model):
        put(rates.get(place, value))


def has_dropout(model: nn.Module) -> bool:
    """Whether any dropout of the model is on."""
    return any(value > 0 for _, value, _ in _list_rates(model))


def _list_rates(
    model: nn.Module,
) -> Iterator[tuple[tuple[str, str], float, Callable[[float], None]]]:
    """Place, value and setter of each probability."""
    owners: list[tuple[str, Any]] = [
        *model.named_modules(),
        ("config", getattr(model, "config", None)),
    ]
    for name, owner in owners:
        if owner is None:
            continue
        for attribute, value in list(vars(owner).items()):
            named = "dropout" in attribute or (attribute == "p" and isinstance(owner, _DropoutNd))
            if named and isinstance(value, float | int) and not isinstance(value, bool):

                def put(p: float, owner: Any = owner, attribute: str = attribute) -> None:
                    setattr(owner, attribute, p)

                yield (name, attribute), float(value), put
