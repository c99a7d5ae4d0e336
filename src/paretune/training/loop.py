"""The training loop: forward, loss, backward, step.

Which examples a step sees depends on the run's seed alone. How they are split into passes does not
change the step: the loss is a sum over the examples, divided by the size of the effective batch (of
sequence-to-sequence, over target tokens). Order and dropout are seeded by run, purpose and step, so
a run needs no random state to resume, and gives the same bits whatever ran before. Several runs
share the passes through one backbone; each has its own loss, gradients and optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from paretune.study import derive_seed
from paretune.training.evaluation.predict import evaluate
from paretune.training.fleet import SharedModel
from paretune.training.forward.passes import Forward, MicroBatch, StepBatch
from paretune.training.interruption import defer_interrupts
from paretune.training.run_state import RunState


def train_step(runs: Sequence[RunState], batches: Sequence[StepBatch], model: SharedModel) -> None:
    """One optimizer step of every run that has a batch; interrupted, all are before or after it."""
    model.forward.model.train()
    losses = accumulate_gradients(batches, model.forward)
    model.distribute_gradients()
    with defer_interrupts():
        for run, batch, loss in zip(runs, batches, losses, strict=True):
            if batch.indices:
                run.step(loss)


def accumulate_gradients(batches: Sequence[StepBatch], forward: Forward) -> list[Tensor]:
    """Add the gradients of each run's batch to its parameters.

    Returns:
        What each pass adds to the mean loss of each run, in nats, (passes,); on the device, since
        to read it would wait for the pass.
    """
    mismatched = [batch.data.mismatched for batch in batches]
    if any(mismatched):  # the mean reward of these texts is a part of the loss
        read = [replace(batch, data=batch.data.mismatched or batch.data) for batch in batches]
        passes = forward.splitter.split_training(read)
        rewards = evaluate(forward, mismatched, batches[0].objective.collector, passes)
        scored = []
        for batch, of_run in zip(batches, rewards, strict=True):
            mean = float(of_run[[*batch.indices]].sum()) / max(1, len(batch.indices))
            options = replace(batch.loss_options, mismatched=mean)
            scored.append(replace(batch, loss_options=options))
        batches = scored
    losses: list[list[Tensor]] = [[] for _ in batches]
    forward.fleet.step_seed = derive_seed(batches[0].seed, "method", batches[0].step)
    for micro_batches in forward.splitter.split_training(batches):
        forward.fleet.seed_dropout(
            [
                derive_seed(batch.seed, "dropout", batch.step, micro.part)
                for batch, micro in zip(batches, micro_batches, strict=True)
            ]
        )
        with forward.fleet.dropout_context():  # also where the backward pass recomputes activations
            shares = compute_losses(batches, micro_batches, forward)
            torch.autograd.backward(torch.stack([*shares.values()]).sum())
        for run, loss in shares.items():
            losses[run].append(loss.detach())
    return [torch.stack(of_run) if of_run else torch.zeros(0) for of_run in losses]


def compute_losses(
    batches: Sequence[StepBatch], micro_batches: Sequence[MicroBatch], forward: Forward
) -> dict[int, Tensor]:
    """What one pass adds to the mean loss of each run that has examples in it, in nats."""
    with forward.compute.autocast():
        outputs = forward(micro_batches)
        losses = {
            run: batch.objective.loss(outputs[run], micro.data, micro.indices, batch.loss_options)
            for run, (batch, micro) in enumerate(zip(batches, micro_batches, strict=True))
            if micro.indices
        }
    return {run: loss / batches[run].weight for run, loss in losses.items()}
