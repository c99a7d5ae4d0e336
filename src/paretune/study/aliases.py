"""Names that PEFT, transformers' Trainer and its scripts use for keys and methods. No torch.

A name with exactly the meaning of one of ours is an alias: it is replaced, so the study and its
runs are the same. For a name with a similar meaning the error says what to write instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from paretune import plugins

TRAINING_ALIASES = {
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "warmup_ratio": "warmup_fraction",
    "gradient_checkpointing": "activation_checkpointing",
    "label_smoothing_factor": "label_smoothing",
    "early_stopping_patience": "patience",
    "eval_steps": "eval_every",
}
"""Keys of ``training``. Trainer's batch is per device; a run has one device."""
TASK_ALIASES = {
    "train_file": "train",
    "test_file": "test",
    "dataset_name": "dataset",
    "dataset_config_name": "config",
    "text_column": "text",
    "text_column_name": "text",
    "label_column": "label",
    "label_column_name": "label",
}
MODEL_ALIASES = {"model_name_or_path": "name", "quantization": "quantisation"}
GENERATION_ALIASES = {"generation_num_beams": "num_beams"}

_RATE = "learning rates belong to a method: {name: lora, learning_rates: [1e-4, 3e-4, 1e-3]}"
_STEPS = "write the share of all steps: warmup_fraction"
KEY_HINTS: Mapping[str, str] = {
    "learning_rate": _RATE,
    "learning_rates": _RATE,
    "lr": _RATE,
    "lr_scheduler_type": "did you mean schedule (linear, cosine or constant, after the warm-up)?",
    "lr_scheduler": "did you mean schedule (linear, cosine or constant, after the warm-up)?",
    "warmup_steps": _STEPS,
    "num_warmup_steps": _STEPS,
    "gradient_accumulation_steps": "batch_size is the whole batch of a step, micro_batch the part "
    "of it that is computed at once",
    "per_device_eval_batch_size": "evaluation batches are chosen to fit; there is nothing to set",
    "bf16": "write precision: bf16",
    "fp16": "fp16 is not supported; write precision: bf16, fp32 or auto",
    "seed": "seeds belong to the protocol: protocol: {seeds: [1, 2, 3, 4, 5]}",
    "seeds": "seeds belong to the protocol: protocol: {seeds: [1, 2, 3, 4, 5]}",
    "optim": "every run trains by AdamW",
    "load_in_4bit": "write quantisation: nf4 beside the model's name",
    "load_in_8bit": "write quantisation: int8 beside the model's name",
    "quantization_config": "write quantisation: nf4 (or int8) beside the model's name",
    "validation_file": "the selection part is cut from train; name the file to report on as test",
    "output_dir": "results go to studies/NAME; another folder is an option: --store FOLDER",
}
"""Keys with a similar meaning to one of ours, and what to write instead."""

METHOD_ALIASES = {
    "prompt_tuning": "prompt",
    "prefix_tuning": "prefix",
    "ptuning": "p_tuning",
    "full_fine_tuning": "full",
    "full_finetuning": "full",
    "linear_probe": "head_only",
}
"""Names of methods, in lower case with underscores."""
METHOD_HINTS: Mapping[str, str] = {
    "qlora": "take lora, and write quantisation: nf4 beside the model's name",
    "rslora": "write {name: lora, use_rslora: true}",
    "loraplus": "write {name: lora, loraplus_lr_ratio: 16}",
    "lora_plus": "write {name: lora, loraplus_lr_ratio: 16}",
    "lora+": "write {name: lora, loraplus_lr_ratio: 16}",
    "pissa": "write {name: peft:lora, init_lora_weights: pissa}",
    "olora": "write {name: peft:lora, init_lora_weights: olora}",
    "adapter": "take pfeiffer, houlsby or parallel",
    "adapters": "take pfeiffer, houlsby or parallel",
}
"""Methods with another name or not available, and what to write."""

_LORA = {"r": "rank", "lora_rank": "rank", "lora_r": "rank", "lora_alpha": "alpha"}
_ANY_METHOD = {"learning_rate": "learning_rates", "lr": "learning_rates"}
OPTION_ALIASES: Mapping[str, Mapping[str, str]] = {
    "lora": {**_LORA, "lora_dropout": "dropout"},
    "dora": {**_LORA, "lora_dropout": "dropout"},
    "loha": {"r": "rank"},
    "lokr": {"r": "rank"},
}
"""Options by method."""
KEY_ALIASES = (TRAINING_ALIASES, TASK_ALIASES, MODEL_ALIASES, GENERATION_ALIASES, _ANY_METHOD)
"""All aliases of keys of a study file."""


def apply_aliases(values: Any, aliases: Mapping[str, str]) -> Any:
    """Replace aliases of keys.

    Raises:
        ValueError: a key is given in two spellings.
    """
    if not isinstance(values, Mapping) or aliases.keys().isdisjoint(values):
        return values
    renamed: dict[Any, Any] = {}
    for key, value in values.items():
        own = aliases.get(key, key)
        if own in renamed:
            spelled = [k for k in values if aliases.get(k, k) == own]
            raise ValueError(f"{' and '.join(spelled)} mean the same; keep one of them")
        renamed[own] = value
    return renamed


def apply_method_aliases(values: Any) -> Any:
    """Replace aliases in a method and its options, and in those of the members of a stack.

    Raises:
        ValueError: an option is given in two spellings.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        return values
    name = canonical_method_name(values["name"])
    renamed = dict(apply_aliases(values, {**_ANY_METHOD, **OPTION_ALIASES.get(name, {})}))
    renamed["name"] = name
    rates = renamed.get("learning_rates")
    if isinstance(rates, int | float) and not isinstance(rates, bool):
        renamed["learning_rates"] = [rates]
    if (name in OPTION_ALIASES or name.startswith("peft:")) and "target_modules" in renamed:
        renamed["target_modules"] = _canonical_targets(renamed["target_modules"])
    if renamed.get("layers") == "all":  # as where it is left out: the same run
        del renamed["layers"]
    if name == "stack" and isinstance(renamed.get("methods"), list | tuple):
        renamed["methods"] = [
            canonical_method_name(one) if isinstance(one, str) else apply_method_aliases(one)
            for one in renamed["methods"]
        ]
    return renamed


def canonical_method_name(name: str) -> str:
    """``lora`` for ``LoRA``, ``prompt`` for ``prompt-tuning``; a plug-in's name stays as it is."""
    own = re.sub(r"[ -]", "_", name.strip()).casefold()
    if own == name:
        return METHOD_ALIASES.get(name, name)
    if name in plugins.names(plugins.METHODS):
        return name
    return METHOD_ALIASES.get(own, own)


def _canonical_targets(targets: Any) -> Any:
    """``all_linear`` for PEFT's ``all-linear``."""
    if isinstance(targets, list | tuple):
        return [_canonical_targets(one) for one in targets]
    return "all_linear" if targets == "all-linear" else targets


def suggest(word: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """``Did you mean epochs?``, or "" where nothing is near."""
    aliases = aliases or {}
    words = [*known, *aliases]
    low = {one.casefold(): one for one in reversed(words)}
    near = difflib.get_close_matches(word.casefold().replace("-", "_"), list(low), n=1, cutoff=0.6)
    if not near:
        return ""
    match = low[near[0]]
    return f"Did you mean {aliases.get(match, match)}?"
