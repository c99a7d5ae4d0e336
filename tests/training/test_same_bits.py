"""The same run gives the same bits: whatever ran before, and however often it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from paretune.preparation import ProcessCache
from paretune.study import Run
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training import Outcome
from paretune.training.trainer import train_run

METHODS = ("lora", "full", "setfit", "loha", "prompt", "head_only")


def left(outcome: Outcome) -> tuple[dict[str, Any], dict[str, bytes]]:
    return outcome.result, outcome.blobs


def run_of(method: str, tmp_path: Path, tiny_model: Any, **changes: Any) -> Run:
    settings = {"max_steps": 8, "eval_every": 3, "dropout": 0.1}
    training = settings | changes.pop("training", {})
    task = tiny_task(tmp_path / "data")
    return tiny_run(task, tiny_model("bert"), method, training=training, **changes)


@pytest.mark.parametrize("method", METHODS)
def test_whatever_ran_before(method: str, tmp_path: Path, tiny_model: Any) -> None:
    """Alone in a fresh workbench, and in one that has just trained other methods and seeds."""
    run = run_of(method, tmp_path, tiny_model)
    alone = train_run(run, checkpoint=tmp_path / "a", report=silent)
    assert alone.result["steps"] == 8 and alone.blobs["weights"]
    shared = ProcessCache()
    first = train_run(run, checkpoint=tmp_path / "b", report=silent, caches=shared)
    for other in METHODS:
        torch.rand(5)  # somebody draws from the global generator
        noise = run_of(other, tmp_path, tiny_model, seed=7, training={"dropout": 0.3})
        train_run(noise, checkpoint=tmp_path / "c", report=silent, caches=shared)
    again = train_run(run, checkpoint=tmp_path / "d", report=silent, caches=shared)
    assert left(first) == left(alone)
    assert left(again) == left(alone)


def test_a_run_that_was_interrupted_leaves_no_trace_in_the_workbench(
    tmp_path: Path, tiny_model: Any
) -> None:
    def kill(progress: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    run = run_of("lora", tmp_path, tiny_model)
    alone = train_run(run, checkpoint=tmp_path / "a", report=silent)
    shared = ProcessCache()
    for method in ("lora", "prompt", "full"):
        with pytest.raises(KeyboardInterrupt):
            broken = run_of(method, tmp_path, tiny_model)
            train_run(broken, checkpoint=tmp_path / method, report=kill, caches=shared)
    again = train_run(run, checkpoint=tmp_path / "c", report=silent, caches=shared)
    assert left(again) == left(alone)


def test_two_tasks_with_the_same_uids_keep_their_own_texts(tmp_path: Path, tiny_model: Any) -> None:
    """CB in Slovene and in English have the same labels and uids: the texts must not be mixed."""
    tasks = [tiny_task(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    runs = [
        tiny_run(task.model_copy(update={"name": f"t{i}"}), tiny_model("bert"))
        for i, task in enumerate(tasks)
    ]
    alone = [train_run(r, checkpoint=tmp_path / "a", report=silent) for r in runs]
    bench = ProcessCache()
    uids = [[e.uid for e in bench.dataset(run.task).train] for run in runs]
    assert uids[0] == uids[1] and bench.dataset(runs[0].task) != bench.dataset(runs[1].task)
    shared = [train_run(r, checkpoint=tmp_path / "b", report=silent, caches=bench) for r in runs]
    assert [left(o) for o in shared] == [left(o) for o in alone]
    assert alone[0].blobs["predictions"] != alone[1].blobs["predictions"]
