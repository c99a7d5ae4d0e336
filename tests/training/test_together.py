"""Runs of a fleet get what each gets alone: steps, early stops, answers, weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as safetensors
from tiny_tasks import silent, small, tiny_run, tiny_task

from paretune import methods
from paretune.methods import options as method_options
from paretune.study import Run
from paretune.training.capacity import kind_of, seats
from paretune.training.ending import Outcome
from paretune.training.execute import execute_run
from paretune.training.together import STACK_ROWS, Together
from paretune.training.workbench import Workbench


@dataclass
class Job:
    run: Run
    checkpoint: Path
    told: list[dict[str, Any]] = field(default_factory=list)

    def report(self, progress: dict[str, Any]) -> None:
        self.told.append(progress)


def together(
    runs: Sequence[Run], folder: Path, *, places: int | None = None, bench: Workbench | None = None
) -> dict[tuple[int, float | None, int], Outcome]:
    """By seed, rate and fold, what each run leaves."""
    jobs = [Job(run, folder / f"joint{n}") for n, run in enumerate(runs)]
    left: dict[tuple[int, float | None, int], Outcome] = {}
    waiting = jobs[places:] if places else []

    def more(free: int) -> list[Job]:
        taken, waiting[:] = waiting[:free], waiting[free:]
        return taken

    def finish(job: Any, outcome: Outcome) -> None:
        left[job.run.seed, job.run.learning_rate, job.run.fold] = outcome

    Together(bench or Workbench(), "cpu", finish).train(jobs[:places], more)
    return left


def equal(joint: Outcome, alone: Outcome, within: float = 2e-4) -> None:
    """The same course and the same answers; numbers to rounding that training carries on."""
    for name in ("steps", "best_step", "outcome", "trained_parameters", "method_parameters"):
        assert joint.result[name] == alone.result[name], name
    assert [p["step"] for p in joint.result["curve"]] == [p["step"] for p in alone.result["curve"]]
    for one, other in zip(joint.result["curve"], alone.result["curve"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    if alone.result["outcome"] == "diverged":
        return
    ours, theirs = (json.loads(one.blobs["predictions"]) for one in (joint, alone))
    assert set(ours) == set(theirs)
    for part in theirs:
        assert ours[part]["uid"] == theirs[part]["uid"]
        np.testing.assert_allclose(ours[part]["scores"], theirs[part]["scores"], atol=within)
    mine, other = (safetensors(one.blobs["weights"]) for one in (joint, alone))
    assert set(mine) == set(other)
    for name, tensor in other.items():
        if name.endswith(".key.bitfit.bias"):
            continue  # softmax does not see it: its gradient is rounding, which AdamW makes steps of
        assert mine[name].shape == tensor.shape
        torch.testing.assert_close(mine[name], tensor, rtol=0, atol=within, msg=name)


JOINING = [
    name
    for name, method in methods.available().items()
    if methods.trains_a_model(method)
    and methods.has_rates(method)
    and "classification" in method.KINDS
    and name != "unipelt"  # is not packed
    and not methods.trains_alone(method, method_options.parse(name, method.Options, small(name)))
]
PLACES = [
    *(("bert", name, "pair") for name in JOINING),
    *(("roberta", name, "multiple_choice") for name in ("lora", "prompt", "prefix")),
    ("electra", "lora", "classification"),
    ("distilbert", "loha", "pair"),
    ("modernbert", "prefix", "pair"),
    ("xlm-roberta", "houlsby", "regression"),
]


@pytest.mark.parametrize("stack_rows", [100, 1000])
@pytest.mark.parametrize(("family", "method", "kind"), PLACES)
def test_each_run_of_a_fleet_as_alone(
    family: str,
    method: str,
    kind: str,
    stack_rows: int,
    tmp_path: Path,
    tiny_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two seeds and two rates with dropout, in one fleet: 20 steps, losses within 1e-5.

    In stacks of all three, and of two where the third has no rows.
    """
    monkeypatch.setitem(STACK_ROWS, "cpu", stack_rows)
    training = {"max_steps": 20, "eval_every": 5, "dropout": 0.1, "batch_size": 4}
    task, model = tiny_task(tmp_path, kind), tiny_model(family)
    runs = [
        tiny_run(task, model, method, training=training, seed=seed, learning_rate=rate)
        for seed, rate in ((1, 1e-3), (2, 1e-3), (1, 3e-3))
    ]
    bench = Workbench()
    assert seats(runs[0], bench, "cpu", 3, 1 << 30) == 3
    assert len({kind_of(run) for run in runs}) == 1
    joint = together(runs, tmp_path, bench=bench)
    scores = []
    for n, run in enumerate(runs):
        alone = execute_run(run, checkpoint=tmp_path / f"alone{n}", report=silent, bench=bench)
        equal(joint[run.seed, run.learning_rate, run.fold], alone)
        scores.append(json.loads(alone.blobs["predictions"])["test"]["scores"])
    assert not np.allclose(scores[0], scores[1], atol=1e-3)  # they are three different runs
    assert not np.allclose(scores[0], scores[2], atol=1e-3)
