"""The forms of an export: which are possible, how PEFT's and the merged one are written and
opened.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from paretune import methods
from paretune.errors import MethodError
from paretune.exporting.native_folder import open_native_folder
from paretune.exporting.restore import TaskSignature, load_base
from paretune.methods import Trains
from paretune.methods.core.peft_export import suppress_checkpointing_warning
from paretune.models.config import load_config
from paretune.models.conv1d import to_conv1d_layers
from paretune.models.quantised import dequantise
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import choose_auto_class
from paretune.models.structure.topology import topology_of
from paretune.study import Run
from paretune.training.prepare import PreparedModel

TOLERANCE = 1e-4
"""Largest difference of logits, in fp32, between an opened export and the trained model."""

Batch = dict[str, torch.Tensor]


def explain_forms(
    run: Run, task: TaskSignature, source: ModelSource | None = None
) -> dict[str, str]:
    """For each form, why the run cannot take it; "" if it can.

    Args:
        source: files of the base model; without them, reasons that depend on the model are left
            out.
    """
    configured = methods.configure_method(run.method)
    method, options = configured.method, configured.options
    reason = _explain_by_head(task, source)
    reasons = {"peft": reason, "merged": reason, "paretune": ""}
    if reason:
        return reasons
    if method.trains is not Trains.ADAPTER:
        reasons["peft"] = f"{method.title} is no adapter: it leaves a whole model (merged)"
        return reasons
    if method.to_peft is None:
        reasons["peft"] = f"{method.title}: nothing of PEFT that runs here"
    else:
        reasons["peft"] = method.cannot_export_to_peft(options, task.objective, None)
        if source is not None and not reasons["peft"]:
            model = load_base(task, source).model
            reasons["peft"] = method.cannot_export_to_peft(options, task.objective, model)
    if method.merge is None:
        reasons["merged"] = f"{method.title} cannot become a part of the weights"
    else:
        reasons["merged"] = method.cannot_merge(options)
    return reasons


def _explain_by_head(task: TaskSignature, source: ModelSource | None) -> str:
    """Why no form of others can hold the task's head on this model; "" if they can."""
    if source is None or not task.objective.scales_targets:
        return ""
    if topology_of(load_config(source)).pooled_token != -1:
        return ""
    return "transformers' classifier of a decoder has no bias, in which the mean of the labels is"


def write_peft_adapter(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write an adapter in PEFT's format, head included.

    Raises:
        MethodError: PEFT cannot represent it.
    """
    base = load_base(task, source)
    configured = methods.configure_method(run.method).with_tokenizer(base.tokenizer)
    to_peft = configured.method.to_peft
    assert to_peft is not None  # noqa: S101  (explain_forms was asked)
    injection = prepared.injection
    heads = [
        module
        for module in base.anatomy.head_modules
        if any(name.startswith(f"{module}.") for name in base.head_parameters)
    ]
    modules_to_save = [*heads, *injection.modules_to_save]
    common = {
        "modules_to_save": modules_to_save or None,
        "task_type": task.objective.peft_task_type,
    }
    adapter = to_peft(base.model, configured.options, injection, common)
    with torch.no_grad():
        full_weights = {name: injection.parameters[name] for name in injection.base_weights}
        for name, parameter in {**prepared.head, **full_weights}.items():
            module = next(m for m in modules_to_save if name.startswith(f"{m}."))
            saved = adapter.get_base_model().get_submodule(module).modules_to_save["default"]
            saved.get_parameter(name.removeprefix(f"{module}.")).copy_(parameter)
    adapter.save_pretrained(folder)
    if source.revision is not None and not source.name.startswith("package:"):
        _name_base(folder / "adapter_config.json", source)
    base.tokenizer.save_pretrained(folder)


def write_merged_model(run: Run, prepared: PreparedModel, folder: Path) -> None:
    """Write a plain ``transformers`` checkpoint; ``prepared`` is used up.

    Raises:
        MethodError: the method does not merge.
    """
    method = methods.configure_method(run.method).method
    loaded = prepared.loaded
    # A quantised base is written as it was trained on, rounded: with the checkpoint's own weights
    # the same adapter would give other logits.
    dequantise(loaded.model)
    if method.trains is Trains.ADAPTER:
        if method.merge is None:
            raise MethodError(
                f"{method.title} cannot become a part of the weights.",
                where=f"method {run.method.key}",
                remedy="Export it as paretune's own folder.",
            )
        method.merge(loaded.model, prepared.injection)
    to_conv1d_layers(loaded.model, loaded.transposed)
    first_token = loaded.direction.forced_bos_token_id
    if first_token is not None:  # otherwise it would translate into another language
        loaded.model.generation_config.forced_bos_token_id = first_token
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def open_export(form: str, task: TaskSignature, source: ModelSource, folder: Path) -> Any:
    """The model of an exported folder, opened as a user does."""
    if form == "paretune":
        return open_native_folder(folder, source).loaded.model
    if form == "peft":
        import peft

        with suppress_checkpointing_warning():
            return peft.PeftModel.from_pretrained(load_base(task, source).model, str(folder))
    import transformers

    topology = topology_of(load_config(source))
    auto_class = getattr(transformers, choose_auto_class(topology, task.objective.head).name)
    return auto_class.from_pretrained(folder, local_files_only=True)


def compute_logits(model: Any, batch: Batch) -> torch.Tensor:
    """Logits in fp32, without gradients; a decoder scores the choices of all examples as texts."""
    model.eval()
    choices = batch["input_ids"].shape[1] if batch["input_ids"].ndim == 3 else 0
    flat = bool(choices) and topology_of(model.config).pooled_token == -1
    if flat:
        batch = {name: values.flatten(0, 1) for name, values in batch.items()}
    with torch.inference_mode():
        logits: torch.Tensor = model(**batch).logits.float()
    return logits.view(-1, choices) if flat else logits


def _name_base(path: Path, source: ModelSource) -> None:
    """Name a base of the hub in PEFT's config only after writing, or PEFT asks the hub."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": source.name, "revision": source.revision}
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
