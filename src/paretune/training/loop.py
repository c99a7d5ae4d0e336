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

from paretune.data.encode import Encoded
from paretune.methods.fleet import Fleet
from paretune.study import derive
from paretune.training.course import Course, Report, Trained, descend
from paretune.training.objective import weight
from paretune.training.passes import training_passes
from paretune.training.plan import Plan


def train(
    model: nn.Module,
    trained: Mapping[str, nn.Parameter],
    data: Encoded,
    select: Callable[[], dict[str, float]],
    plan: Plan,
    fleet: Fleet,
    report: Report,
    head: Collection[str] = (),
) -> Trained:
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
    course = Course(trained, data, select, plan, report, head)
    model.train()
    while not course.over:
        with course.guarded():
            loss = train_step(
                model,
                trained,
                course.optimizer,
                data,
                course.batch(),
                course.progress.step,
                course.rate,
                plan,
                fleet,
            )
            course.took(loss)
            if course.due:
                course.judge()
                model.train()
        course.keep()
    found = course.conclude()
    model.eval()
    return found


def train_step(
    model: nn.Module,
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    data: Encoded,
    batch: list[int],
    step: int,
    rate: float,
    plan: Plan,
    fleet: Fleet,
) -> float:
    """One optimiser step on one effective batch; returns the mean loss (training.objective).

    Raises:
        DivergedError: the loss or the gradient blew up; the weights are those before the step.
    """
    total = 0.0
    fleet.step_seed = derive(plan.seed, "method", step)
    cut = training_passes(data, batch, plan.micro_batch, plan.pass_tokens, fleet.packing)
    for part, indices in enumerate(cut):
        fleet.draw([derive(plan.seed, "dropout", step, part)])
        with fleet.dropping():  # and where the backward pass computes activations again
            loss = plan.loss(model, data, indices, fleet) / weight(data, batch)
            torch.autograd.backward(loss)
        total += float(loss.detach())
    descend(trained, optimizer, step, rate, total, plan)
    return total
