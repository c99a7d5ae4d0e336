"""What a user asks for, checked for shape only: no data is read, no model is opened, no torch.

A :class:`Study` is a file. A :class:`Run` is one task x model x method x learning rate x seed: the
unit of work. Both are frozen. A run's :meth:`Run.canonical_form`, with the content of its data, the
weights of its model and the epoch of its method's code, is its identity (:func:`compute_run_id`).
Everything that the rest of the package needs is exported here.
"""

from paretune.study.protocol import (
    AUTO_OUTER_FOLDS,
    DEFAULT_COST_SECONDS,
    NUM_FOLDS,
    Axis,
    Checks,
    Generation,
    Limits,
    Protocol,
    Training,
)
from paretune.study.run import OuterFold, Run, Stage, compute_run_id, derive_seed, digest
from paretune.study.specs import NO_MODEL, UNNAMED_MODEL, MethodSpec, ModelSpec
from paretune.study.study import Study
from paretune.study.task_spec import TaskSpec

__all__ = [
    "AUTO_OUTER_FOLDS",
    "DEFAULT_COST_SECONDS",
    "NO_MODEL",
    "NUM_FOLDS",
    "UNNAMED_MODEL",
    "Axis",
    "Checks",
    "Generation",
    "Limits",
    "MethodSpec",
    "ModelSpec",
    "OuterFold",
    "Protocol",
    "Run",
    "Stage",
    "Study",
    "TaskSpec",
    "Training",
    "compute_run_id",
    "derive_seed",
    "digest",
]
