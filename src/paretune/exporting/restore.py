"""A run's model as it was when it was scored: base model, method and trained weights.

paretune's own form of an export is a folder with ``weights.safetensors`` and ``paretune.json`` (the
run, its task and its base model), which :func:`open_native_folder` opens on the base model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

from paretune import objectives
from paretune.data.example import Dataset
from paretune.data.prompt import Prompt
from paretune.errors import MethodError, StoreError
from paretune.files import expand_home
from paretune.models.load import LoadedModel, load_model, rescale_regression_head
from paretune.models.sources.local_paths import is_local_folder
from paretune.models.sources.resolve import ModelSource
from paretune.objectives import Objective
from paretune.objectives.readouts import for_readout
from paretune.study import Readout, Run, paths
from paretune.training.prepare import PreparedModel, prepare

FORMAT = 2
"""Version of ``paretune.json``."""
PATH_KEYS = {
    "task": (*paths.PATH_KEYS, "dataset"),
    "generation": ("bertscore_model",),
    "forgetting": ("text",),
}
"""Settings of a run that may be a path on the machine that trained it; loading needs none."""


@dataclass(frozen=True)
class TaskSignature:
    """What a model has to know of its task."""

    kind: str
    labels: tuple[str, ...]
    languages: tuple[str, ...] = ()
    readout: Readout = "head"

    @classmethod
    def of(cls, run: Run, dataset: Dataset) -> TaskSignature:
        """That of a run on its data."""
        return cls(dataset.kind, dataset.labels, dataset.languages, run.readout)

    @property
    def objective(self) -> Objective:
        """The objective of the task's kind, by its readout but without the task's prompt."""
        return for_readout(objectives.get(self.kind), self.readout, Prompt())


def load_base(
    task: TaskSignature, source: ModelSource, source_prefix: str | None = None
) -> LoadedModel:
    """The base model with a head for the task."""
    head = task.objective.head_spec(task.labels, task.languages)
    return load_model(source, head, source_prefix=source_prefix)


def restore_run(
    run: Run,
    task: TaskSignature,
    source: ModelSource,
    weights: bytes,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> PreparedModel:
    """The trained model, on the CPU and in evaluation mode.

    A regression's predictions are in the label's unit.

    Args:
        precision: in which it will compute; its weights are fp32 in either case.

    Raises:
        StoreError: the weights do not belong to such a run.
    """
    loaded = load_base(task, source, run.model.source_prefix)
    training = run.training.model_copy(
        update={"precision": precision, "activation_checkpointing": False}
    )
    prepared = prepare(run.model_copy(update={"training": training}), loaded)
    tensors: dict[str, Any] = load_tensors(weights)
    if set(tensors) != set(prepared.trained):
        raise StoreError(
            "the kept weights do not fit the method as it is now.",
            where=f"run {run.method.key} seed {run.seed}",
            remedy="They were made by another version of paretune; train the run again.",
        )
    with torch.no_grad():
        for name, parameter in prepared.trained.items():
            parameter.copy_(tensors[name])
    # The header of safetensors: its length, then JSON.
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    metadata = json.loads(header.get("__metadata__", {}).get("paretune", "{}"))
    if target := metadata.get("target"):
        rescale_regression_head(loaded, target["mean"], target["deviation"])
    loaded.model.eval()
    return prepared


def write_native_folder(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write the trained tensors of ``prepared`` and their description."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().contiguous() for name, p in prepared.trained.items()}
    save_file(tensors, folder / "weights.safetensors")
    local = is_local_folder(source)
    plain = run.model_dump(mode="json")
    if local:
        plain["model"]["name"] = run.model.key
    for section, keys in PATH_KEYS.items():
        values = plain.get(section) or {}
        for key in keys:
            value = values.get(key)
            if isinstance(value, str) and expand_home(value).is_absolute():
                values[key] = Path(value).name
    description = {
        "format": FORMAT,
        "run": plain,
        "task": {
            "kind": task.kind,
            "labels": list(task.labels),
            "languages": list(task.languages),
            **({} if task.readout == "head" else {"readout": task.readout}),
        },
        "base": {
            "name": run.model.key if local else source.name,
            "folder": local,
            "revision": source.revision,
            "weights_hash": source.weights_hash,
        },
    }
    (folder / "paretune.json").write_text(json.dumps(description, indent=2), encoding="utf-8")


def open_native_folder(folder: Path, source: ModelSource) -> PreparedModel:
    """The model that :func:`write_native_folder` wrote, on its base model.

    Raises:
        MethodError: it has an unknown format, or belongs to another base model.
    """
    description = read_native_folder(folder)
    base, task = description["base"], description["task"]
    if base["weights_hash"] != source.weights_hash:
        raise MethodError(
            f"was trained on other files of {base['name']} than those of {source.name}.",
            where=str(folder),
            remedy="Give the base that it was trained on.",
        )
    signature = TaskSignature(
        task["kind"],
        tuple(task["labels"]),
        tuple(task.get("languages", ())),
        task.get("readout", "head"),
    )
    weights = (folder / "weights.safetensors").read_bytes()
    return restore_run(Run.model_validate(description["run"]), signature, source, weights)


def read_native_folder(folder: Path) -> dict[str, Any]:
    """The content of ``paretune.json``.

    Raises:
        MethodError: there is none, or it has an unknown format.
    """
    try:
        text = (folder / "paretune.json").read_text(encoding="utf-8")
        description: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise MethodError(
            f"is no folder that paretune exported ({error}).", where=str(folder)
        ) from None
    if description.get("format") != FORMAT:
        raise MethodError(
            f"is of format {description.get('format')}; this version reads {FORMAT}.",
            where=str(folder),
            remedy="Update paretune.",
        )
    return description
