"""A study that no split of a batch makes fit is refused with numbers, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.predicted_cost import CostPredictor
from paretune.study import Run
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.verbs.workers import explain_too_large


@pytest.fixture
def runs(tmp_path: Path, tiny_model: Any) -> tuple[Run, Run]:
    task, model = tiny_task(tmp_path / "data"), tiny_model("llama")
    return tiny_run(task, model, "full"), tiny_run(task, model, "lora")


def predictor(device: str = "cpu") -> CostPredictor:
    return CostPredictor(ProcessCache(), device=device)


def test_what_stays_is_weights_and_four_copies_of_what_is_trained(runs: tuple[Run, Run]) -> None:
    full, lora = (predictor().predict_resident(run) for run in runs)
    assert full.weights_bytes == lora.weights_bytes == full.trained_bytes == full.copy_bytes
    assert full.total_bytes == 5 * full.weights_bytes
    assert lora.total_bytes == lora.weights_bytes + 4 * lora.trained_bytes
    assert lora.trained_bytes < full.trained_bytes / 4
    on_gpu = predictor("mps").predict_resident(runs[0])
    assert on_gpu.copy_bytes == 0 and on_gpu.total_bytes == 4 * full.weights_bytes


def test_only_what_cannot_fit_is_named(
    runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = predictor().predict_resident(runs[0]).weights_bytes
    monkeypatch.setattr("paretune.measuring.processor.read_total_bytes", lambda: 3 * weights)
    (sentence,) = explain_too_large([*runs, runs[0]], predictor(), [WorkerSettings("cpu")])
    assert sentence.startswith("full fine-tuning on tiny needs ") and "gradients" in sentence
    assert "before any activation, and cpu has" in sentence
    monkeypatch.setattr("paretune.measuring.processor.read_total_bytes", lambda: 6 * weights)
    assert not explain_too_large(runs, predictor(), [WorkerSettings("cpu")])


def test_a_quantised_base_is_counted_as_it_is_stored(runs: tuple[Run, Run]) -> None:
    _, lora = runs
    model = lora.model.model_copy(update={"quantisation": "int8"})
    plain, packed = (
        predictor().predict_resident(run).weights_bytes
        for run in (lora, lora.model_copy(update={"model": model}))
    )
    assert packed < plain
