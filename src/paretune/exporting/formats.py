"""The three forms of a trained model on disk, each written whole and opened again to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from paretune import methods
from paretune.errors import MethodError
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.exporting.restore import load_base as opened_base
from paretune.methods import Trains
from paretune.methods.core.peft_export import suppress_checkpointing_warning
from paretune.models.sources.local_paths import is_local_folder
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import AUTO_CLASSES
from paretune.study import Run
from paretune.training.prepare import PreparedModel

TOLERANCE = 1e-4
"""How far logits of the opened export may be from ours, in fp32."""
FORMAT = 2
"""2: a base that is a folder goes by its label; 1 had its path, and is still read."""
PATHS = {
    "task": ("source", "train", "test", "train_target", "test_target", "dataset"),
    "generation": ("bertscore_model",),
}
"""Settings of a run that may be a path of the machine it ran on; no export needs them."""

Batch = dict[str, torch.Tensor]


def explain_forms(
    run: Run, task: TaskSignature, source: ModelSource | None = None
) -> dict[str, str]:
    """Which forms a run can take: the name of each with "" or with why not.

    Args:
        run: what was trained.
        task: its kind and labels.
        source: the base's files; without them, what depends on the model is not asked.
    """
    configured = methods.configure_method(run.method)
    method, options = configured.method, configured.options
    reasons = {"peft": "", "merged": "", "paretune": ""}
    if method.trains is not Trains.ADAPTER:
        reasons["peft"] = f"{method.title} is no adapter: it leaves a whole model (merged)"
        return reasons
    if method.to_peft is None:
        reasons["peft"] = f"{method.title}: nothing of PEFT that runs here"
    else:
        reasons["peft"] = method.cannot_export_to_peft(options, task.objective, None)
        if source is not None and not reasons["peft"]:
            model = opened_base(task, source).model
            reasons["peft"] = method.cannot_export_to_peft(options, task.objective, model)
    if method.merge is None:
        reasons["merged"] = f"{method.title} cannot become a part of the weights"
    else:
        reasons["merged"] = method.cannot_merge(options)
    return reasons


def write_peft_adapter(
    run: Run, task: TaskSignature, source: ModelSource, ours: PreparedModel, folder: Path
) -> None:
    """An adapter in PEFT's format, head included.

    Raises:
        MethodError: PEFT cannot represent it; with the reason.
    """
    base = opened_base(task, source)
    configured = methods.configure_method(run.method).with_tokenizer(base.tokenizer)
    to_peft = configured.method.to_peft
    assert to_peft is not None  # noqa: S101  (explain_forms was asked)
    heads = [
        m
        for m in base.anatomy.head_modules
        if any(n.startswith(f"{m}.") for n in base.head_parameters)
    ]
    whole = [*heads, *ours.injection.modules_to_save]
    common = {"modules_to_save": whole or None, "task_type": task.objective.peft_task_type}
    theirs = to_peft(base.model, configured.options, ours.injection, common)
    with torch.no_grad():
        in_full = {name: ours.injection.parameters[name] for name in ours.injection.base_weights}
        for name, parameter in {**ours.head, **in_full}.items():
            module = next(m for m in whole if name.startswith(f"{m}."))
            saved = theirs.get_base_model().get_submodule(module).modules_to_save["default"]
            saved.get_parameter(name.removeprefix(f"{module}.")).copy_(parameter)
    theirs.save_pretrained(folder)
    if source.revision is not None and not source.name.startswith("package:"):
        _name_base(folder / "adapter_config.json", source)
    base.tokenizer.save_pretrained(folder)


def _name_base(path: Path, source: ModelSource) -> None:
    """Name a base of the hub in PEFT's config once it is written, or PEFT asks the hub."""
    told = json.loads(path.read_text(encoding="utf-8"))
    told |= {"base_model_name_or_path": source.name, "revision": source.revision}
    path.write_text(json.dumps(told, indent=2, sort_keys=True), encoding="utf-8")


def write_merged_model(run: Run, ours: PreparedModel, folder: Path) -> None:
    """A plain ``transformers`` checkpoint; ``ours`` is used up.

    Raises:
        MethodError: the method does not merge.
    """
    method = methods.configure_method(run.method).method
    if method.trains is Trains.ADAPTER:
        if method.merge is None:
            raise MethodError(
                f"{method.title} cannot become a part of the weights.",
                where=f"method {run.method.key}",
                remedy="Export it as paretune's own folder.",
            )
        method.merge(ours.loaded.model, ours.injection)
    first_token = ours.loaded.direction.forced_bos_token_id
    if first_token is not None:  # or it would translate into another language
        ours.loaded.model.generation_config.forced_bos_token_id = first_token
    ours.loaded.model.save_pretrained(folder)
    ours.loaded.tokenizer.save_pretrained(folder)


def write_native_folder(
    run: Run, task: TaskSignature, source: ModelSource, ours: PreparedModel, folder: Path
) -> None:
    """Our own folder: the trained tensors and what to put them into; see
    :func:`open_native_folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: p.detach().contiguous() for n, p in ours.trained.items()}
    save_file(tensors, folder / "weights.safetensors")
    local = is_local_folder(source)
    told = {
        "format": FORMAT,
        "run": _run_without_paths(run, source),
        "task": {
            "kind": task.kind,
            "labels": list(task.labels),
            "languages": list(task.languages),
        },
        "base": {
            "name": run.model.key if local else source.name,
            "folder": local,
            "revision": source.revision,
            "weights_hash": source.weights_hash,
        },
    }
    (folder / "paretune.json").write_text(json.dumps(told, indent=2), encoding="utf-8")


def _run_without_paths(run: Run, source: ModelSource) -> dict[str, Any]:
    """The run as plain values, files and folders of this machine by their last name only."""
    told = run.model_dump(mode="json")
    if is_local_folder(source):
        told["model"]["name"] = run.model.key
    for of, names in PATHS.items():
        part = told.get(of) or {}
        for name in names:
            if isinstance(part.get(name), str) and Path(part[name]).expanduser().is_absolute():
                part[name] = Path(part[name]).name
    return told


def open_native_folder(folder: Path, source: ModelSource) -> PreparedModel:
    """What :func:`write_native_folder` wrote, on its base.

    Raises:
        MethodError: another version's format, or another base.
    """
    told = read_native_folder(folder)
    if told["base"]["weights_hash"] != source.weights_hash:
        raise MethodError(
            f"was trained on other files of {told['base']['name']} than those of {source.name}.",
            where=str(folder),
            remedy="Give the base that it was trained on.",
        )
    about = told["task"]
    task = TaskSignature(about["kind"], tuple(about["labels"]), tuple(about.get("languages", ())))
    weights = (folder / "weights.safetensors").read_bytes()
    return restore_run(Run.model_validate(told["run"]), task, source, weights)


def read_native_folder(folder: Path) -> dict[str, Any]:
    """The description in one of our folders.

    Raises:
        MethodError: there is none, or it is of another format.
    """
    path = folder / "paretune.json"
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MethodError(
            f"is no folder that paretune exported ({error}).", where=str(folder)
        ) from None
    if told.get("format") not in (1, FORMAT):
        raise MethodError(
            f"is of format {told.get('format')}; this version reads 1 and {FORMAT}.",
            where=str(folder),
            remedy="Update paretune.",
        )
    return told


def compute_logits(model: Any, batch: Batch) -> torch.Tensor:
    """Logits in fp32, without gradients."""
    model.eval()
    with torch.inference_mode():
        found: torch.Tensor = model(**batch).logits.float()
    return found


def open_export(form: str, task: TaskSignature, source: ModelSource, folder: Path) -> Any:
    """The exported folder as a user opens it."""
    if form == "paretune":
        return open_native_folder(folder, source).loaded.model
    if form == "peft":
        import peft

        with suppress_checkpointing_warning():
            return peft.PeftModel.from_pretrained(opened_base(task, source).model, str(folder))
    import transformers

    return getattr(transformers, AUTO_CLASSES[task.objective.head].name).from_pretrained(
        folder, local_files_only=True
    )
