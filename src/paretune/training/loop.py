"""The training loop: forward, loss, backward, step.

The examples of a step depend on the run's seed alone. Their split into passes does not change the
step: the loss is a sum over the examples, divided by the size of the effective batch (a
sequence-to-sequence model sums over target tokens). Order and dropout are seeded by run, purpose
and step, so a run needs no random state to resume, and gives the same bits whatever ran before.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from paretune.study import derive_seed
from paretune.training.evaluation.predict import evaluate
from paretune.training.forward.passes import Forward, MicroBatch, StepBatch
from paretune.training.interruption import defer_interrupts
from paretune.training.run_state import RunState


def train_step(state: RunState, batch: StepBatch, forward: Forward) -> None:
    """One optimizer step; interrupted, the run is before or after it."""
    forward.model.train()
    losses = accumulate_gradients(batch, forward)
    with defer_interrupts():
        state.step(losses)


def accumulate_gradients(batch: StepBatch, forward: Forward) -> Tensor:
    """Add the gradients of a batch to the parameters.

    Returns:
        The part of the mean loss that each pass adds, in nats, (passes,); on the device, since to
        read it would wait for the pass.
    """
    if batch.data.mismatched:  # the mean reward of these texts is a part of the loss
        passes = forward.splitter.split_training(replace(batch, data=batch.data.mismatched))
        rewards = evaluate(forward, batch.data.mismatched, batch.objective.collector, passes)
        mean = float(rewards[[*batch.indices]].sum()) / len(batch.indices)
        batch = replace(batch, loss_options=replace(batch.loss_options, mismatched=mean))
    losses = []
    forward.context.step_seed = derive_seed(batch.seed, "method", batch.step)
    for micro_batch in forward.splitter.split_training(batch):
        forward.context.seed_dropout(
            derive_seed(batch.seed, "dropout", batch.step, micro_batch.part)
        )
        # The backward pass is inside too: it may compute activations again.
        with forward.context.dropout_context():
            loss = compute_loss(batch, micro_batch, forward)
            torch.autograd.backward(loss)
        losses.append(loss.detach())
    return torch.stack(losses)


def compute_loss(batch: StepBatch, micro_batch: MicroBatch, forward: Forward) -> Tensor:
    """The part of the mean loss that one pass adds, in nats."""
    with forward.compute.autocast():
        outputs = forward(micro_batch)
        loss = batch.objective.loss(
            outputs, micro_batch.data, micro_batch.indices, batch.loss_options
        )
    return loss / batch.weight
