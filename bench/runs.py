"""A run of a study, trained as a worker does it and without anything beside its steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from paretune.models.load import LoadedModel
from paretune.objectives.encoding import Encoded
from paretune.store import Claim
from paretune.study import Run
from paretune.tasks import objective_of
from paretune.training import Outcome
from paretune.training.caches import Parts
from paretune.training.checkpoint import CheckpointFile
from paretune.training.fleet import RunParameters, SharedModel
from paretune.training.forward.passes import StepBatch
from paretune.training.loop import train_step
from paretune.training.run_state import RunState


def open_run(
    run: Run, loaded: LoadedModel, data: Encoded, num_labels: int, checkpoint: Path
) -> tuple[RunState, SharedModel]:
    """The run on its model, before its first step; nothing is scored."""
    objective = objective_of(run.task)
    model = SharedModel(run, loaded, "cpu", objective, alone=True)
    parameters = RunParameters(run)
    model.place([parameters])
    batch = StepBatch(
        data=data,
        seed=run.seed,
        objective=objective,
        loss_options=objective.loss_options(()),
        micro_batch=run.training.micro_batch or run.training.batch_size,
        pass_overhead_tokens=model.pass_overhead_tokens(parameters),
    )
    evaluator: Any = SimpleNamespace(score_selection=lambda: {"primary": 0.0, "loss": 0.0})
    state = RunState(
        Claim(run, checkpoint),
        parameters,
        batch,
        Parts([], [], []),
        {"train": data},
        evaluator,
        CheckpointFile(checkpoint),
        Outcome(),
        model.prepared.num_classes(objective, num_labels),
    )
    return state, model


def train_to_end(state: RunState, model: SharedModel) -> None:
    """All steps of the run."""
    while not state.finished:
        train_step([state], [state.next_batch()], model)
        if state.needs_evaluation:
            state.evaluate()
        state.save_if_due()
