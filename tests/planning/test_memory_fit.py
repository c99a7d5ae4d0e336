"""A study that no split of a batch makes fit is refused with numbers, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.predicted_cost import CostPredictor
from paretune.preparation import ProcessCache
from paretune.study import Run
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.verbs.workers import explain_too_large


@pytest.fixture
def runs(tmp_path: Path, tiny_model: Any) -> tuple[Run, Run]:
    task, model = tiny_task(tmp_path / "data"), tiny_model("llama")
    return tiny_run(task, model, "full"), tiny_run(task, model, "lora")


def predictor(device: str = "cpu") -> CostPredictor:
    return CostPredictor(ProcessCache(), device=device)


def test_what_stays_is_weights_and_four_copies_of_what_is_trained(runs: tuple[Run, Run]) -> None:
    full, lora = (predictor().predict_work(run).held_bytes for run in runs)
    weights, adapter = (4 * predictor().count_trained(run) for run in runs)
    updated = 4 * predictor().describe_trained(runs[0]).updated
    table = 4 * predictor().open_outline(runs[0])[0].model.get_input_embeddings().weight.numel()
    copied = table - (weights - updated)  # the rows of words that occur, beside the whole table
    assert 0 < copied < table / 2
    assert full == weights + copied + 4 * updated
    assert lora == weights + 4 * adapter and adapter < weights / 4
    assert predictor("mps").predict_work(runs[0]).held_bytes == weights + copied + 3 * updated


def test_only_what_cannot_fit_is_named(
    runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = 4 * predictor().count_trained(runs[0])
    monkeypatch.setattr("paretune.verbs.workers.read_total_bytes", lambda: 3 * weights)
    (sentence,) = explain_too_large([*runs, runs[0]], predictor(), [WorkerSettings("cpu")])
    assert sentence.startswith("full fine-tuning on tiny needs ") and "gradients" in sentence
    assert "before any activation, and cpu has" in sentence
    monkeypatch.setattr("paretune.verbs.workers.read_total_bytes", lambda: 6 * weights)
    assert not explain_too_large(runs, predictor(), [WorkerSettings("cpu")])


def test_a_quantised_base_is_counted_as_it_is_stored(runs: tuple[Run, Run]) -> None:
    _, lora = runs
    model = lora.model.model_copy(update={"quantisation": "int8"})
    plain, packed = (
        predictor().predict_work(run).held_bytes
        for run in (lora, lora.model_copy(update={"model": model}))
    )
    assert packed < plain
