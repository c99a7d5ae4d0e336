"""The training loop: AdamW over exact effective batches, in tight micro-batches.

Which examples a step sees depends on the run's seed alone; how they are padded and split into
micro-batches does not change the step (the loss is a sum over examples divided by the effective
batch; of translations, over tokens divided by its target tokens). Order and dropout are drawn from
generators seeded by run, purpose and step, so a run needs no random state to resume, and gives the
same bits whatever ran before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paretune.data.batch import PASS_TOKENS, order
from paretune.data.encode import Encoded
from paretune.data.scale import Scale
from paretune.methods.fleet import Fleet
from paretune.study import Training, derive
from paretune.training import checkpoint, guards
from paretune.training.between import Between, settle, start_of
from paretune.training.checkpoint import Progress
from paretune.training.objective import LABEL_SMOOTHING, summed_loss, translation_loss, weight
from paretune.training.passes import outputs, training_passes
from paretune.training.precision import computing
from paretune.training.schedule import factor

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Plan:
    """What one run trains with, all choices made."""

    settings: Training
    learning_rate: float
    seed: int
    micro_batch: int
    num_labels: int
    pad_id: int
    device: str
    precision: Literal["fp32", "bf16"]
    checkpoint: Path
    checkpoint_seconds: float = 60.0
    pass_tokens: int = PASS_TOKENS
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    scale: Scale | None = None

    def loss(self, model: nn.Module, data: Encoded, indices: list[int], fleet: Fleet) -> Tensor:
        """What training makes small: the summed loss of some examples, in nats."""
        smoothing = self.settings.label_smoothing
        if smoothing is None:
            smoothing = 0.0 if data.targets is None else LABEL_SMOOTHING
        with computing(self.device, self.precision):
            if data.targets is None:
                logits = outputs(model, data, indices, fleet, self.pad_id, self.device)
                labels = [data.labels[i] for i in indices]
                return summed_loss(logits, labels, self.scale, smoothing)
            fleet.share([len(indices)])
            return translation_loss(
                model,
                data,
                indices,
                pad_id=self.pad_id,
                device=self.device,
                label_smoothing=smoothing,
            )

    def steps(self, examples: int) -> tuple[int, int, int]:
        """Steps in an epoch, steps in all, and steps between evaluations."""
        per_epoch = -(-examples // self.settings.batch_size)
        total = self.settings.max_steps or self.settings.epochs * per_epoch
        return per_epoch, total, min(self.settings.eval_every or per_epoch, total)


@dataclass(frozen=True)
class Trained:
    """How training went; the model holds the best weights when this is returned."""

    progress: Progress
    best: dict[str, Tensor]
    diverged: str | None
    between: Between = field(default_factory=Between)


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
    if not trained:
        model.eval()
        return Trained(Progress(micro_batch=plan.micro_batch), {}, None)
    per_epoch, total, eval_every = plan.steps(len(data.labels))
    optimizer = adamw(trained, plan.settings.weight_decay, plan.rate_factors)
    shares = plan.settings.interpolate
    begun = start_of(trained, head, shares)
    resumed = checkpoint.load(plan.checkpoint, trained, optimizer, plan.micro_batch)
    progress, best = resumed or (Progress(micro_batch=plan.micro_batch), {})
    saved_at = time.monotonic()
    diverged = None
    model.train()
    while progress.step < total:
        step = progress.step
        epoch, place = divmod(step, per_epoch)
        start = place * plan.settings.batch_size
        batch = order(len(data.labels), plan.seed, epoch)[start : start + plan.settings.batch_size]
        rate = plan.learning_rate * factor(
            step, total, plan.settings.warmup_fraction, plan.settings.schedule
        )
        try:
            loss = train_step(model, trained, optimizer, data, batch, step, rate, plan, fleet)
            progress.losses.append(loss)
            progress.step += 1
            report({"step": progress.step, "steps": total, "loss": loss})
            if progress.step % eval_every == 0 or progress.step == total:
                best = _evaluate(
                    progress, best, trained, select, epoch, last=progress.step == total
                )
                model.train()
                if _stop_early(progress, plan.settings.patience):
                    break
        except guards.DivergedError as error:
            diverged = str(error)
            break
        if time.monotonic() - saved_at > plan.checkpoint_seconds:
            checkpoint.save(plan.checkpoint, progress, trained, best, optimizer)
            saved_at = time.monotonic()
    if progress.best_step != progress.step:
        _copy(best, trained)
    between = Between()
    if begun and diverged is None:
        between = settle(trained, begun, shares, progress.best_scores, select, _better)
    model.eval()
    return Trained(progress, best, diverged, between)


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
    norm = gradient_norm(trained, plan.settings.max_grad_norm)
    guards.check_finite(step, total, norm, plan.num_labels)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def adamw(
    trained: Mapping[str, nn.Parameter],
    weight_decay: float,
    rate_factors: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: biases and normalisation are left alone.

    Args:
        trained: tensors by name.
        weight_decay: of the matrices.
        rate_factors: by name, what the learning rate is multiplied by; 1 where not named.
    """
    factors = rate_factors or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decay = 0.0 if name.endswith("bias") or _is_norm(name) else weight_decay
        groups.setdefault((decay, factors.get(name, 1.0)), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1]))
    return torch.optim.AdamW(
        [
            {"params": held, "weight_decay": decay, "rate_factor": factor}
            for (decay, factor), held in ordered
        ],
        lr=0.0,
        fused=True,
    )


def gradient_norm(trained: Mapping[str, nn.Parameter], ceiling: float | None) -> float:
    """Total norm of the gradients, which are scaled down to ``ceiling`` if it is exceeded."""
    parameters = list(trained.values())
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    # Under the ceiling nothing is scaled: no pass over all gradients to multiply them by 1.
    if ceiling is not None and not norm <= ceiling:
        torch.nn.utils.clip_grads_with_norm_(parameters, ceiling, norm)
    return float(norm)


def _is_norm(name: str) -> bool:
    return "norm" in name.lower()


def _evaluate(
    progress: Progress,
    best: dict[str, Tensor],
    trained: Mapping[str, nn.Parameter],
    select: Callable[[], dict[str, float]],
    epoch: int,
    *,
    last: bool,
) -> dict[str, Tensor]:
    """Score the present weights, note the curve, and keep them if they are the best so far.

    What is kept is a copy, but after the last step the weights themselves.

    Raises:
        DivergedError: the last step blew the weights up, which only the selection part shows.
    """
    scores = select()
    if not math.isfinite(scores["loss"]):
        raise guards.DivergedError(progress.step, f"the selection loss is {scores['loss']}")
    since = progress.curve[-1]["step"] if progress.curve else 0
    losses = progress.losses[since : progress.step]
    progress.curve.append(
        {
            "step": progress.step,
            "epoch": epoch + 1,
            "loss": sum(losses) / len(losses),
            "selection": scores,
        }
    )
    if progress.best_step < 0 or _better(scores, progress.best_scores):
        progress.best_step, progress.best_scores = progress.step, scores
        progress.without_gain = 0
        if last:
            return {name: p.detach() for name, p in trained.items()}
        if not best:
            return {name: p.detach().clone() for name, p in trained.items()}
        _copy(trained, best)  # new memory for a whole model costs more than the copying
        return best
    progress.without_gain += 1
    return best


def _copy(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            into[name].copy_(value)


def _better(new: dict[str, float], old: dict[str, float]) -> bool:
    return (new["primary"], -new["loss"]) > (old["primary"], -old["loss"])


def _stop_early(progress: Progress, patience: int | None) -> bool:
    return patience is not None and progress.without_gain >= patience
