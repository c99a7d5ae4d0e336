"""``peft:<name>``: the tuners of Hugging Face's ``peft`` as methods, with its own option names.

Not one method but a maker of them: ``method("vera")`` is an object like the module of a method
file. The tuner's own code trains, so what is measured is ``peft``'s VeRA, not ours; such a run is
always alone. The head is ours: drawn, trained and saved as with every method.

Start: as ``peft`` draws it, from a seed of the run's own. Which tuners train here, and why others
do not, is in :mod:`paretune.methods.peft.supported`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from paretune.errors import MethodError
from paretune.methods import PEFT
from paretune.methods.core.options import ENCODER_KINDS, EVERY_KIND
from paretune.methods.core.run_axis import Fleet
from paretune.methods.core.targeting import match_layers
from paretune.methods.layer_norm import find_norms
from paretune.methods.peft import wrapping
from paretune.methods.peft.config_options import LAYER_OPTIONS, make_options, non_default_settings
from paretune.methods.peft.supported import REFUSED, SUPPORTED, SupportedTuner
from paretune.methods.peft.wrapping import PeftInjection
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed
from paretune.study.aliases import suggest

CODE_EPOCH = 1


@cache
def make_method(tuner: str) -> ModuleType:
    """The method ``peft:<tuner>``, as if it had a file of its own.

    Raises:
        MethodError: the installed ``peft`` has no such tuner, or it does not train here, and why.
    """
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    name = f"{PEFT}{tuner}"
    installed = {kind.value.lower(): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    if tuner in REFUSED:
        raise MethodError(f"cannot train here: {REFUSED[tuner].reason}.", where=f"method {name}")
    if tuner not in installed or tuner not in SUPPORTED:
        there = "is not known to this paretune" if tuner in installed else "is not known"
        usable = [f"{PEFT}{one}" for one in sorted(SUPPORTED) if one in installed]
        near = suggest(name, usable)
        raise MethodError(
            f'method "{name}" {there} (peft {peft.__version__} is installed).',
            remedy=near or f"Its tuners that train here: {', '.join(usable)}.",
        )
    kind, known = installed[tuner], SUPPORTED[tuner]
    config: Any = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    made = ModuleType(f"{__name__}.{tuner}", f"{known.title}, by ``peft``.")
    vars(made).update(_parts(name, known, config, PEFT_TYPE_TO_TUNER_MAPPING[kind]))
    return made


def _parts(name: str, known: SupportedTuner, config: Any, tuner: Any) -> dict[str, Any]:
    """What a method file has, by name."""
    counts: WeakKeyDictionary[nn.Module, dict[str, int]] = WeakKeyDictionary()

    def inject(
        model: nn.Module, anatomy: Anatomy, options: Any, fleet: Fleet, seeds: list[int]
    ) -> PeftInjection:
        """Let ``peft`` put its layers in the place of the targets'."""
        if fleet.runs != 1:
            raise MethodError(
                f"{fleet.runs} runs at once; a tuner of peft trains alone.", where=f"method {name}"
            )
        told = {
            **non_default_settings(options),
            **_layer_settings(name, model, anatomy, options, known),
        }
        if known.required_option and not told.get(known.required_option):
            raise MethodError(
                f"trains nothing without {known.required_option}.",
                where=f"method {name}",
                remedy=f"Give it: {{name: {name}, {known.required_option}: [...]}}.",
            )
        seed = derive_seed(seeds[0], "init", name)
        rewrites = isinstance(told.get(known.rewriting_option), str)
        made = wrapping.wrap_model(name, model, tuner, config, told, seed, rewrites=rewrites)
        if known.head_learning_rate_factor != 1.0:
            head = [
                n for n in dict(model.named_parameters()) if _is_within(n, anatomy.head_modules)
            ]
            made.learning_rate_factors = dict.fromkeys(head, known.head_learning_rate_factor)
        return made

    def parameter_count(model: nn.Module, anatomy: Anatomy, options: Any) -> int:
        """By wrapping the model once and counting: each tuner has a formula of its own."""
        found = counts.setdefault(model, {})
        if repr(options) not in found:
            made = inject(model, anatomy, options, Fleet(), [0])
            found[repr(options)] = sum(p.numel() for p in made.parameters.values())
            made.undo()
        return found[repr(options)]

    def to_peft(
        model: nn.Module, options: Any, injection: PeftInjection, common: dict[str, Any]
    ) -> Any:
        """The same as a ``PeftModel``, on a fresh base; ``common`` goes to its config."""
        return wrapping.build_peft_model(model, config, injection, common)

    def merge(model: nn.Module, injection: PeftInjection) -> None:
        """Let it become a part of the weights and take it out."""
        wrapping.merge_tuner(name, model, injection)

    def not_in_peft_on(model: nn.Module, options: Any) -> str:
        """Why PEFT would open the adapter of these options with other weights, or ""."""
        for option, begins in known.numbered_values.items():
            if str(getattr(options, option)).startswith(begins):
                return (
                    f"{option}: {getattr(options, option)} starts from random directions, which "
                    "PEFT draws anew when it opens an adapter, so that its base would be another"
                )
        return ""

    return {
        "NAME": name,
        "TITLE": f"{known.title} (peft)",
        "CODE_EPOCH": CODE_EPOCH,
        # peft follows tables that a translation model ties together, and wraps one of them twice.
        "KINDS": ENCODER_KINDS if known.targets == ("embeddings",) else EVERY_KIND,
        "LEARNING_RATES": known.rates,
        "STARTS_AS_BASE": known.starts_as_base,
        "READS_WEIGHTS": True,
        "Options": make_options(config, known),
        "inject": inject,
        "parameter_count": parameter_count,
        "to_peft": to_peft,
        "not_in_peft": lambda kind: known.not_in_peft,
        "not_in_peft_on": not_in_peft_on,
        "merge": merge,
    }


def _layer_settings(
    name: str, model: nn.Module, anatomy: Anatomy, options: Any, known: SupportedTuner
) -> dict[str, Any]:
    """The config's fields that name layers, with their full names in this model.

    Raises:
        MethodError: a name matches nothing, or ``layers_to_transform`` leaves nothing.
    """
    asked = {role: getattr(options, role) for role in LAYER_OPTIONS if hasattr(options, role)}
    asked.setdefault("target_modules", known.targets)
    find = _find_norms if "norms" in known.targets else _find_linears
    found: dict[str, Any] = {
        role: find(model, anatomy, names, role) for role, names in asked.items() if names
    }
    # peft asks which layer a name is in only of names that it completes itself.
    chosen = getattr(options, "layers_to_transform", None)
    if chosen is not None:
        chosen = [chosen] if isinstance(chosen, int) else list(chosen)
        count = len(anatomy.layers)
        if not chosen or not all(0 <= i < count for i in chosen):
            raise MethodError(
                f"{chosen} are no layers; the model has 0 to {count - 1}.",
                where=f"method {name}, option layers_to_transform",
            )
        inside = [anatomy.layers[i].name for i in chosen]
        found = {role: [n for n in names if _is_within(n, inside)] for role, names in found.items()}
        found["layers_to_transform"] = None
    if not found["target_modules"]:
        raise MethodError(
            "no layer is left to stand beside.",
            where=f"method {name}",
            remedy="Name more in target_modules or layers_to_transform.",
        )
    return found


def _find_linears(
    model: nn.Module, anatomy: Anatomy, asked: Sequence[str] | str, option: str
) -> list[str]:
    """Full names of the linear layers that are asked for, or of the word embeddings."""
    if asked == ("embeddings",):
        return [anatomy.word_embeddings]
    return match_layers(anatomy, asked, option)


def _find_norms(
    model: nn.Module, anatomy: Anatomy, asked: Sequence[str] | str, option: str
) -> list[str]:
    """Full names of the backbone's normalisations that are asked for; ``find_norms`` is all of
    them.

    Raises:
        MethodError: a name matches none.
    """
    known = list(find_norms(model, anatomy))
    if isinstance(asked, str):
        expression, asked = asked, [name for name in known if re.fullmatch(asked, name)]
        asked = asked or [expression]  # which is then told to match none
    found = []
    for word in asked:
        hits = (
            known if word == "norms" else [n for n in known if n == word or n.endswith(f".{word}")]
        )
        if not hits:
            raise MethodError(
                f'{option}: "{word}" matches no normalisation of the model.',
                remedy=f"It has {', '.join(known)}; norms is all of them.",
            )
        found += hits
    return [name for name in known if name in found]


def _is_within(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
