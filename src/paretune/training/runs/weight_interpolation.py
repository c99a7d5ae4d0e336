"""Weights between the start and the end of training; the selection part chooses (WiSE-FT).

Source: Wortsman et al. 2021 (WiSE-FT), arXiv:2109.01903, equation 1: start + share (best - start),
for all trained parameters but the head's, which starts at random. The paper interpolates whole
models; here a method's own parameters are interpolated, so LoRA's update B A, with B = 0 at the
start, grows with about the share.

It helps where the model already knows the task: training on few new examples moves it away from
what it knew, and half of the way is often better than all of it (dev/log.md). It costs one
evaluation of the selection part for each share, and a copy of the trained parameters, on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@torch.no_grad()
def copy_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; of GPU tensors in pinned memory, into which further copies are fast."""
    return {name: _copy_tensor(tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def copy_tensors(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of the same names, on any device."""
    for name, value in values.items():
        into[name].copy_(value)


def _copy_tensor(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    pinned = tensor.device.type == "cuda"
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
    return copy.copy_(tensor)


Scores = dict[str, float]
"""``primary`` (the higher the better) and ``loss`` on the selection part."""


@dataclass(frozen=True)
class Interpolation:
    """The share of the way that was taken, and the scores of every share that was tried."""

    share: float = 1.0
    tried: tuple[dict[str, float], ...] = ()


def copy_start(
    trained: Mapping[str, nn.Parameter], head: Collection[str], shares: Sequence[float]
) -> dict[str, Tensor]:
    """Copies of the parameters outside the head; none where no share is to be tried."""
    if not shares:
        return {}
    return copy_to_cpu({name: p for name, p in trained.items() if name not in head})


def is_better(new: Scores, old: Scores) -> bool:
    """Whether the first selection scores are better: by the metric, then by the loss."""
    return (new["primary"], -new["loss"]) > (old["primary"], -old["loss"])


def choose_share(
    trained: Mapping[str, nn.Parameter],
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    shares: Sequence[float],
    best_scores: Scores,
    score_selection: Callable[[], Scores],
) -> Interpolation:
    """Try each share and leave the best one in the model; the end where none beats it.

    Args:
        start: what :func:`copy_start` copied.
        end: the best weights of the training; they stay as they are.
        shares: of the way from start to end, each below 1.
        score_selection: selection scores of the weights as they are when it is called.
    """
    share, scores, tried = 1.0, best_scores, []
    for candidate in shares:
        _set_weights(trained, start, end, candidate)
        own = score_selection()
        tried.append({"share": candidate, **own})
        if is_better(own, scores):
            share, scores = candidate, own
    _set_weights(trained, start, end, share)
    return Interpolation(share, tuple(tried))


@torch.no_grad()
def _set_weights(
    trained: Mapping[str, nn.Parameter],
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    share: float,
) -> None:
    for name, first in start.items():
        parameter, last = trained[name], end[name]
        if share == 1.0:
            parameter.copy_(last)  # the same bits
        else:
            device = parameter.device
            parameter.copy_(torch.lerp(first.to(device), last.to(device), share))
