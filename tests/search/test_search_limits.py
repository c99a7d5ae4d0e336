"""Time and latency limits of a search, predicted from one given measurement of LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.planning.prepare import prepare_study
from paretune.search.expand import PlannedRun, expand_study
from paretune.store.record import Record
from paretune.study import Run, Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.training.caches import ProcessCache

AUTO = {
    "name": "auto", "members": ["lora", "pfeiffer"], "groups": 2, "budget": 3.0, "controls": False
}  # fmt: skip
STEP, LATENCY = 0.01, 0.004
"""Seconds of a step of LoRA in all layers, and of one example in inference."""


@pytest.fixture
def ask(tmp_path: Path, tiny_model: Any) -> Any:
    """``ask(limits)``: LoRA and a search on a tiny task and model."""
    task = tiny_task(tmp_path / "data").model_dump(exclude_none=True)

    def make(limits: dict[str, Any]) -> Study:
        raw = {
            "study": "tiny",
            "tasks": [task],
            "models": [{"name": str(tiny_model("bert")), "label": "tiny"}],
            "methods": ["lora", AUTO],
            "protocol": {"seeds": [1], "outer": "split", "folds": 1},
            "training": {"precision": "fp32"},
            "limits": limits,
        }
        return Study.parse(raw)

    return make


def of_search(planned: list[PlannedRun]) -> list[Run]:
    return [p.run for p in planned if p.run.stage == "tune" and p.run.method.name == "auto"]


def measure(study: Study, **measured: Any) -> tuple[list[Run], Any]:
    """The first trials after LoRA has been measured, and what predicts their costs."""
    prepared = prepare_study(study)
    first = expand_study(prepared, [])
    assert not of_search(first)  # the measurement comes first
    (reference,) = [p for p in first if p.run.stage == "cost" and p.run.method.name == "lora"]
    record = Record(
        reference.run_id, reference.run, "done", None, None, {"outcome": "ok"}, measured
    )
    trials = of_search(expand_study(prepared, [record]))
    return trials, (prepared.predictor, reference.run)


def work_of(predictor: Any, run: Run) -> float:
    work: float = predictor.predict_work(run.model_copy(update={"stage": "cost"})).operations
    return work


STEPS = {"step_seconds": {"median": STEP}}


def test_what_would_train_longer_than_max_time_is_never_a_trial(ask: Any) -> None:
    whole, (predictor, reference) = measure(ask({"max_time": 3600}), **STEPS)
    steps, unit = predictor.count_steps(whole[0]), work_of(predictor, reference)
    seconds = [steps * STEP * work_of(predictor, run) / unit for run in whole]
    limit = (min(seconds) + max(seconds)) / 2
    assert min(seconds) < limit < max(seconds)
    # Limits are whole seconds here, so the step is as long as makes this one an hour.
    longer = {"step_seconds": {"median": STEP * 3600 / limit}}
    within, (predictor, _) = measure(ask({"max_time": 3600}), **longer)
    assert within and {work_of(predictor, run) for run in within} < {
        work_of(predictor, run) for run in [*whole, *within]
    }
    assert all(steps * STEP * work_of(predictor, run) / unit <= limit for run in within)


def test_what_would_answer_slower_than_max_latency_is_never_a_trial(ask: Any) -> None:
    measured = {"inference": {"unmerged_seconds_per_example": LATENCY}}
    whole, (predictor, reference) = measure(ask({"max_latency": 1}), **measured)
    (backbone,) = {predictor.open_outline(run).shape.backbone_parameters for run in whole}
    head = predictor.open_outline(reference).head

    def latency(run: Run) -> float:
        own = backbone + predictor.count_trained(run) - head
        return LATENCY * own / (backbone + predictor.count_trained(reference) - head)

    limit = (min(map(latency, whole)) + max(map(latency, whole))) / 2
    within, _ = measure(ask({"max_latency": limit}), **measured)
    assert within and all(latency(run) <= limit for run in within)
    assert any(latency(run) > limit for run in whole)
    assert not measure(ask({"max_latency": 0.5 * LATENCY}), **measured)[0]


def test_a_cost_that_could_not_be_measured_exceeds_nothing(ask: Any) -> None:
    free = measure(ask({"max_time": 3600}), **STEPS)[0]
    unknown = measure(ask({"max_time": 1, "max_latency": 1e-6}))[0]
    assert [run.method.options for run in unknown] == [run.method.options for run in free]


def test_a_search_of_which_nothing_is_within_the_limits_ends(ask: Any) -> None:
    study, caches = ask({"max_latency": 1e-6}), ProcessCache()
    (reference,) = [
        p
        for p in expand_study(prepare_study(study, caches), [])
        if p.run.stage == "cost" and p.run.method.name == "lora"
    ]
    measured: Any = {"inference": {"unmerged_seconds_per_example": LATENCY}}
    record = Record(
        reference.run_id, reference.run, "done", None, None, {"outcome": "ok"}, measured
    )
    planned = expand_study(prepare_study(study, caches), [record])
    names = {p.run.method.name for p in planned if p.run.model.key != "-"}
    assert "auto" not in names and "lora" in names  # the study goes on without it
