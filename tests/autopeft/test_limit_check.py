"""Limits of a search: what a combination would cost, in proportion to one measurement of LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.planning.predicted_cost import CostPredictor
from paretune.preparation import ProcessCache
from paretune.store.record import Record
from paretune.study import Limits, Run
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune_autopeft.limit_check import LimitCheck

STEP, LATENCY, PEAK = 100.0, 0.004, 10**8
"""Seconds of a step of LoRA in all layers and of one example in inference, and its peak bytes."""
MEASURED: Any = {
    "step_seconds": {"median": STEP},
    "inference": {"unmerged_seconds_per_example": LATENCY},
    "phases": {"train": {"peak_bytes": PEAK}},
}


@pytest.fixture
def runs(tmp_path: Path, tiny_model: Any) -> tuple[Run, Run]:
    """The measurement of LoRA, and a run of another method."""
    task, model = tiny_task(tmp_path), tiny_model("bert")
    return tiny_run(task, model, "lora", stage="cost"), tiny_run(task, model, "pfeiffer")


def check(reference: Run, measured: Any, **limits: float) -> LimitCheck:
    record = Record("lora", reference, "done", None, None, {"outcome": "ok"}, measured)
    return LimitCheck(CostPredictor(ProcessCache()), Limits(**limits), record)


def test_each_cost_is_in_proportion_to_what_was_measured(runs: tuple[Run, Run]) -> None:
    reference, run = runs
    predictor = CostPredictor(ProcessCache())
    work = predictor.predict_work(run.model_copy(update={"stage": "cost"}))
    unit = predictor.predict_work(reference)
    more_bytes = work.held_bytes + work.saved_bytes - unit.held_bytes - unit.saved_bytes
    passed = [
        shape.backbone_parameters + predictor.count_trained(one) - shape.head_parameters
        for one in runs
        for _, shape in [predictor.open_outline(one)]
    ]
    expected = {
        "max_time": predictor.count_steps(run) * STEP * work.operations / unit.operations,
        "max_latency": LATENCY * passed[1] / passed[0],
        "max_memory": PEAK + more_bytes,
        "max_parameters": predictor.count_trained(run),
        "max_bytes": 4 * predictor.count_trained(run),
    }
    for key, cost in expected.items():
        rounded = (lambda value: value) if key == "max_latency" else round
        assert check(reference, MEASURED, **{key: rounded(0.99 * cost)}).exceeds(run), key
        assert not check(reference, MEASURED, **{key: rounded(1.01 * cost)}).exceeds(run), key


def test_a_cost_that_could_not_be_measured_exceeds_nothing(runs: tuple[Run, Run]) -> None:
    reference, run = runs
    unknown = check(reference, {}, max_time=1, max_latency=1e-6, max_memory=PEAK)
    assert not unknown.exceeds(run)
