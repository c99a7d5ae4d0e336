"""Between its batch and its optimizer step, a training step waits for no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from paretune.objectives import LossOptions
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.forward.passes import Compute, StepBatch
from paretune.training.forward.select import make_forward
from paretune.training.loop import accumulate_gradients
from paretune.training.prepare import prepare

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_no_hidden_syncs(family: str, device: str, tmp_path: Path, tiny_model: Any) -> None:
    run = tiny_run(tiny_task(tmp_path / "data"), tiny_model(family))
    caches = ProcessCache()
    parts = caches.parts(run)
    objective = caches.objective(run)
    loaded = caches.run_model(run, bf16=False)
    prepared = prepare(run, loaded, device)
    forward = make_forward(prepared, Compute.of(run, device), "fast")
    data = caches.encode(
        parts.train, loaded, caches.source(run.model), prepared.max_length, objective.encode
    )
    batch = StepBatch(
        data=data,
        indices=list(range(8)),
        seed=run.seed,
        objective=objective,
        loss_options=LossOptions(),
        micro_batch=8,
        pass_overhead_tokens=prepared.pass_tokens,
    )
    loaded.model.train()
    accumulate_gradients(batch, forward)  # what is made once is made
    if device == "cpu":
        assert all(p.grad is not None for p in prepared.trained.values())
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        accumulate_gradients(batch, forward)
    finally:
        torch.cuda.set_sync_debug_mode("default")
