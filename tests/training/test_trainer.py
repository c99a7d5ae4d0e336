"""The trainer: what other workers do to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.errors import StaleClaimError
from paretune.preparation import ProcessCache
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.trainer import train_run


def test_a_run_that_another_worker_has_is_stopped(tmp_path: Path, tiny_model: Any) -> None:
    """It leaves no outcome and no checkpoint, and the model is dropped with the method in it."""
    run = tiny_run(tiny_task(tmp_path / "data"), tiny_model("bert"), "lora")
    caches = ProcessCache()

    def report(progress: dict[str, Any]) -> None:
        if progress["step"] == 2:
            raise StaleClaimError("taken")

    with pytest.raises(StaleClaimError, match="taken"):
        train_run(run, checkpoint=tmp_path / "state", report=report, caches=caches)
    assert caches.loaded == {} and not (tmp_path / "state").exists()
