"""AdamW over the trained parameters of one run, and the norm of their gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from paretune.training.recovery.divergence import check_finite
from paretune.training.runs.run_config import RunConfig


class RunOptimizer:
    """The optimizer of one run.

    Args:
        trained: its trained parameters by name.
        config: weight decay, clipping, learning rate factors.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], config: RunConfig) -> None:
        self.trained, self.config = trained, config
        self.adamw = make_adamw(trained, config.training.weight_decay, config.learning_rate_factors)

    def step(self, step: int, learning_rate: float, loss: float) -> None:
        """Clip the gradients that are there, change the weights, and drop the gradients.

        Raises:
            DivergedError: the loss or the gradient blew up; the weights are as they were.
        """
        norm = clip_gradients(self.trained, self.config.training.max_grad_norm)
        check_finite(step, loss, norm, self.config.num_classes)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate * group["rate_factor"]
        self.adamw.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self.adamw.zero_grad(set_to_none=True)


def make_adamw(
    trained: Mapping[str, nn.Parameter],
    weight_decay: float,
    learning_rate_factors: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: biases and normalisation are left alone.

    Args:
        trained: parameters by name.
        weight_decay: of the matrices.
        learning_rate_factors: by name; 1 where not named.
    """
    factors = learning_rate_factors or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decay = 0.0 if name.endswith("bias") or _is_norm(name) else weight_decay
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


def clip_gradients(trained: Mapping[str, nn.Parameter], ceiling: float | None) -> float:
    """Total norm of the gradients, which are scaled down where it exceeds ``ceiling``."""
    parameters = list(trained.values())
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    # Under the ceiling nothing is scaled: no pass over all gradients to multiply them by 1.
    if ceiling is not None and not norm <= ceiling:
        torch.nn.utils.clip_grads_with_norm_(parameters, ceiling, norm)
    return float(norm)


def _is_norm(name: str) -> bool:
    return "norm" in name.lower()
