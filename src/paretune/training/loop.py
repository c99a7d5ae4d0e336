"""The training loop: AdamW over exact effective batches, in tight micro-batches.

Which examples a step sees depends on the run's seed alone; how they are padded and split into
micro-batches does not change the step (the loss is a sum over examples divided by the effective
batch; of translations, over tokens divided by its target tokens). Order and dropout are drawn from
generators seeded by run, purpose and step, so a run needs no random state to resume, and gives the
same bits whatever ran before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import nn

from paretune.methods.core.run_axis import Fleet
from paretune.objectives.encoding import Encoded
from paretune.study import derive_seed
from paretune.training.forward.packed import training_passes
from paretune.training.interruption import defer_interrupts
from paretune.training.objective import weight
from paretune.training.run_config import RunConfig
from paretune.training.run_state import Report, RunState, TrainingResult, apply_gradients


def train(
    model: nn.Module,
    trained: Mapping[str, nn.Parameter],
    data: Encoded,
    select: Callable[[], dict[str, float]],
    plan: RunConfig,
    fleet: Fleet,
    report: Report,
    head: Collection[str] = (),
) -> TrainingResult:
    """Train until the last step, early stopping, or divergence; restore the best weights.

    Args:
        model: in training mode or not; left in evaluation mode.
        trained: the tensors that are trained, all others frozen; none: nothing is done.
        data: encoded training examples, all labelled.
        select: scores of the present weights on the selection part, with ``primary`` and ``loss``.
        plan: the settings of this run.
        fleet: of one run.
        report: told the step, the steps in all and the loss after every step.
        head: names of the trained tensors that start from nothing (training.between).
    """
    course = RunState(trained, data, select, plan, report, head)
    model.train()
    try:
        while course.due or not course.over:
            with course.catch_divergence():
                if not course.due:  # as it is where a run was interrupted in an evaluation
                    _step(model, course, fleet)
                if course.due:
                    course.judge()
                    model.train()
            course.keep()
        found = course.conclude()
    except KeyboardInterrupt:
        course.save()
        raise
    model.eval()
    return found


def _step(model: nn.Module, course: RunState, fleet: Fleet) -> None:
    """One step of a run: interrupted, it is as before or as after it."""
    step, plan = course.progress.step, course.plan
    loss = gradients(model, course.data, course.batch(), step, plan, fleet)
    with defer_interrupts():
        apply_gradients(course.trained, course.optimizer, step, course.rate, loss, plan)
        course.took(loss)


def train_step(
    model: nn.Module,
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    data: Encoded,
    batch: list[int],
    step: int,
    rate: float,
    plan: RunConfig,
    fleet: Fleet,
) -> float:
    """One optimiser step on one effective batch; returns the mean loss (training.objective).

    Raises:
        DivergedError: the loss or the gradient blew up; the weights are those before the step.
    """
    total = gradients(model, data, batch, step, plan, fleet)
    apply_gradients(trained, optimizer, step, rate, total, plan)
    return total


def gradients(
    model: nn.Module, data: Encoded, batch: list[int], step: int, plan: RunConfig, fleet: Fleet
) -> float:
    """The gradients of one effective batch, into its tensors; returns the mean loss."""
    total = 0.0
    fleet.step_seed = derive_seed(plan.seed, "method", step)
    cut = training_passes(data, batch, plan.micro_batch, plan.pass_tokens, fleet.packing)
    for part, indices in enumerate(cut):
        fleet.seed_dropout([derive_seed(plan.seed, "dropout", step, part)])
        with fleet.dropout_context():  # and where the backward pass computes activations again
            loss = plan.loss(model, data, indices, fleet) / weight(data, batch)
            torch.autograd.backward(loss)
        total += float(loss.detach())
    return total
