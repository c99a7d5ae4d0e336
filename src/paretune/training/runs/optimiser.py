"""AdamW over the trained parameters of one run, its learning rates, and when it has diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from paretune.study import Training

LOSS_CEILING = 50.0
"""A mean loss this many times that of a uniform answer counts as blown up.

The mean answer of a regression has a loss of a half, less than a uniform answer of two classes.
"""


class DivergedError(Exception):
    """The run blew up: the loss or a gradient is not finite, or the loss exceeds the ceiling."""

    def __init__(self, step: int, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"step {step}: {why}")


def check_finite(step: int, loss: float, gradient_norm: float, num_classes: int) -> None:
    """Raise DivergedError when this step shows that the run has blown up."""
    if not math.isfinite(loss):
        raise DivergedError(step, f"the loss is {loss}")
    if not math.isfinite(gradient_norm):
        raise DivergedError(step, f"the gradient norm is {gradient_norm}")
    ceiling = LOSS_CEILING * math.log(max(2, num_classes))
    if loss > ceiling:
        raise DivergedError(step, f"the loss is {loss:.1f}, above {ceiling:.0f}")


def learning_rate_factor(
    step: int,
    total: int,
    warmup_fraction: float,
    kind: Literal["linear", "cosine", "constant"],
) -> float:
    """The factor of the learning rate at ``step`` (0-based) of ``total`` steps.

    Linear warm-up from 0 over the first ``warmup_fraction`` of the steps (rounded up), then linear
    or cosine decay to 0, or none. The same values as ``transformers``' schedules.
    """
    warmup = math.ceil(warmup_fraction * total)
    if step < warmup:
        return step / max(1, warmup)
    if kind == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    if kind == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return max(0.0, 1.0 - progress)


class RunOptimizer:
    """The optimizer of one run.

    Args:
        num_classes: possible answers; the loss at which a run has diverged depends on it.
        learning_rate_factors: by name, where a parameter's learning rate differs.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        training: Training,
        num_classes: int,
        learning_rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        self.trained, self.max_grad_norm = trained, training.max_grad_norm
        self.num_classes = num_classes
        self.adamw = make_adamw(trained, training.weight_decay, learning_rate_factors)

    def step(self, step: int, learning_rate: float, losses: Tensor) -> float:
        """Clip the gradients that are there, change the weights, and drop the gradients.

        Args:
            losses: what each pass adds to the mean loss, in nats; (passes,).

        Returns:
            The mean loss of the step.

        Raises:
            DivergedError: the loss or the gradient blew up; the weights are as they were.
        """
        norm = clip_gradients(self.trained, self.max_grad_norm)
        # The only place in a step that waits for the device: whether the run has blown up is known
        # before its weights change.
        *passes, norm_value = torch.cat([losses, norm[None].to(losses)]).tolist()
        loss = float(sum(passes))
        check_finite(step, loss, norm_value, self.num_classes)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate * group["rate_factor"]
        self.adamw.step()
        self.zero_grad()
        return loss

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self.adamw.zero_grad(set_to_none=True)


def make_adamw(
    trained: Mapping[str, nn.Parameter],
    weight_decay: float,
    learning_rate_factors: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: biases and normalisation are left alone."""
    factors = learning_rate_factors or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decay = 0.0 if name.endswith("bias") or "norm" in name.lower() else weight_decay
        groups.setdefault((decay, factors.get(name, 1.0)), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1]))
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "rate_factor": factor}
            for (decay, factor), parameters in ordered
        ],
        lr=0.0,
        fused=True,
    )


def clip_gradients(trained: Mapping[str, nn.Parameter], ceiling: float | None) -> Tensor:
    """Total norm of the gradients, which are scaled down where it exceeds ``ceiling``."""
    parameters = list(trained.values())
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    # Under the ceiling a CPU scales nothing: no pass over all gradients to multiply them by 1. On
    # another device the comparison would wait for it, and there the factor is at most 1.
    if ceiling is not None and (norm.device.type != "cpu" or not norm <= ceiling):
        torch.nn.utils.clip_grads_with_norm_(parameters, ceiling, norm)
    return norm
