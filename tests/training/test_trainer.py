"""The trainer: one run is a session of one; what memory and other workers do to runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.joint_runs import Job

from paretune.errors import StaleClaimError
from paretune.study import Run
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training import FleetOutOfMemoryError, Outcome, loop
from paretune.training.caches import ProcessCache
from paretune.training.forward import select
from paretune.training.trainer import train_fleet, train_run

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def make_runs(tmp_path: Path, tiny_model: Any, count: int) -> list[Run]:
    task, model = tiny_task(tmp_path / "data"), tiny_model("bert")
    return [tiny_run(task, model, "lora", seed=seed + 1) for seed in range(count)]


def test_a_run_alone_that_another_worker_has_is_stopped(tmp_path: Path, tiny_model: Any) -> None:
    """It leaves no outcome and no checkpoint, and the model is dropped with the method in it."""
    (run,) = make_runs(tmp_path, tiny_model, 1)
    caches = ProcessCache()

    def report(progress: dict[str, Any]) -> None:
        if progress["step"] == 2:
            raise StaleClaimError("taken")

    with pytest.raises(StaleClaimError, match="taken"):
        train_run(run, checkpoint=tmp_path / "state", report=report, caches=caches)
    assert caches.loaded == {} and not (tmp_path / "state").exists()


def test_a_fleet_that_does_not_fit_says_so(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches, finished = ProcessCache(), list[Outcome]()

    def out_of_memory(*_: Any) -> Any:
        raise OUT_OF_MEMORY

    monkeypatch.setattr(loop, "compute_losses", out_of_memory)
    runs = make_runs(tmp_path, tiny_model, 2)
    jobs = [Job(run, tmp_path / f"state{run.seed}") for run in runs]
    with pytest.raises(FleetOutOfMemoryError):
        train_fleet(jobs, lambda free: [], lambda job, o: finished.append(o), caches=caches)
    assert finished == [] and caches.loaded == {}


def test_runs_that_cannot_share_batches_are_refused(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "can_share", lambda model: False)
    runs = make_runs(tmp_path, tiny_model, 2)
    jobs = [Job(run, tmp_path / f"state{run.seed}") for run in runs]
    caches = ProcessCache()
    with pytest.raises(ValueError, match="cannot share batches"):
        train_fleet(jobs, lambda free: [], lambda job, outcome: None, caches=caches)
    assert caches.loaded == {}
