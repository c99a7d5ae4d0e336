"""Putting one of ``peft``'s tuners into a model and taking it out without a trace.

``peft`` puts its own layers in the place of a model's and draws from the global generators. Here
it is given a model, a seed and a config; the model gets back its own modules, bit for bit.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from paretune.errors import MethodError
from paretune.methods.injection import Injection

ADAPTER = "default"
SHARED = "peft_shared"
"""Child of the model that holds what a tuner's layers share (VeRA's projections)."""
FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(NotImplementedError, TypeError, ValueError, UserWarning, RuntimeWarning),
)
"""What ``peft`` raises where options do not go with a model; memory that ends is not among it."""
IDLE = ".*(did not match any|no modules were excluded|no module was matched)"
"""What ``peft`` warns of where an option of the user does nothing: an error here."""


@dataclass
class Wrapped(Injection):
    """A tuner in a model.

    Attributes:
        tuner: ``peft``'s own object.
        told: what its config was made of, so that the same can be made again.
        seed: what its initial weights were drawn from.
    """

    tuner: Any = None
    told: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


class Before:
    """A model's modules and tensors as they are, to be put back.

    Args:
        model: where a tuner is about to be put.
        rewritten: modules whose weights it may change (PiSSA, OLoRA): these alone are copied.
    """

    def __init__(self, model: nn.Module, rewritten: Sequence[str] = ()) -> None:
        self.modules = [(m, dict(m._modules), set(vars(m))) for m in model.modules()]
        self.trained = [(p, p.requires_grad) for p in model.parameters()]
        self.weights = [
            (parameter, parameter.detach().clone())
            for name in rewritten
            for parameter in model.get_submodule(name).parameters()
        ]

    def put_back(self) -> None:
        """The same module objects in their places, the same tensors in them, nothing beside."""
        for module, children, names in self.modules:
            module._modules.clear()
            module._modules.update(children)
            for name in set(vars(module)) - names:
                object.__delattr__(module, name)
        for parameter, trained in self.trained:
            parameter.requires_grad_(trained)
        with torch.no_grad():
            for parameter, weight in self.weights:
                parameter.copy_(weight)


@contextmanager
def private_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, the global generators are seeded; outside, they are as if nothing had happened."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def wrap(
    name: str,
    model: nn.Module,
    tuner: Callable[..., Any],
    config: Callable[..., Any],
    told: dict[str, Any],
    seed: int,
    *,
    rewrites: bool = False,
) -> Wrapped:
    """Let a tuner wrap the model.

    Args:
        name: how the method is called, for messages.
        model: which is changed; undone, it is as before.
        tuner: ``peft``'s class of it.
        config: ``peft``'s class of its settings.
        told: the settings, with the full names of the layers.
        seed: what its initial weights are drawn from.
        rewrites: whether it changes the weights that it starts from.

    Raises:
        MethodError: ``peft`` refuses; the text has what it says.
    """
    before = Before(model, told["target_modules"] if rewrites else ())
    device = next(model.parameters()).device
    try:
        with private_draws(seed, device), _quiet():
            made = tuner(model, config(**told), ADAPTER)
        shared = {child: part for child, part in made.named_children() if child != "model"}
        if shared:
            model.add_module(SHARED, nn.ModuleDict(shared).to(device))
        model.train(model.training)  # its layers are made in training mode
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        parts = {n: model.get_submodule(n) for n in made.targeted_module_names}
    except FAULTS as error:
        before.put_back()
        raise MethodError(
            f"peft says: {_sentence(error)}",
            where=f"method {name}",
            remedy="Change its options; `paretune ls methods` and peft's manual have them.",
        ) from error
    except BaseException:
        before.put_back()
        raise
    return Wrapped(
        parameters, before.put_back, parts=parts, packs=False, tuner=made, told=told, seed=seed
    )


def by_peft(model: nn.Module, config: Callable[..., Any], ours: Wrapped, common: Any) -> Any:
    """The same as a ``PeftModel`` on a fresh base; ``common`` goes to its config."""
    import peft

    with private_draws(ours.seed, next(model.parameters()).device), _quiet():
        theirs: Any = peft.get_peft_model(model, config(**ours.told, **common))
    tuner = theirs.base_model
    with torch.no_grad():
        for name, parameter in ours.parameters.items():
            shared = name.startswith(f"{SHARED}.")
            place = name.removeprefix(f"{SHARED}.") if shared else f"model.{name}"
            tuner.get_parameter(place).copy_(parameter)
    return theirs


def merge(name: str, model: nn.Module, injection: Any) -> None:
    """Let the tuner become a part of the weights.

    Raises:
        MethodError: with these options it cannot.
    """
    try:
        injection.tuner.merge_and_unload()
    except FAULTS as error:
        raise MethodError(
            f"peft cannot merge it: {_sentence(error)}",
            where=f"method {name}",
            remedy="Export it as PEFT's adapter or as paretune's own folder.",
        ) from error
    if hasattr(model, SHARED):
        delattr(model, SHARED)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of what is settled here anyway, but errors where an option does nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=IDLE)
        yield


def _sentence(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if said.endswith((".", "!", "?")) else f"{said}."
