"""A run on its way: where it stands, the best weights so far, and when it is over.

Alone or in a fleet, a run goes the same way: its own order, rate, guard, evaluations and early
stop. Who drives it computes the gradients.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from paretune.data.batch import shuffle_order
from paretune.measuring.environment import describe_device
from paretune.objectives.encoding import Encoded
from paretune.training import checkpoint, out_of_memory
from paretune.training.checkpoint import Progress
from paretune.training.interruption import defer_interrupts
from paretune.training.optimiser import clip_gradients, make_adamw
from paretune.training.run_config import RunConfig
from paretune.training.schedule import learning_rate_factor
from paretune.training.tensor_copies import copy_tensors, copy_to_cpu
from paretune.training.weight_interpolation import Interpolation, choose_share, copy_start

CHECKPOINT_SHARE = 0.05
"""Of the time of training, what writing checkpoints may take."""

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainingResult:
    """How training went; the model holds the best weights when this is returned.

    ``save`` writes a checkpoint from which the run goes on with its answers.
    """

    progress: Progress
    best: dict[str, Tensor]
    diverged: str | None
    between: Interpolation = field(default_factory=Interpolation)
    save: Callable[[], None] = lambda: None


class RunState:
    """The way of one run, from its start or from its checkpoint.

    Args:
        trained: the tensors that are trained; none: there is nothing to do.
        data: encoded training examples, all labelled.
        select: scores of the present weights on the selection part, with ``primary`` and ``loss``.
        plan: the settings of this run.
        report: told the step, the steps in all and the loss after every step.
        head: names of the trained tensors that start from nothing (training.between).

    ``resumed_at`` is the step of the checkpoint, 0 without one. ``clock`` gives the seconds of
    training so far, in all attempts; a fleet puts its own in the place.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        data: Encoded,
        select: Callable[[], dict[str, float]],
        plan: RunConfig,
        report: Report,
        head: Collection[str] = (),
    ) -> None:
        self.trained, self.data, self.select = trained, data, select
        self.plan, self.report = plan, report
        self.per_epoch, self.steps, self.eval_every = plan.steps(len(data.labels))
        self.progress, self.best = Progress(micro_batch=plan.micro_batch), dict[str, Tensor]()
        self.diverged: str | None = None
        self._begun: dict[str, Tensor] = {}
        if trained:
            self.optimizer = make_adamw(trained, plan.settings.weight_decay, plan.rate_factors)
            self._begun = copy_start(trained, head, plan.settings.interpolate)
            resumed = checkpoint.load(plan.checkpoint, trained, self.optimizer, plan.micro_batch)
            self.progress, self.best = resumed or (self.progress, self.best)
            device = " ".join(describe_device(plan.device).values())
            if self.progress.devices[-1:] != [device]:
                self.progress.devices.append(device)
        self.stopped = not trained or self._out_of_patience
        self.resumed_at = self.progress.step
        self._saved_at, self._saving_seconds = time.monotonic(), 0.0
        began_at = self._saved_at - self.progress.seconds
        self.clock: Callable[[], float] = lambda: time.monotonic() - began_at

    @property
    def over(self) -> bool:
        """Whether no further step is to be taken."""
        return self.stopped or self.diverged is not None or self.progress.step >= self.steps

    @property
    def due(self) -> bool:
        """Whether the weights after the last step are to be judged, and were not yet."""
        step, curve = self.progress.step, self.progress.curve
        judged = curve[-1]["step"] if curve else 0
        at_its_turn = step % self.eval_every == 0 or step == self.steps
        return self.diverged is None and step > judged and at_its_turn

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        settings = self.plan.settings
        return self.plan.learning_rate * learning_rate_factor(
            self.progress.step, self.steps, settings.warmup_fraction, settings.schedule
        )

    def batch(self) -> list[int]:
        """The examples of the next step."""
        epoch, place = divmod(self.progress.step, self.per_epoch)
        start = place * self.plan.settings.batch_size
        shuffled = shuffle_order(len(self.data.labels), self.plan.seed, epoch)
        return shuffled[start : start + self.plan.settings.batch_size]

    @contextlib.contextmanager
    def catch_divergence(self) -> Iterator[None]:
        """Where the run diverges, it is over, and its outcome says so."""
        try:
            yield
        except out_of_memory.DivergedError as error:
            self.diverged = str(error)

    def took(self, loss: float) -> None:
        """Note a step that was taken, with its loss."""
        self.progress.losses.append(loss)
        self.progress.step += 1
        told = {"step": self.progress.step, "steps": self.steps, "loss": loss}
        self.report({**told, "resumed_at": self.resumed_at})

    def judge(self) -> None:
        """Score the present weights, note the curve, and keep them if they are the best so far.

        What is kept is a copy, but after the last step the weights themselves.

        Raises:
            DivergedError: the last step blew the weights up, which only the selection part shows.
        """
        scores = self.select()
        if not math.isfinite(scores["loss"]):
            why = f"the selection loss is {scores['loss']}"
            raise out_of_memory.DivergedError(self.progress.step, why)
        with defer_interrupts():
            self._record_scores(scores)

    def _record_scores(self, scores: dict[str, float]) -> None:
        progress = self.progress
        since = progress.curve[-1]["step"] if progress.curve else 0
        losses = progress.losses[since : progress.step]
        progress.curve.append(
            {
                "step": progress.step,
                "epoch": (progress.step - 1) // self.per_epoch + 1,
                "loss": sum(losses) / len(losses),
                "selection": scores,
            }
        )
        if progress.best_step < 0 or _is_better(scores, progress.best_scores):
            progress.best_step, progress.best_scores = progress.step, scores
            progress.without_gain = 0
            self._hold(last=progress.step == self.steps)
        else:
            progress.without_gain += 1
        self.stopped = self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        patience = self.plan.settings.patience
        return patience is not None and self.progress.without_gain >= patience

    def keep(self) -> None:
        """Write the checkpoint, where the last one is old enough and the run did not end early.

        Of a large model it is gigabytes: it is old enough when writing it took a small share of the
        time since. With ``checkpoint_seconds`` 0 one is written after every step.
        """
        ended, began = self.stopped or self.diverged is not None, time.monotonic()
        asked = self.plan.checkpoint_seconds
        rest = asked and max(asked, self._saving_seconds / CHECKPOINT_SHARE)
        if not ended and began - self._saved_at > rest:
            self.save()
            self._saved_at = time.monotonic()
            self._saving_seconds = self._saved_at - began

    def save(self) -> None:
        """Write the checkpoint now, as after the last whole step."""
        if self.trained and self.progress.step and self.diverged is None:
            with defer_interrupts():
                self.progress.seconds = self.clock()
                checkpoint.save(
                    self.plan.checkpoint, self.progress, self.trained, self.best, self.optimizer
                )

    def conclude(self) -> TrainingResult:
        """Put the best weights back, or those between them and the start that are better."""
        self.progress.seconds = seconds = self.clock()
        self.clock = lambda: seconds  # what follows is no training
        copy_tensors(self.best, self.trained)
        between = Interpolation()
        if self._begun and self.diverged is None:
            if self.progress.best_step == self.progress.step:
                # It may be the weights themselves, and what is kept must not move with them.
                self.best = copy_to_cpu(self.trained)
            shares, scores = self.plan.settings.interpolate, self.progress.best_scores
            between = choose_share(
                self.trained, self._begun, self.best, shares, scores, self.select, _is_better
            )
        return TrainingResult(self.progress, self.best, self.diverged, between, self.save)

    def _hold(self, *, last: bool) -> None:
        if last:
            self.best = {name: p.detach() for name, p in self.trained.items()}
        elif not self.best:
            self.best = copy_to_cpu(self.trained)
        else:
            copy_tensors(self.trained, self.best)  # new memory for a model costs more than copying


def apply_gradients(
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    rate: float,
    loss: float,
    plan: RunConfig,
) -> None:
    """Clip the gradients that are there, change the weights, and forget the gradients.

    Raises:
        DivergedError: the loss or the gradient blew up; the weights are as they were.
    """
    norm = clip_gradients(trained, plan.settings.max_grad_norm)
    out_of_memory.check_finite(step, loss, norm, plan.num_labels)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _is_better(new: dict[str, float], old: dict[str, float]) -> bool:
    return (new["primary"], -new["loss"]) > (old["primary"], -old["loss"])
