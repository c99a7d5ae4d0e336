"""A run's model as it was when it was scored: the base, the method, and the kept weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors.torch import load as tensors_of

from paretune import objectives
from paretune.errors import StoreError
from paretune.models.load import LoadedModel, load_model, rescale_regression_head
from paretune.models.sources.resolve import ModelSource
from paretune.objectives import Objective
from paretune.study import Run
from paretune.training.prepare import PreparedModel, prepare


@dataclass(frozen=True)
class TaskSignature:
    """What of a task a model has to know."""

    kind: str
    labels: tuple[str, ...]
    languages: tuple[str, ...] = ()

    @property
    def objective(self) -> Objective:
        """What the kind of the task means."""
        return objectives.get(self.kind)


def load_base(
    task: TaskSignature, source: ModelSource, source_prefix: str | None = None
) -> LoadedModel:
    """The base for a task."""
    head = objectives.get(task.kind).head_spec(task.labels, task.languages)
    return load_model(source, head, source_prefix=source_prefix)


def restore_run(
    run: Run,
    task: TaskSignature,
    source: ModelSource,
    weights: bytes,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> PreparedModel:
    """The model that answered, on the CPU and in evaluation mode.

    A regression's answers come in the label's unit.

    Args:
        run: what was trained.
        task: its kind and labels.
        source: the base's files.
        weights: safetensors of all that was trained.
        precision: in which it will be asked to compute; its weights are in fp32 either way.

    Raises:
        StoreError: the weights are not those of such a run.
    """
    loaded = load_base(task, source, run.model.source_prefix)
    plain = run.training.model_copy(
        update={"precision": precision, "activation_checkpointing": False}
    )
    prepared = prepare(run.model_copy(update={"training": plain}), loaded)
    kept: dict[str, Any] = tensors_of(weights)
    if set(kept) != set(prepared.trained):
        raise StoreError(
            "the kept weights do not fit the method as it is now.",
            where=f"run {run.method.key} seed {run.seed}",
            remedy="They were made by another version of paretune; train the run again.",
        )
    with torch.no_grad():
        for name, parameter in prepared.trained.items():
            parameter.copy_(kept[name])
    if target := _read_metadata(weights).get("target"):
        rescale_regression_head(loaded, target["mean"], target["deviation"])
    loaded.model.eval()
    return prepared


def _read_metadata(weights: bytes) -> dict[str, Any]:
    """What the run wrote into the header of its weights (safetensors: length, JSON, tensors)."""
    length = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + length]).get("__metadata__", {})
    told: dict[str, Any] = json.loads(header.get("paretune", "{}"))
    return told
