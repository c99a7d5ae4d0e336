"""Runs trained together and alone, and whether both come to the same."""

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

from paretune.study import Run
from paretune.testing.tiny_tasks import silent
from paretune.training import Outcome
from paretune.training.caches import ProcessCache
from paretune.training.trainer import train_fleet, train_run
from support.tiny_study import stack_scores


@dataclass
class Job:
    run: Run
    checkpoint: Path
    reports: list[dict[str, Any]] = field(default_factory=list)
    halvings: int = 0

    def report(self, progress: dict[str, Any]) -> None:
        self.reports.append(progress)


def together(
    runs: Sequence[Run],
    folder: Path,
    *,
    places: int | None = None,
    bench: ProcessCache | None = None,
) -> dict[tuple[int, float | None, int], Outcome]:
    """By seed, rate and fold, what each run leaves."""
    jobs = [Job(run, folder / f"joint{n}") for n, run in enumerate(runs)]
    left: dict[tuple[int, float | None, int], Outcome] = {}
    waiting = jobs[places:] if places else []

    def more(free: int) -> list[Job]:
        next_jobs, waiting[:] = waiting[:free], waiting[free:]
        return next_jobs

    def finish(job: Any, outcome: Outcome) -> None:
        left[job.run.seed, job.run.learning_rate, job.run.fold] = outcome

    train_fleet(jobs[:places], more, finish, caches=bench)
    return left


def alone(run: Run, folder: Path, bench: ProcessCache | None = None) -> Outcome:
    return train_run(run, checkpoint=folder / "alone", report=silent, caches=bench)


def assert_as_alone(runs: Sequence[Run], folder: Path, bench: ProcessCache | None = None) -> None:
    """Trained together, each run comes to what it comes to alone."""
    left = together(runs, folder, bench=bench)
    for run in runs:
        equal(left[run.seed, run.learning_rate, run.fold], alone(run, folder, bench))


def equal(
    joint: Outcome, alone: Outcome, within: float = 2e-4, *, of_choices: bool = False
) -> None:
    """The same course and the same answers; numbers to rounding that training carries on.

    Some tensors have a gradient of 0, of which AdamW makes whole steps of rounding: biases of keys,
    which softmax does not see, and of the one score ``of_choices``, which are compared.
    """
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
        both = [stack_scores(one[part]["scores"]) for one in (ours, theirs)]
        if of_choices:
            both = [scores - scores.mean(1, keepdims=True) for scores in both]
        np.testing.assert_allclose(*both, rtol=0, atol=within)
    assert set(joint.blobs) == set(alone.blobs)
    if "weights" not in alone.blobs:  # rates on trial keep none
        return
    mine, other = (safetensors(one.blobs["weights"]) for one in (joint, alone))
    assert set(mine) == set(other)
    for name, tensor in other.items():
        assert mine[name].shape == tensor.shape
        unseen = of_choices and name.endswith("bias") and tensor.numel() == 1
        if not (unseen or name.endswith((".key.bitfit.bias", ".k_proj.bitfit.bias"))):
            torch.testing.assert_close(mine[name], tensor, rtol=0, atol=within, msg=name)
