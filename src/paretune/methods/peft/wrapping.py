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
from paretune.methods.core.injection import Injection
from paretune.models.changes import ModelChanges

ADAPTER = "default"
SHARED_MODULES = "peft_shared"
"""Child of the model that holds what a tuner's layers share (VeRA's projections)."""
PEFT_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(NotImplementedError, TypeError, ValueError, UserWarning, RuntimeWarning),
)
"""What ``peft`` raises where options do not go with a model; memory that ends is not among it."""
UNUSED_OPTION_WARNING = ".*(did not match any|no modules were excluded|no module was matched)"
"""What ``peft`` warns of where an option of the user does nothing: an error here."""


@dataclass
class PeftInjection(Injection):
    """A tuner in a model.

    Attributes:
        settings: what its config was made of, so that the same can be made again.
    """

    tuner: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


class ModelSnapshot:
    """A model's modules and tensors as they are, to be put back.

    Args:
        rewritten: modules whose weights it may change (PiSSA, OLoRA): these alone are copied.
    """

    def __init__(self, model: nn.Module, rewritten: Sequence[str] = ()) -> None:
        self.modules = [(m, dict(m._modules), set(vars(m))) for m in model.modules()]
        self.requires_grad = [(p, p.requires_grad) for p in model.parameters()]
        self.weights = [
            (parameter, parameter.detach().clone())
            for name in rewritten
            for parameter in model.get_submodule(name).parameters()
        ]

    def restore(self) -> None:
        """Put back the same module objects with the same tensors, and remove everything else."""
        for module, children, names in self.modules:
            module._modules.clear()
            module._modules.update(children)
            for name in set(vars(module)) - names:
                object.__delattr__(module, name)
        for parameter, trained in self.requires_grad:
            parameter.requires_grad_(trained)
        with torch.no_grad():
            for parameter, weight in self.weights:
                parameter.copy_(weight)


@contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators inside the block and restore their states after it."""
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


def wrap_model(
    name: str,
    model: nn.Module,
    tuner: Callable[..., Any],
    config: Callable[..., Any],
    settings: dict[str, Any],
    seed: int,
    *,
    rewrites: bool = False,
) -> PeftInjection:
    """Let a tuner wrap the model.

    Args:
        seed: what its initial weights are drawn from.
        rewrites: whether it changes the weights that it starts from.

    Raises:
        MethodError: ``peft`` refuses, with its message.
    """
    before = ModelSnapshot(model, settings["target_modules"] if rewrites else ())
    changes = ModelChanges()
    changes.push(before.restore)
    device = next(model.parameters()).device
    try:
        with isolated_rng(seed, device), _filter_warnings():
            wrapper = tuner(model, config(**settings), ADAPTER)
        shared = {child: part for child, part in wrapper.named_children() if child != "model"}
        if shared:
            model.add_module(SHARED_MODULES, nn.ModuleDict(shared).to(device))
        model.train(model.training)  # its layers are made in training mode
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        adapters = {n: model.get_submodule(n) for n in wrapper.targeted_module_names}
    except PEFT_ERRORS as error:
        changes.undo()
        raise MethodError(
            f"peft says: {_format_error(error)}",
            where=f"method {name}",
            remedy="Change its options; peft's documentation describes them.",
        ) from error
    except BaseException:  # Ctrl-C too: the model is as before; raised again
        changes.undo()
        raise
    return PeftInjection(
        parameters,
        changes,
        adapters=adapters,
        supports_packing=False,
        tuner=wrapper,
        settings=settings,
        seed=seed,
    )


def build_peft_model(
    model: nn.Module, config: Callable[..., Any], injection: PeftInjection, common: Any
) -> Any:
    """The same as a ``PeftModel`` on a fresh base; ``common`` goes to its config."""
    import peft

    with isolated_rng(injection.seed, next(model.parameters()).device), _filter_warnings():
        peft_model: Any = peft.get_peft_model(model, config(**injection.settings, **common))
    tuner = peft_model.base_model
    with torch.no_grad():
        for name, parameter in injection.parameters.items():
            shared = name.startswith(f"{SHARED_MODULES}.")
            place = name.removeprefix(f"{SHARED_MODULES}.") if shared else f"model.{name}"
            tuner.get_parameter(place).copy_(parameter)
    return peft_model


def merge_tuner(name: str, model: nn.Module, injection: Any) -> None:
    """Let the tuner become a part of the weights.

    Raises:
        MethodError: with these options it cannot.
    """
    try:
        injection.tuner.merge_and_unload()
    except PEFT_ERRORS as error:
        raise MethodError(
            f"peft cannot merge it: {_format_error(error)}",
            where=f"method {name}",
            remedy="Export it as PEFT's adapter or as paretune's own folder.",
        ) from error
    if SHARED_MODULES in dict(model.named_children()):
        delattr(model, SHARED_MODULES)


@contextmanager
def _filter_warnings() -> Iterator[None]:
    """Suppress warnings, but turn those of options without effect into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=UNUSED_OPTION_WARNING)
        yield


def _format_error(error: BaseException) -> str:
    message = " ".join(str(error).split()) or type(error).__name__
    return message if message.endswith((".", "!", "?")) else f"{message}."
