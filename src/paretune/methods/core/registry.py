"""From a method's name and options in a study file to a method with checked options.

Nothing here imports torch before a method is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from paretune import plugins
from paretune.answers import Readout
from paretune.errors import MethodError, PluginError, suggest
from paretune.methods import baselines
from paretune.methods.core.method import (
    ALL,
    Baseline,
    Head,
    LayerOptions,
    Locate,
    Method,
    Rates,
    Trains,
    list_layers,
    no_place,
    parse_options,
)
from paretune.methods.core.titles import TITLES
from paretune.methods.peft.supported import PEFT_PREFIX, SUPPORTED
from paretune.objectives import Objective
from paretune.study import MethodSpec, Study
from paretune.study.study_file import KeyPath

if TYPE_CHECKING:
    from torch import nn

    from paretune.methods.core.injection import Injection
    from paretune.methods.core.method import Method
    from paretune.methods.core.run_axis import Fleet
    from paretune.models.structure.anatomy import Anatomy
    from paretune.models.structure.topology import Topology
    from paretune.objectives.example import Example


SYNONYMS: Mapping[str, str] = {
    "prompt_tuning": "prompt",
    "prefix_tuning": "prefix",
    "ptuning": "p_tuning",
    "full_fine_tuning": "full",
    "full_finetuning": "full",
    "linear_probe": "head_only",
}
"""What other programs call methods."""
METHOD_HINTS: Mapping[str, str] = {
    "qlora": "take lora, and write quantisation: nf4 beside the model's name",
    "rslora": "write {name: lora, use_rslora: true}",
    **dict.fromkeys(
        ("loraplus", "lora_plus", "lora+"), "write {name: lora, loraplus_lr_ratio: 16}"
    ),
    "pissa": "write {name: peft:lora, init_lora_weights: pissa}",
    "olora": "write {name: peft:lora, init_lora_weights: olora}",
    **dict.fromkeys(("adapter", "adapters"), "take pfeiffer, houlsby or parallel"),
    "auto": "reinstall paretune, which brings it as a plug-in",
}
"""By the name of no method, what to write instead."""


@dataclass(frozen=True)
class ConfiguredMethod:
    """A method with checked options, and its facts for these options."""

    method: Method
    options: Any

    @property
    def name(self) -> str:
        """As in study files."""
        return self.method.name

    @property
    def trains(self) -> Trains:
        """What training changes."""
        return self.method.trains

    @property
    def learns(self) -> bool:
        """Whether it takes steps."""
        return self.trains is not Trains.NOTHING

    def loss_settings(self, objective: Objective) -> tuple[str, ...]:
        """What of :data:`~paretune.objectives.objective.LOSS_SETTINGS` its steps read."""
        body = self.method.body_training
        return objective.loss_settings if body is None else body.loss_settings

    @cached_property
    def parts(self) -> Sequence[ConfiguredMethod]:
        """The methods that it is made of, in order; empty but for a stack."""
        return self.method.members_of(self.options) if self.method.members_of else ()

    def members(self) -> Sequence[ConfiguredMethod]:
        """What it is made of; itself alone, but for a stack."""
        return self.parts or [self]

    def learning_rates(self, topology: Topology) -> Rates | None:
        """Low, middle, high on models of a topology; None where nothing is learnt."""
        if self.parts:
            return self.parts[0].learning_rates(topology)
        in_decoders = self.method.decoder_learning_rates if topology.has_decoder_rates else None
        return in_decoders or self.method.learning_rates

    @property
    def code_epoch(self) -> int:
        """Part of a run's identity; new code of a part is a new run too."""
        return self.method.code_epoch + sum(part.code_epoch - 1 for part in self.parts)

    @property
    def reads_base_weights(self) -> bool:
        """Whether the base's matrices must be there in full precision."""
        return self.method.reads_base_weights(self.options) or any(
            part.reads_base_weights for part in self.parts
        )

    @property
    def cannot_train_quantised(self) -> str:
        """Why not on a quantised base, or ""."""
        if self.trains is Trains.EVERYTHING:
            return "it trains every weight, and no step moves a quantised one"
        reasons = (part.cannot_train_quantised for part in self.parts)
        return next(filter(None, reasons), self.method.cannot_train_quantised(self.options))

    @property
    def trains_alone(self) -> bool:
        """Whether a run cannot share the backbone with other runs."""
        return (
            self.reads_base_weights
            or self.method.trains_alone(self.options)
            or any(part.trains_alone for part in self.parts)
        )

    @property
    def mixes(self) -> bool:
        """Whether runs may share batches with runs of other methods that mix."""
        if self.parts:
            return all(part.mixes for part in self.parts)
        return self.method.mixes(self.options) and not self.trains_alone

    def inject(
        self, model: nn.Module, anatomy: Anatomy, fleet: Fleet, seeds: list[int]
    ) -> Injection:
        """Put the method into a model; ``seeds`` has one seed for each run of the fleet."""
        return self.method.inject(model, self.own_part(anatomy), self.options, fleet, seeds)

    def count_parameters(self, model: nn.Module, anatomy: Anatomy) -> int:
        """The trained parameters of one run."""
        return self.method.count_parameters(model, self.own_part(anatomy), self.options)

    def count_token_parameters(self, model: nn.Module, anatomy: Anatomy) -> int:
        """Of the trained parameters, those that every token of a text goes through."""
        if self.parts:
            subset = self.own_part(anatomy)
            return sum(part.count_token_parameters(model, subset) for part in self.parts)
        if self.trains is not Trains.ADAPTER:
            return 0
        if self.method.virtual_tokens or self.method.wraps_layers:  # these cannot be counted here
            return 0
        return self.count_parameters(model, anatomy)

    def count_layers_below(self, anatomy: Anatomy) -> int:
        """How many of a model's layers lie below everything that the method trains.

        The backward pass ends above them. 0 where it is not known.
        """
        subset, below = self.own_part(anatomy), 0
        if self.trains is Trains.HEAD:
            below = len(subset.layers)
        elif self.parts:
            below = min(part.count_layers_below(subset) for part in self.parts)
        else:
            below = self.options.count_layers_below(subset)
        if below == len(subset.layers):
            return len(anatomy.layers)
        return anatomy.find_layer(subset.layers[below].name) or 0

    def sum_saved_widths(self, anatomy: Anatomy) -> float:
        """Vectors of the width that it keeps for each token until the backward pass.

        Beside those of the layers themselves, summed over the layers that it stands in.
        """
        subset = self.own_part(anatomy)
        if self.parts:
            return sum(part.sum_saved_widths(subset) for part in self.parts)
        below: int = self.options.count_layers_below(subset)
        return self.method.saved_widths * (len(subset.layers) - below)

    def own_part(self, anatomy: Anatomy) -> Anatomy:
        """What the method sees of a model: the layers of its option ``layers``.

        Raises:
            MethodError: the model has fewer layers.
        """
        if not isinstance(self.options, LayerOptions) or self.options.layers == ALL:
            return anatomy
        return anatomy.select_layers(list_layers(self.options.layers, len(anatomy.layers)))

    def with_tokenizer(self, tokenizer: Any) -> ConfiguredMethod:
        """The same, with the token ids of what the options hold as text."""
        return replace(self, options=self.options.with_tokenizer(tokenizer))


@dataclass(frozen=True)
class ConfiguredBaseline:
    """A baseline with checked options."""

    method: Baseline
    options: Any
    learns = False

    def learning_rates(self, topology: Topology) -> Rates | None:
        """None: it has no steps."""
        return None

    @property
    def code_epoch(self) -> int:
        """Part of a run's identity."""
        return self.method.code_epoch

    def fit(
        self, train: Sequence[Example], num_labels: int, seed: int
    ) -> Callable[[Sequence[Example]], Any]:
        """A function from examples to scores (examples, labels), or to texts.

        Of several labels each is fitted against the rest, and its scores are logits.
        """
        if not isinstance(train[0].label, str):
            return self.method.fit(train, num_labels, self.options, seed)
        columns = zip(*(str(e.label) for e in train), strict=True)
        rows = ([replace(e, label=int(a)) for e, a in zip(train, c, strict=True)] for c in columns)
        predictors = [self.method.fit(labelled, 2, self.options, seed) for labelled in rows]
        return lambda examples: np.column_stack([np.diff(p(examples)) for p in predictors])


def configure(spec: MethodSpec, locate: Locate = no_place) -> ConfiguredMethod | ConfiguredBaseline:
    """The method of a study file, its options checked.

    Raises:
        MethodError: an unknown method, or an option that is not its own or out of range.
    """
    method = get(spec.name)
    options = parse_options(method.name, method.options, spec.options, locate)
    if isinstance(method, Baseline):
        return ConfiguredBaseline(method, options)
    return ConfiguredMethod(method, options)


def configure_method(spec: MethodSpec) -> ConfiguredMethod:
    """The same of a method that fine-tunes a model; MethodError for a baseline without one."""
    configured = configure(spec)
    if isinstance(configured, ConfiguredBaseline):
        raise MethodError("it trains no model.", where=f"method {spec.key}")
    return configured


def check_options(method: MethodSpec, study: Study) -> None:
    """Check what a study says of a method, before data and models are opened.

    Raises:
        MethodError: there is no such method, or an option is wrong or would not be read; with its
            line.
    """

    def locate(place: KeyPath, words: str) -> str:
        return study.locate(("methods", method.key, *place), words)

    def refuse(option: str, why: str, remedy: str) -> NoReturn:
        where = locate((option,), f"method {method.key}, option {option}")
        raise MethodError(f"{why}.", where=where, remedy=remedy)

    try:
        get(method.name)
    except MethodError as error:
        raise MethodError(
            error.what, where=locate(("name",), error.where), remedy=error.remedy
        ) from None
    configured = configure(method, locate)
    title, rates = configured.method.title, method.learning_rates
    if isinstance(configured, ConfiguredBaseline):
        members: Sequence[ConfiguredMethod] = ()
        if method.readout is not None:
            refuse("readout", f"{title} answers without a model", "Remove it.")
    else:
        try:
            members = configured.members()
        except MethodError as error:
            raise MethodError(
                error.what, where=locate((), error.where), remedy=error.remedy
            ) from None
    for options in (member.options for member in members):
        for option, flag in options.READ_WITH.items():
            default = type(options).model_fields[option].default
            if getattr(options, option) != default and not getattr(options, flag):
                remedy = f"Remove it, or add {flag}: true."
                refuse(option, f"is read with {flag}: true alone", remedy)
    if rates is not None and method.proposer is not None:
        refuse("learning_rates", "a search chooses its own learning rates", "Remove them.")
    if rates is not None and not configured.learns:
        refuse("learning_rates", f"{title} takes no step that could have one", "Remove them.")
    if rates is not None and len(rates) != study.protocol.trials:
        refuse(
            "learning_rates",
            f"{len(rates)} learning rates, but every method gets {study.protocol.trials} trials",
            "List as many rates as protocol.trials says, or change trials.",
        )


def available() -> dict[str, Method | Baseline]:
    """Every method by name: the files of this package, and the plug-ins that can be loaded.

    Without those that propose runs: what these train is a stack of others.
    """
    methods = {name: get(name) for name in _list_built_in()}
    excluded = {*methods, *plugins.names(plugins.PROPOSERS)}
    for name in set(plugins.names(plugins.METHODS)) - excluded:
        try:
            methods[name] = plugins.load(plugins.METHODS, name, Method)
        except PluginError:
            continue  # broken_plugins() has the reason
    return methods


def _list_built_in() -> tuple[str, ...]:
    return *TITLES, *baselines.METHODS


def broken_plugins() -> dict[str, str]:
    """The plug-ins that cannot be used, by name, with the reason and what to do."""
    _, errors = plugins.load_all(plugins.METHODS, Method)
    conflict = "paretune has a method of this name and uses that"
    return {
        **{name: str(error) for name, error in errors.items()},
        **{name: conflict for name in plugins.names(plugins.METHODS) if name in _list_built_in()},
    }


def get(name: str) -> Method | Baseline:
    """The method called ``name``; ``peft:vera`` is ``peft``'s own VeRA.

    Raises:
        MethodError: there is none, with the nearest name; or a tuner of ``peft`` that does not
            train here, with the reason.
        PluginError: an installed package offers it and cannot be used.
    """
    if name.startswith(PEFT_PREFIX):
        from paretune.methods.peft import tuner_methods

        return tuner_methods.make_method(name.removeprefix(PEFT_PREFIX))
    if name in baselines.METHODS:
        return baselines.METHODS[name]
    if name in TITLES:
        method: Method = importlib.import_module(f"paretune.methods.{name}").METHOD
        return method
    if name in plugins.names(plugins.METHODS):
        return plugins.load(plugins.METHODS, name, Method)
    names = sorted({*_list_built_in(), *plugins.names(plugins.METHODS)})
    if hint := METHOD_HINTS.get(name.casefold()):
        raise MethodError(f'method "{name}" is not known: {hint}.')
    tuners = {tuner: f"{PEFT_PREFIX}{tuner}" for tuner in SUPPORTED if tuner not in names}
    nearest = suggest(name, names, {**tuners, **SYNONYMS})
    listed = f"Known methods: {', '.join(names)}; and {PEFT_PREFIX}NAME, peft's own tuners."
    raise MethodError(f'method "{name}" is not known.', remedy=nearest or listed)


def refusal(
    method: Method | Baseline, objective: Objective, *, tabular: bool, readout: Readout = "head"
) -> str:
    """Why a method cannot serve a task, or "".

    Args:
        objective: of the task, as the readout trains it.
        tabular: whether there are features behind its texts.
    """
    task = objective.name.replace("_", " ")
    if isinstance(method, Baseline):
        if method.name not in objective.baselines:
            return f"{method.title} serves other tasks, not {task}"
        if method.name in baselines.OF_TABLES and not tabular:
            return f"{method.title} reads the columns of a table, and the task has none (features:)"
        return ""
    if readout not in method.readouts:
        return f"{method.title} answers by {' or '.join(method.readouts)}, not by {readout}"
    new_head = objective.draws_head
    if (method.head is Head.NEW and not new_head) or (method.head is Head.PRETRAINED and new_head):
        has = "draws a new one" if new_head else "has that of the checkpoint"
        return f"{method.title} needs {method.head.value}, and {task} {has}"
    chooses_label = objective.head_spec(()).problem_type == "single_label_classification"
    if method.head is Head.LABELS and not chooses_label:
        return f"{method.title} needs {method.head.value}, and {task} has another"
    return ""
