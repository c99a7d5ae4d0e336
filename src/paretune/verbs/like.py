"""``new --like``: what the files of a LoRA and of a trainer say of a study."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from paretune.errors import StudyError, first_line
from paretune.files import expand_home
from paretune.methods.peft.supported import SUPPORTED
from paretune.study.study_file import open_yaml_editor
from paretune.terminal.sanitise import sanitise_line

LABEL = "given"
"""The label of the study's row that has these settings."""
LORA_OPTIONS = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "target_modules",
    "exclude_modules": "exclude_modules",
    "layers_to_transform": "layers_to_transform",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
    "modules_to_save": "modules_to_save",
    "use_rslora": "use_rslora",
}
"""Fields of ``peft.LoraConfig``, and options of our lora."""
USUAL_LORA: Mapping[str, object] = {
    "bias": "none",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
}
"""Defaults that ``peft`` writes; those of all other options are null, 0, false or empty."""
ABOUT_THE_FILE = frozenset(
    ("peft_type", "peft_version", "task_type", "auto_mapping", "inference_mode", "revision",
     "base_model_name_or_path", "fan_in_fan_out", "use_dora")
)  # fmt: skip
"""Fields that say nothing of the training, or are read in another way."""
HEADS = ("classifier", "score")
"""``peft`` adds these to ``modules_to_save`` for a head, which every method trains here."""
TRAINING_SETTINGS = {
    "max_steps": "max_steps",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "warmup_ratio": "warmup_fraction",
    "label_smoothing_factor": "label_smoothing",
    "max_length": "max_length",
    "max_seq_length": "max_length",
    "gradient_checkpointing": "activation_checkpointing",
}
"""Arguments of ``transformers`` and TRL that are settings under another name or the same."""
SCHEDULES: Mapping[str, str] = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
}
"""Schedules of a study, by what ``transformers`` calls them."""
USUAL_ARGUMENTS: Mapping[str, tuple[object, ...]] = {
    "optim": ("adamw_torch", "adamw_torch_fused"),
    "adam_beta1": (0.9,),
    "adam_beta2": (0.999,),
    "adam_epsilon": (1e-8,),
    "warmup_steps": (0,),
    "lr_scheduler_kwargs": ({}, ""),
    "neftune_noise_alpha": (),
    "fp16": (False,),
    "packing": (False,),
    "loss_type": ("nll",),
}
"""Arguments that change what is trained and that no study has, with the values that change nothing;
null changes nothing either."""


@dataclass
class LikeSettings:
    """Settings of a study that are read from files.

    Attributes:
        method: the first row of the study's methods.
        training: settings under ``training``.
        base_model: the base model of the adapter; None where no file names it.
        left_out: sentences on settings that could not be taken.
    """

    method: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    base_model: str | None = None
    left_out: list[str] = field(default_factory=list)

    def write_into(self, text: str) -> str:
        """A study file with the row before all others, and with the settings; comments stay."""
        yaml, out = open_yaml_editor(), io.StringIO()
        study = yaml.load(text)  # round-trip: it makes no Python objects
        row = CommentedMap(self.method)
        row.fa.set_flow_style()
        study["methods"].insert(0, row)
        study["training"].update(self.training)
        yaml.dump(study, out)
        return out.getvalue()


def read_settings(paths: Sequence[Path | str] | Path | str) -> LikeSettings:
    """The settings of an adapter, of a trainer's arguments, or of both.

    Raises:
        StudyError: a file is missing, no JSON object, neither of the two or no LoRA; or two are of
            one kind.
    """
    settings = LikeSettings()
    kinds: dict[str, Path] = {}
    for name in [paths] if isinstance(paths, str | Path) else paths:
        path = expand_home(Path(name))
        values = _read_object(path)
        adapter = "peft_type" in values
        if not adapter and "learning_rate" not in values and "num_train_epochs" not in values:
            raise StudyError(
                "is neither an adapter_config.json of peft nor the arguments of a trainer.",
                where=str(path),
                remedy="It has no peft_type, no learning_rate and no num_train_epochs.",
            )
        kind = "an adapter" if adapter else "a trainer"
        if kind in kinds:
            raise StudyError(
                f"is a second file of {kind}, beside {kinds[kind]}.",
                where=str(path),
                remedy="A study begins with one row like them: give one file of each kind.",
            )
        kinds[kind] = path
        (_take_adapter if adapter else _take_arguments)(settings, values, path)
    # A trainer trains all weights if it has no adapter.
    settings.method = {"name": "full", "label": LABEL, **settings.method}
    return settings


def _read_object(path: Path) -> dict[str, Any]:
    where = str(path)
    if not path.is_file():
        raise StudyError("no such file.", where=where)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        remedy = "Of training_args.bin write the JSON: args.to_json_string()."
        raise StudyError(
            f"is no JSON ({sanitise_line(first_line(error))}).",
            where=where,
            remedy=remedy if path.suffix == ".bin" else "",
        ) from None
    if not isinstance(values, dict):
        raise StudyError("holds no JSON object.", where=where)
    return values


def _take_adapter(settings: LikeSettings, values: Mapping[str, Any], path: Path) -> None:
    name = str(values["peft_type"]).casefold()
    if name != "lora":
        raise StudyError(
            f"is of peft_type {sanitise_line(str(values['peft_type']))}, and only a LoRA is taken.",
            where=str(path),
            remedy=f"Write a row `peft:{name}` with its options into the study file."
            if name in SUPPORTED
            else "",
        )
    options: dict[str, Any] = {"name": "dora" if values.get("use_dora") else "lora"}
    for key, value in values.items():
        if key in LORA_OPTIONS:
            if key == "modules_to_save" and isinstance(value, list):
                value = [module for module in value if module not in HEADS]
            if value == "all-linear":  # which peft means as a word, and not as an expression
                value = ["all_linear"]
            # 0 is a dropout; what is empty is not there.
            if value is not None and value is not False and value not in ([], {}):
                options[LORA_OPTIONS[key]] = value
        elif key not in ABOUT_THE_FILE and value and value != USUAL_LORA.get(key):
            settings.left_out.append(_name_left_out(path, key, value))
    settings.base_model = values.get("base_model_name_or_path") or None
    settings.method |= options


def _take_arguments(settings: LikeSettings, values: Mapping[str, Any], path: Path) -> None:
    left_out = {}
    for name, key in TRAINING_SETTINGS.items():
        value = values.get(name)
        if value is not None and value is not False and value != -1:  # max_steps: none
            settings.training[key] = value
    if (rate := values.get("learning_rate")) is not None:
        settings.method["learning_rates"] = [rate]
    epochs = _read_number(values, "num_train_epochs", path)
    if epochs is not None and "max_steps" not in settings.training:
        if float(epochs).is_integer():
            settings.training["epochs"] = int(epochs)
        else:
            left_out["num_train_epochs"] = epochs
    if (rows := _read_number(values, "per_device_train_batch_size", path)) is not None:
        passes = _read_number(values, "gradient_accumulation_steps", path)
        settings.training["batch_size"] = rows * (passes or 1)
    if (schedule := values.get("lr_scheduler_type")) is not None:
        if str(schedule) in SCHEDULES:
            settings.training["schedule"] = SCHEDULES[str(schedule)]
        else:
            left_out["lr_scheduler_type"] = schedule
    if values.get("bf16"):
        settings.training["precision"] = "bf16"
    for name, usual in USUAL_ARGUMENTS.items():
        if (value := values.get(name)) is not None and value not in usual:
            left_out[name] = value
    settings.left_out += [_name_left_out(path, name, value) for name, value in left_out.items()]


def _read_number(values: Mapping[str, Any], key: str, path: Path) -> int | float | None:
    value = values.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        what = f"has {sanitise_line(json.dumps(value))} as {key}, which is no number."
        raise StudyError(what, where=str(path))
    return value


def _name_left_out(path: Path, key: str, value: object) -> str:
    return sanitise_line(f"{path.name}: {key}: {json.dumps(value)} was not taken.")
