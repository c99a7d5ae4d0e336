"""Ways to fine-tune: one file each, and the file is the method.

A method module defines ``NAME``, ``TITLE``, ``CODE_EPOCH`` (raised when its results change),
``KINDS`` (the kinds of task it serves), ``LEARNING_RATES`` (low, middle, high: the rates that make
sense for it), ``Options`` and either

- ``inject(model, anatomy, options, fleet, seeds) -> Injection``, ``parameter_count``,
  ``STARTS_AS_BASE`` (whether the model answers as before until the first step) and, where the
  method can become a part of the weights, ``merge``, for what trains inside a model
  (``with_tokenizer(options, tokenizer)`` where options hold text), or
- ``fit(train, num_labels, options, seed)``, for a baseline that needs no model
  (``NEEDS_FEATURES`` where it reads the columns of a table instead of texts): a function from
  examples to scores, in a translation to texts.

A method that takes the model as it is has no ``LEARNING_RATES``. One that trains or
reads the base's matrices themselves says ``READS_WEIGHTS = True``. One whose runs may share batches
with those of other methods says ``MIXES = True`` (:func:`mixes`).

The package lists its own folder; the entry-point group ``paretune.methods`` lets others add theirs.
:mod:`paretune.methods.peft.tuner_methods` makes the like of a method file of each of ``peft``'s
tuners.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from paretune.errors import MethodError
from paretune.methods.core.options import DEFAULT_TARGETS
from paretune.study import aliases

PEFT = "peft:"
"""What a method's name begins with where ``peft``'s own code trains."""


@cache
def available() -> dict[str, ModuleType]:
    """Every method by name: the modules of this folder and those that others registered."""
    found = {}
    from paretune.methods import baselines

    folders = ((__path__, __name__), (baselines.__path__, baselines.__name__))
    for module_name in (
        f"{package}.{info.name}" for path, package in folders for info in pkgutil.iter_modules(path)
    ):
        module = importlib.import_module(module_name)
        if hasattr(module, "NAME"):
            found[module.NAME] = module
    for entry in entry_points(group="paretune.methods"):
        module = entry.load()
        found[module.NAME] = module
    return found


def get(name: str) -> ModuleType:
    """The method called ``name``; ``peft:vera`` is ``peft``'s own VeRA.

    Raises:
        MethodError: there is none; the known ones are listed. Or a tuner of ``peft`` that does not
            train here, with the reason.
    """
    if name.startswith(PEFT):
        from paretune.methods.peft import tuner_methods

        return tuner_methods.make_method(name.removeprefix(PEFT))
    known = available()
    if name not in known:
        raise _unknown(name, known)
    return known[name]


def _unknown(name: str, known: Mapping[str, ModuleType]) -> MethodError:
    """What to write instead: the method of another name, the nearest, or all there are."""
    from paretune.methods.peft.supported import SUPPORTED

    if name in aliases.METHOD_HINTS:
        return MethodError(f'method "{name}" is not known: {aliases.METHOD_HINTS[name]}.')
    tuners = {tuner: f"{PEFT}{tuner}" for tuner in SUPPORTED if tuner not in known}
    near = aliases.suggest(name, known, {**tuners, **aliases.METHOD_ALIASES})
    every = f"Known methods: {', '.join(sorted(known))}; and {PEFT}NAME, peft's own tuners."
    return MethodError(f'method "{name}" is not known.', remedy=near or every)


def trains_a_model(method: ModuleType) -> bool:
    """Whether the method trains inside a model, or fits on texts alone."""
    return hasattr(method, "inject")


def has_rates(method: ModuleType) -> bool:
    """Whether the method learns at some rate; one that trains nothing has none to try."""
    return bool(getattr(method, "LEARNING_RATES", None)) or hasattr(method, "learning_rates")


def reads_weights(method: ModuleType, options: Any) -> bool:
    """Whether the method trains, measures or rewrites the base's matrices themselves.

    Where it does not, they may be held in the precision in which they compute.
    """
    if hasattr(method, "reads_weights"):
        return bool(method.reads_weights(options))
    return bool(getattr(method, "READS_WEIGHTS", False))


def trains_alone(method: ModuleType, options: Any) -> bool:
    """Whether a run of the method cannot share its backbone with other runs.

    Where the base's own weights change, or where a step decides by chance for the whole batch.
    """
    own = getattr(method, "trains_alone", None)
    return reads_weights(method, options) or (own is not None and bool(own(options)))


def mixes(method: ModuleType, options: Any) -> bool:
    """Whether runs of the method share batches with runs of other methods that mix.

    Such a method stands beside layers, in all of them, and draws nothing.
    """
    targets = getattr(options, "target_modules", DEFAULT_TARGETS)
    special = ("exclude_modules", "layers_to_transform", "modules_to_save")
    fewer = (getattr(options, name, None) for name in special)
    everywhere = targets in (DEFAULT_TARGETS, ("all_linear",)) and not any(fewer)
    draws = getattr(options, "dropout", 0.0) > 0
    return bool(getattr(method, "MIXES", False)) and everywhere and not draws


def refusal(method: ModuleType, kind: str, *, tabular: bool) -> str:
    """Why a method cannot serve a task of this kind; empty where it can.

    Args:
        method: its module.
        kind: of the task.
        tabular: whether the task is a table, with features behind its texts.
    """
    if kind not in method.KINDS:
        served = ", ".join(method.KINDS).replace("_", " ")
        return f"{method.TITLE} serves {served}, not {kind.replace('_', ' ')}"
    if getattr(method, "NEEDS_FEATURES", False) and not tabular:
        return f"{method.TITLE} reads the columns of a table, and the task has none (features:)"
    return ""
