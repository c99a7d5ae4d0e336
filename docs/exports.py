"""The page of the site on exports: as what each method can be exported, and where PEFT stops.

PEFT's errors are those that it really raises, on tiny models.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import peft
import torch
from transformers import AutoConfig, AutoModelForMultipleChoice, AutoModelForSequenceClassification

from paretune import methods, objectives
from paretune.exporting import formats
from paretune.exporting.export_selection import FORMS
from paretune.exporting.restore import TaskSignature
from paretune.methods.prompt import peft_prompt_settings
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec

STACKED = {"stack": {"methods": ["lora", "bitfit"]}}
"""Options for those that cannot do without."""
FAMILIES = (
    "bert", "roberta", "xlm-roberta", "camembert", "deberta-v2", "modernbert", "distilbert",
    "electra",
)  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """Something that PEFT is asked for; what it raises is what the page shows."""

    method: str
    asked: str
    model: str
    why: str
    ask: Callable[[], object]
    expected: bool = True
    """Whether an exception of ours rests on it, or it is only tried on every model."""

    def error(self) -> str:
        """Type and text of what PEFT raises, or that it raises nothing."""
        try:
            self.ask()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what the page shows)
            message = " ".join(str(error).split()).replace("|", "\\|")
            excerpt = message if len(message) <= 200 else f"{message[:200].rpartition(' ')[0]} ..."
            return f"{type(error).__name__}: {excerpt}"
        return "none: it runs"


def page() -> str:
    """The whole page."""
    return "\n".join([*forms(), "## What PEFT says", "", *errors()]) + "\n"


def forms() -> list[str]:
    """Method x form, for kinds of task that do not differ together."""
    fine_tuning_methods = sorted(
        (n, m) for n, m in methods.available().items() if isinstance(m, methods.Method)
    )
    kinds: dict[tuple[str, ...], list[str]] = {}
    for kind in objectives.names():
        all_reasons = tuple(
            reason for name, _ in fine_tuning_methods for reason in reasons(name, kind).values()
        )
        kinds.setdefault(all_reasons, []).append(kind)
    groups = list(kinds.values())
    heads = [f"{form} ({', '.join(group)})" for group in groups for form in FORMS]
    lines = [
        "# What exports as what",
        "",
        "The forms are described in [exports](../your-study/exports.md).",
        "",
        f"| method | {' | '.join(heads)} |",
        f"|---{'|---' * len(heads)}|",
    ]
    why: dict[str, dict[str, list[str]]] = {}
    for name, _ in fine_tuning_methods:
        answers = []
        for group in groups:
            for form, reason in reasons(name, group[0]).items():
                answers.append("no" if reason else "yes")
                if reason:
                    why.setdefault(reason, {}).setdefault(f"`{name}` {form}", []).extend(group)
        lines.append(f"| `{name}` | {' | '.join(answers)} |")
    lines += ["", "Why not:", ""]
    for reason, places in why.items():
        several = [
            place if len(where) == sum(map(len, groups)) else f"{place} ({', '.join(where)})"
            for place, where in places.items()
        ]
        lines.append(f"- {', '.join(several)}: {reason}.")
    return [*lines, ""]


def reasons(method: str, kind: str) -> dict[str, str]:
    """Each form with "" or with why a run cannot take it."""
    run = Run(
        stage="final",
        task=TaskSpec(name="any"),
        model=ModelSpec(name="any"),
        method=MethodSpec.model_validate({"name": method, **STACKED.get(method, {})}),
        learning_rate=1e-3,
        seed=1,
    )
    return formats.explain_forms(run, TaskSignature(kind=kind, labels=("no", "yes")))


def errors() -> list[str]:
    """Every exception with PEFT's own error; equal ones of several methods and models together."""
    where: dict[tuple[str, str, str, str], list[str]] = {}
    for attempt in [*prefixes(), *prompts(), *automatic(), *missing(), stacked()]:
        error = attempt.error()
        if attempt.expected or not error.startswith("none"):
            row = (attempt.method, attempt.asked, attempt.why, error)
            where.setdefault(row, []).append(attempt.model)
    rows: dict[tuple[str, ...], list[str]] = {}
    for (method, asked, why, error), models in where.items():
        rows.setdefault((asked, ", ".join(models), error, why), []).append(f"`{method}`")
    return [
        f"Asked of peft {version('peft')} with transformers {version('transformers')}, on tiny",
        "models with random weights.",
        "",
        "| method | asked for | on | PEFT's error | why, and what paretune does |",
        "|---|---|---|---|---|",
        *(f"| {', '.join(names)} | {' | '.join(rest)} |" for rest, names in rows.items()),
    ]


def prefixes() -> list[Attempt]:
    """Prefix tuning of a classifier, family by family."""
    why = (
        "PEFT hands the prefix over as a cache of past keys, which encoders do not have; that of "
        "paretune stands inside the attention, and is exported as its own folder"
    )

    def ask(family: str) -> None:
        model = tiny(family)
        settings = peft_prompt_settings(model, {"task_type": "SEQ_CLS", "num_virtual_tokens": 4})
        peft.get_peft_model(model, peft.PrefixTuningConfig(**settings))(**batch())

    request = "prefix tuning of a classifier"
    return [Attempt("prefix", request, family, why, partial(ask, family)) for family in FAMILIES]


def prompts() -> list[Attempt]:
    """Virtual tokens before several choices."""
    why = (
        "PEFT puts one prompt before (batch, tokens), and choices have an axis more; paretune puts "
        "it before every choice, and exports its own folder"
    )

    def ask(config: type) -> None:
        settings = config(task_type="SEQ_CLS", num_virtual_tokens=4)
        model = peft.get_peft_model(tiny("bert", AutoModelForMultipleChoice), settings)
        model(**{name: t[:, None].expand(-1, 2, -1) for name, t in batch().items()})

    request = "a prompt before several choices"
    return [
        Attempt("prompt", request, "bert", why, partial(ask, peft.PromptTuningConfig)),
        Attempt("p_tuning", request, "bert", why, partial(ask, peft.PromptEncoderConfig)),
    ]


def automatic() -> list[Attempt]:
    """What PEFT finds by itself where it is not told the layers, or the widths."""
    layers = "PEFT has no list of this architecture's layers; paretune finds them by structure"
    widths = "PEFT knows the widths of a config by their usual names; paretune reads the model"
    common: dict[str, Any] = {"task_type": "SEQ_CLS"}
    configs: dict[str, Callable[[], Any]] = {
        "lora": lambda: peft.LoraConfig(**common),
        "dora": lambda: peft.LoraConfig(**common, use_dora=True),
        "loha": lambda: peft.LoHaConfig(**common),
        "lokr": lambda: peft.LoKrConfig(**common),
        "ia3": lambda: peft.IA3Config(**common),
        "layer_norm": lambda: peft.LNTuningConfig(**common),
        "prompt": lambda: peft.PromptTuningConfig(**common, num_virtual_tokens=4),
        "p_tuning": lambda: peft.PromptEncoderConfig(**common, num_virtual_tokens=4),
    }

    def ask(name: str, family: str) -> None:
        peft.get_peft_model(tiny(family), configs[name]())(**batch())

    found = []
    for name in configs:
        asked, why = "no target_modules given", layers
        if name in ("prompt", "p_tuning"):
            asked, why = "no token_dim given", widths
        found += [
            Attempt(name, asked, family, why, partial(ask, name, family), expected=False)
            for family in FAMILIES
        ]
    return found


def missing() -> list[Attempt]:
    """Methods that PEFT has not at all."""

    def ask(name: str) -> None:
        peft.get_peft_config({"peft_type": name.upper(), "task_type": "SEQ_CLS"})

    lacking = {
        name: module
        for name, module in sorted(methods.available().items())
        if isinstance(module, methods.Method)
        and module.peft_export is None
        and module.trains is methods.Trains.ADAPTER
        and name not in ("prefix", "stack")
    }
    found = []
    for name, method in lacking.items():
        own = "a merged checkpoint" if method.merge is not None else "its own folder"
        why = f"PEFT has no such method; paretune exports {own}"
        found.append(Attempt(name, f"peft_type {name.upper()}", "any", why, partial(ask, name)))
    return found


def stacked() -> Attempt:
    """Two methods in one model."""

    def ask() -> None:
        targets = {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}
        model: Any = peft.get_peft_model(tiny("bert"), peft.LoraConfig(**targets), mixed=True)
        model.add_adapter("second", peft.LoHaConfig(**targets))
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)

    why = "PEFT's mixed models hold several methods and are not saved; paretune's own folder is"
    return Attempt("stack", "LoRA and LoHa in one model", "bert", why, ask)


def tiny(family: str, kind: Any = AutoModelForSequenceClassification) -> Any:
    """A model of this family with random weights."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes = {"intermediate_size": 48, "vocab_size": 60, "pad_token_id": 0}
    ends = dict.fromkeys(("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 1)
    own = {"distilbert": {"hidden_dim": 48}, "modernbert": ends}.get(family, {})
    return kind.from_config(AutoConfig.for_model(family, **small, **sizes, **own))


def batch() -> dict[str, torch.Tensor]:
    """Two sequences of six tokens."""
    ids = torch.arange(5, 17).reshape(2, 6)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
