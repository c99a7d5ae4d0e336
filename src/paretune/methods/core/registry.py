"""Finds a method by its name in a study file, and checks its options.

Nothing here imports torch before a method is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

from paretune import plugins
from paretune.answers import Readout
from paretune.errors import MethodError, PluginError, suggest
from paretune.methods import baselines
from paretune.methods.core.method import (
    Baseline,
    ConfiguredBaseline,
    ConfiguredMethod,
    Head,
    Method,
)
from paretune.methods.core.options import Locate, parse_options
from paretune.methods.core.titles import TITLES
from paretune.methods.peft.supported import PEFT_PREFIX, SUPPORTED
from paretune.objectives import Objective
from paretune.study import MethodSpec, Study
from paretune.study.specs import COMMAND
from paretune.study.study_file import KeyPath

BUILT_IN = (*TITLES, *baselines.METHODS)
SYNONYMS: Mapping[str, str] = {
    "prompt_tuning": "prompt",
    "prefix_tuning": "prefix",
    "ptuning": "p_tuning",
    "full_fine_tuning": "full",
    "full_finetuning": "full",
    "linear_probe": "head_only",
}
"""Names of other programs for methods."""
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
"""Hints what to write instead of a name that is no method's."""


def configure(
    spec: MethodSpec, locate: Locate | None = None
) -> ConfiguredMethod | ConfiguredBaseline:
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
    """The method of a study file that fine-tunes a model, its options checked.

    Raises:
        MethodError: it is a baseline without a model.
    """
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
    learns = configured.learns
    if method.is_command:
        if not configured.options.run:
            refuse(
                "run", "no command is given", 'Write run: "python train.py {train} {test} {out}"'
            )
        learns = configured.options.names("learning_rate")
        if learns and rates is None:
            refuse("run", "{learning_rate} is named, and no rate", "Write learning_rates: [...].")
        if len(study.models) > 1 and not configured.options.names("model"):
            remedy = "Name {model}, or compare it on one model."
            refuse("run", f"{{model}} is not named, and the study has {len(study.models)}", remedy)
    if isinstance(configured, ConfiguredBaseline):
        members: Sequence[ConfiguredMethod] = ()
        if method.readout is not None:
            refuse("readout", f"{title} answers without a model", "Remove it.")
    else:
        try:
            members = configured.parts or [configured]
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
    if rates is not None and not learns:
        refuse("learning_rates", f"{title} takes no step that could have one", "Remove them.")
    protocol = study.protocol
    counted = protocol.preset == "trials" or protocol.trials > 1
    if rates is not None and counted and len(rates) != protocol.trials:
        refuse(
            "learning_rates",
            f"{len(rates)} learning rates, but every method gets {protocol.trials} trials",
            "List as many rates as protocol.trials says, or change trials.",
        )


def available() -> dict[str, Method | Baseline]:
    """Every method by name: the files of this package, and the plug-ins that can be loaded.

    Methods that propose runs are left out: they train stacks of other methods.
    """
    methods = {name: get(name) for name in BUILT_IN}
    excluded = {*methods, *plugins.names(plugins.PROPOSERS)}
    for name in set(plugins.names(plugins.METHODS)) - excluded:
        try:
            methods[name] = plugins.load(plugins.METHODS, name, Method)
        except PluginError:
            continue  # broken_plugins() has the reason
    return methods


def broken_plugins() -> dict[str, str]:
    """The plug-ins that cannot be used, by name, with the reason and what to do."""
    _, errors = plugins.load_all(plugins.METHODS, Method)
    problems = {name: str(error) for name, error in errors.items()}
    for name in plugins.names(plugins.METHODS):
        if name in BUILT_IN:
            problems[name] = "paretune has a method of this name and uses that"
    return problems


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
        method: Method | Baseline = importlib.import_module(f"paretune.methods.{name}").METHOD
        return method
    if name in plugins.names(plugins.METHODS):
        return plugins.load(plugins.METHODS, name, Method)
    names = sorted({*BUILT_IN, *plugins.names(plugins.METHODS)})
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
        objective: the task's, as the readout trains it.
        tabular: whether there are features behind its texts.
    """
    task = objective.name.replace("_", " ")
    if method.name == COMMAND:
        is_served = "reward" not in objective.readouts
        return "" if is_served else f"a command gives answers, and {task} is decided by rewards"
    if isinstance(method, Baseline):
        if method.name not in objective.baselines:
            return f"{method.title} serves other tasks, not {task}"
        if method.name in baselines.OF_TABLES and not tabular:
            return f"{method.title} reads the columns of a table, and the task has none (features:)"
        return ""
    if objective.is_external:
        return f"{method.title} needs rows that paretune reads, and of {task} it reads ids alone"
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
