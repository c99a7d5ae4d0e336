"""A Ray task whose runs mean nothing (:mod:`support.fake_worker`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from paretune.execution import ray
from paretune.study import Run
from support.fake_worker import FakeExecutor


def train_fakes(runs: Mapping[str, Run], *inputs: Any) -> ray.TaskResult:
    """As the task itself."""
    run_ids = {run.model_dump_json(): run_id for run_id, run in runs.items()}
    executor: Any = FakeExecutor()
    executor.caches = SimpleNamespace(
        datasets={}, identify=lambda run: run_ids[run.model_dump_json()]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "_cached_executor", lambda settings: executor)
        return ray.train_runs(runs, *inputs)
