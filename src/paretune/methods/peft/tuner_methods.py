"""``peft:<name>``: the tuners of Hugging Face's ``peft`` as methods, with its own option names.

``make_method("vera")`` makes a :class:`Method` of one of them. The tuner's own code trains, so what
is measured is ``peft``'s VeRA, not ours; such a run is always alone. ``peft`` puts its own layers
in the place of a model's and draws from the global generator: it is given a model, a seed and a
config, and the model gets back its own modules, bit for bit. The head is ours: drawn, trained and
saved as with every method. :mod:`paretune.methods.peft.supported` says which tuners train here.
"""

from __future__ import annotations

import dataclasses
import random
import re
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, create_model
from torch import nn

from paretune.errors import MethodError, suggest
from paretune.methods.core.injection import Injection
from paretune.methods.core.low_rank import Modules, keep_layers, match_layers
from paretune.methods.core.method import Head, Method, PeftExport, always
from paretune.methods.core.options import MethodOptions
from paretune.methods.layer_norm import find_norms
from paretune.methods.peft.supported import CLOSED, PEFT_PREFIX, REFUSED, SUPPORTED, SupportedTuner
from paretune.models.changes import ModelChanges
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import is_within
from paretune.objectives import Objective
from paretune.study import derive_seed

ADAPTER = "default"
SHARED_MODULES = "peft_shared"
"""Child of the model that holds what a tuner's layers share (VeRA's projections)."""
PEFT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    UserWarning,
    RuntimeWarning,
)
"""Errors and warnings of ``peft`` and torch where options do not go with a model.

``NotImplementedError`` is an answer of ``peft`` ("... is not supported for this layer"), no stub of
ours. Memory that ends is not among them.
"""
UNUSED_OPTION_WARNING = ".*(did not match any|no modules were excluded|no module was matched)"
"""``peft`` warns so where an option of the user does nothing, which is an error here."""


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
    """Seed the global generator inside the block and restore their states after it."""
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


@cache
def make_method(tuner: str) -> Method:
    """The method ``peft:<tuner>``.

    Raises:
        MethodError: the installed ``peft`` has no such tuner, or it does not train here, and why.
    """
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    name = f"{PEFT_PREFIX}{tuner}"
    installed = {kind.value.lower(): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    if tuner in REFUSED:
        raise MethodError(f"cannot train here: {REFUSED[tuner]}.", where=f"method {name}")
    if tuner not in installed or tuner not in SUPPORTED:
        there = "is not known to this paretune" if tuner in installed else "is not known"
        usable = [
            f"{PEFT_PREFIX}{name_of_tuner}"
            for name_of_tuner in sorted(SUPPORTED)
            if name_of_tuner in installed
        ]
        nearest = suggest(name, usable)
        raise MethodError(
            f'method "{name}" {there} (peft {peft.__version__} is installed).',
            remedy=nearest or f"Its tuners that train here: {', '.join(usable)}.",
        )
    kind, supported = installed[tuner], SUPPORTED[tuner]
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    functions = _Tuner(name, supported, config, PEFT_TYPE_TO_TUNER_MAPPING[kind])
    return Method(
        name=name,
        title=f"{supported.title} (peft)",
        options=make_options(config, supported),
        learning_rates=supported.rates,
        decoder_learning_rates=supported.decoder_rates,
        inject=functions.inject,
        count_parameters=functions.count_parameters,
        wraps_layers=True,
        # peft follows the tables that a translation model ties together, and wraps one twice.
        head=Head.NEW if supported.targets == ("embeddings",) else Head.ANY,
        reads_base_weights=always,
        cannot_train_quantised=functions.cannot_train_quantised,
        merge=functions.merge,
        peft_export=PeftExport(functions.to_peft, functions.cannot_export_to_peft),
    )


@dataclass(frozen=True)
class _Tuner:
    """The functions of one tuner's method; ``config`` and ``tuner`` are ``peft``'s classes."""

    name: str
    supported: SupportedTuner
    config: Callable[..., Any]
    tuner: Callable[..., Any]
    counts: WeakKeyDictionary[nn.Module, dict[str, int]] = field(default_factory=WeakKeyDictionary)

    def inject(
        self, model: nn.Module, anatomy: Anatomy, options: Any, context: PassContext, seed: int
    ) -> PeftInjection:
        """Let ``peft`` put its layers in the place of the targets.

        Raises:
            MethodError: ``peft`` refuses, with its message.
        """
        where = f"method {self.name}"
        layers = _layer_settings(self.name, model, anatomy, options, self.supported)
        defaults = {name: option.default for name, option in type(options).model_fields.items()}
        chosen = {n: v for n, v in options if n not in LAYER_OPTIONS and v != defaults[n]}
        settings = {**chosen, **layers}
        required = self.supported.required_option
        if required and not settings.get(required):
            raise MethodError(
                f"trains nothing without {required}.",
                where=where,
                remedy=f"Give it: {{name: {self.name}, {required}: [...]}}.",
            )
        # PiSSA and OLoRA rewrite the weights that they start from.
        rewrites = isinstance(settings.get(self.supported.rewriting_option), str)
        before = ModelSnapshot(model, settings["target_modules"] if rewrites else ())
        init_seed = derive_seed(seed, "init", self.name)
        changes = ModelChanges()
        changes.callback(before.restore)
        device = next(model.parameters()).device
        try:
            with changes.on_failure(), isolated_rng(init_seed, device), _filter_warnings():
                wrapper = self.tuner(model, self.config(**settings), ADAPTER)
                shared = {name: m for name, m in wrapper.named_children() if name != "model"}
                if shared:
                    model.add_module(SHARED_MODULES, nn.ModuleDict(shared).to(device))
                model.train(model.training)  # its layers are made in training mode
                adapters = {n: model.get_submodule(n) for n in wrapper.targeted_module_names}
        except PEFT_ERRORS as error:
            raise MethodError(
                f"peft says: {_format_error(error)}",
                where=where,
                remedy="Change its options; peft's documentation describes them.",
            ) from error
        factor, factors = self.supported.head_learning_rate_factor, dict[str, float]()
        if factor != 1.0:
            names = [name for name, _ in model.named_parameters()]
            in_head = [name for name in names if is_within(name, *anatomy.head_modules)]
            factors = dict.fromkeys(in_head, factor)
        return PeftInjection(
            {name: p for name, p in model.named_parameters() if p.requires_grad},
            changes,
            learning_rate_factors=factors,
            adapters=adapters,
            supports_packing=False,
            tuner=wrapper,
            settings=settings,
            seed=init_seed,
        )

    def count_parameters(self, model: nn.Module, anatomy: Anatomy, options: Any) -> int:
        """Wrap the model once and count: each tuner has a formula of its own."""
        counts = self.counts.setdefault(model, {})
        if repr(options) not in counts:
            injection = self.inject(model, anatomy, options, PassContext(), 0)
            counts[repr(options)] = sum(p.numel() for p in injection.parameters.values())
            injection.undo()
        return counts[repr(options)]

    def cannot_train_quantised(self, options: Any) -> str:
        """Why it cannot stand beside quantised layers, or ""."""
        value = vars(options).get(self.supported.rewriting_option)
        if isinstance(value, str):
            return f"{self.supported.rewriting_option}: {value} takes a part of the weights away"
        return ""

    def merge(self, model: nn.Module, injection: Injection) -> None:
        """Let the tuner become a part of the weights and take it out.

        Raises:
            MethodError: with these options it cannot.
        """
        assert isinstance(injection, PeftInjection)  # noqa: S101  (put there by inject)
        try:
            injection.tuner.merge_and_unload()
        except PEFT_ERRORS as error:
            raise MethodError(
                f"peft cannot merge it: {_format_error(error)}",
                where=f"method {self.name}",
                remedy="Export it as PEFT's adapter or as paretune's own folder.",
            ) from error
        if SHARED_MODULES in dict(model.named_children()):
            delattr(model, SHARED_MODULES)

    def to_peft(
        self, model: nn.Module, options: Any, injection: Injection, common: dict[str, Any]
    ) -> Any:
        """Make a ``PeftModel`` on a fresh base; ``common`` goes to its config."""
        import peft

        assert isinstance(injection, PeftInjection)  # noqa: S101  (put there by inject)
        settings = {**injection.settings, **common}
        with isolated_rng(injection.seed, next(model.parameters()).device), _filter_warnings():
            peft_model: Any = peft.get_peft_model(model, self.config(**settings))
        with torch.no_grad():
            for name, parameter in injection.parameters.items():
                shared = name.startswith(f"{SHARED_MODULES}.")
                place = name.removeprefix(f"{SHARED_MODULES}.") if shared else f"model.{name}"
                peft_model.base_model.get_parameter(place).copy_(parameter)
        return peft_model

    def cannot_export_to_peft(
        self, options: Any, objective: Objective, model: nn.Module | None
    ) -> str:
        """Why PEFT cannot save the adapter, or would open it with other weights, or ""."""
        if self.supported.not_in_peft or model is None:
            return self.supported.not_in_peft
        for option, prefix in self.supported.numbered_values.items():
            value = str(vars(options)[option])
            if value.startswith(prefix):
                return (
                    f"{option}: {value} starts from random directions, which PEFT draws anew when "
                    "it opens an adapter, so that its base would be another"
                )
        return ""


def _layer_settings(
    name: str, model: nn.Module, anatomy: Anatomy, options: Any, supported: SupportedTuner
) -> dict[str, Any]:
    """The config's fields that name layers, with their full names in this model.

    Raises:
        MethodError: a name matches nothing, or ``layers_to_transform`` leaves nothing.
    """
    values = vars(options)
    targets = {option: values[option] for option in LAYER_OPTIONS if option in values}
    of_topology = anatomy.topology.default_targets
    targets["target_modules"] = targets.get("target_modules") or supported.targets or of_topology
    layers: dict[str, Any] = {}
    for option, names in targets.items():
        if not names:
            continue
        if names == ("embeddings",):
            layers[option] = [anatomy.word_embeddings]
        elif "norms" in (supported.targets or ()):
            layers[option] = _match_norms([*find_norms(model, anatomy)], names, option)
        else:
            layers[option] = match_layers(anatomy, names, option)
    # peft looks at layers_to_transform only where it completes the names itself.
    numbers = values.get("layers_to_transform")
    if numbers is not None:
        numbers = [numbers] if isinstance(numbers, int) else list(numbers)
        layers = {option: keep_layers(names, anatomy, numbers) for option, names in layers.items()}
        layers["layers_to_transform"] = None
    if not layers["target_modules"]:
        raise MethodError(
            "no layer is left to stand beside.",
            where=f"method {name}",
            remedy="Name more in target_modules or layers_to_transform.",
        )
    return layers


def _match_norms(norms: list[str], targets: Sequence[str] | str, option: str) -> list[str]:
    """The normalisations that are targets; ``norms`` stands for all of them.

    Raises:
        MethodError: a name matches none.
    """
    if isinstance(targets, str):
        matched = [name for name in norms if re.fullmatch(targets, name)]
        targets = matched or [targets]  # which then matches none
    chosen: set[str] = set()
    for target in targets:
        hits = [n for n in norms if target == "norms" or f".{n}".endswith(f".{target}")]
        if not hits:
            raise MethodError(
                f'{option}: "{target}" matches no normalisation of the model.',
                remedy=f"It has {', '.join(norms)}; norms is all of them.",
            )
        chosen.update(hits)
    return [name for name in norms if name in chosen]


PEFT_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
"""``peft``'s names for options of our lora."""
LAYER_OPTIONS = ("target_modules", "feedforward_modules")
"""Options that name layers: they take our roles beside the ends of modules' names."""


def make_options(config: type, supported: SupportedTuner) -> type[MethodOptions]:
    """The tuner's options; ``HINTS`` explains what is left out.

    Defaults are ``peft``'s own; what a study file does not set is not passed to ``peft``.

    Args:
        config: ``peft``'s config class of the tuner.
    """
    closed = {**CLOSED, **supported.closed_options}
    targets = supported.targets
    inner = tuple(role for role in targets or () if role.startswith("feed_forward"))
    options: dict[str, Any] = {}
    hints = typing.get_type_hints(config)
    for setting in dataclasses.fields(config):
        name, kind = setting.name, hints[setting.name]
        default = None if setting.default is dataclasses.MISSING else setting.default
        if not setting.init or name in closed:
            continue
        if name in LAYER_OPTIONS:
            kind, default = Modules | None, targets if name == "target_modules" else inner or None
        elif name in supported.barred_values or name in supported.numbered_values:
            kind = Annotated[kind, WrapValidator(partial(_check_value, name, supported))]
        options[name] = (kind, Field(default=default))
    model: type[MethodOptions] = create_model(
        "Options", __base__=MethodOptions, __doc__=config.__doc__, **options
    )
    names = {option: f"write {name}" for option, name in PEFT_NAMES.items() if name in options}
    model.HINTS = {**names, **closed}
    return model


def _check_value(
    option: str, supported: SupportedTuner, value: Any, validate: ValidatorFunctionWrapHandler
) -> Any:
    """Refuse the option's barred values; take its words that end in a number of the user's."""
    barred: Mapping[str, str] = supported.barred_values.get(option, {})
    prefix = supported.numbered_values.get(option, "")
    if isinstance(value, str) and value in barred:
        raise ValueError(f"{value}: {barred[value]}")
    if not prefix or not isinstance(value, str) or not value.startswith(prefix):
        return validate(value)
    if not re.fullmatch("[1-9][0-9]{0,2}", value.removeprefix(prefix)):
        raise ValueError(f'"{value}" names no number; write {prefix}16, or another of 1 to 999')
    return value
