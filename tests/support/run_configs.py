"""Settings of a run for tests of single steps."""

from __future__ import annotations

from typing import Any

from paretune import objectives
from paretune.objectives import LossOptions
from paretune.study import Run
from paretune.training.runs.run_config import RunConfig


def make_config(run: Run, kind: str = "classification", **changes: Any) -> RunConfig:
    """The settings of ``run`` on a CPU, for a kind of task; no label smoothing, no target scale."""
    settings: dict[str, Any] = {
        "device": "cpu",
        "micro_batch": 8,
        "num_classes": 3,
        "objective": objectives.get(kind),
        "loss_options": LossOptions(),
        **changes,
    }
    return RunConfig(run=run, **settings)
