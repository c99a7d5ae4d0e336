"""A run's model as it was when it was scored: base model, method and trained weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors.torch import load as load_tensors

from paretune import objectives
from paretune.data.example import Dataset
from paretune.data.prompt import Prompt
from paretune.errors import StoreError
from paretune.models.load import LoadedModel, load_model, rescale_regression_head
from paretune.models.sources.resolve import ModelSource
from paretune.objectives import Objective
from paretune.objectives.readouts import for_readout
from paretune.study import Readout, Run
from paretune.training.prepare import PreparedModel, prepare


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
    if target := _read_metadata(weights).get("target"):
        rescale_regression_head(loaded, target["mean"], target["deviation"])
    loaded.model.eval()
    return prepared


def _read_metadata(weights: bytes) -> dict[str, Any]:
    """What training wrote into the header of the weights (safetensors: length, JSON, tensors)."""
    length = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + length]).get("__metadata__", {})
    metadata: dict[str, Any] = json.loads(header.get("paretune", "{}"))
    return metadata
