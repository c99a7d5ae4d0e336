"""Batches for tests of single steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from paretune import objectives
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded
from paretune.preparation import Parts
from paretune.store import Claim
from paretune.training import Outcome
from paretune.training.checkpoint import CheckpointFile
from paretune.training.forward.passes import StepBatch
from paretune.training.prepare import PreparedModel
from paretune.training.run_state import RunState


def make_batch(
    data: Encoded, indices: Sequence[int] = (), kind: str = "classification", **changes: Any
) -> StepBatch:
    """A batch of a kind of task, in micro-batches of 8; no label smoothing, no target scale."""
    settings: dict[str, Any] = {
        "objective": objectives.get(kind),
        "loss_options": LossOptions(),
        "micro_batch": 8,
        **changes,
    }
    return StepBatch(data=data, indices=indices, **settings)


def begin_run(
    claim: Claim,
    prepared: PreparedModel,
    batch: StepBatch,
    score_selection: Callable[[], dict[str, float]],
    checkpoint_seconds: float = 60.0,
) -> RunState:
    """A run of three classes whose selection scores are made up."""
    evaluator: Any = SimpleNamespace(score_selection=score_selection)
    checkpoint = CheckpointFile(claim.checkpoint, checkpoint_seconds)
    parts, encoded = Parts([], [], []), {"train": batch.data}
    return RunState(
        claim, prepared, batch, parts, encoded, evaluator, checkpoint, Outcome(), num_classes=3
    )
