"""Several runs on one backbone, each with a batch of its own, as a side of a benchmark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sides import RATE
from workload import Work

from paretune import objectives
from paretune.training.fleet import RunParameters, SharedModel
from paretune.training.forward.passes import StepBatch
from paretune.training.loop import accumulate_gradients
from paretune.training.prepare import allows_bf16_weights
from paretune.training.run_state import RunOptimizer


class FleetSide:
    """Runs of one method that share their passes."""

    def __init__(self, work: Work, method: str, runs: int, precision: str, device: str) -> None:
        seeds = range(1, runs + 1)
        run_specs = [
            work.run(method, dropout=0.1, precision=precision, rate=RATE, seed=s) for s in seeds
        ]
        objective = objectives.get(work.shape.kind)
        loaded = work.fresh(bf16=allows_bf16_weights(run_specs[0]))
        self.model = SharedModel(run_specs[0], loaded, device, objective)
        self.runs = [RunParameters(run) for run in run_specs]
        if not self.model.place(self.runs):
            raise SystemExit(f"{method} cannot share batches")
        self.batches = [
            StepBatch(
                data=work.encoded,
                seed=parameters.run.seed,
                objective=objective,
                loss_options=objective.loss_options(()),
                micro_batch=parameters.run.training.batch_size,
                pass_overhead_tokens=self.model.pass_overhead_tokens(parameters),
            )
            for parameters in self.runs
        ]
        num_classes = self.model.prepared.num_classes(objective, work.shape.labels)
        self.optimizers = [
            RunOptimizer(
                parameters.trained,
                parameters.run.training,
                num_classes,
                parameters.learning_rate_factors,
            )
            for parameters in self.runs
        ]
        loaded.model.train()

    def step(self, batches: list[list[int]], number: int) -> Any:
        """One step of every run, each on another batch; the losses."""
        own = [batches[(number + r) % len(batches)] for r in range(len(self.runs))]
        steps = [
            replace(batch, indices=indices, step=number)
            for batch, indices in zip(self.batches, own, strict=True)
        ]
        losses = accumulate_gradients(steps, self.model.forward)
        self.model.distribute_gradients()
        return [
            optimizer.step(number, RATE, loss)
            for optimizer, loss in zip(self.optimizers, losses, strict=True)
        ]
