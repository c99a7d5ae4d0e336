"""Passes of several runs: how large they may be, and what evaluation finds in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from paretune.objectives.encoding import Encoded
from paretune.training.evaluation.predict import evaluation_tokens
from paretune.training.fleet.shared_model import SharedModel
from paretune.training.forward.packed import MicroBatch, evaluation_passes
from paretune.training.objective import weight
from paretune.training.precision import autocast
from paretune.training.run_config import RunConfig

MAX_STACK_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Most tokens of several runs in one pass: a CPU gains nothing from more, and memory grows with it;
on a GPU short batches are bound by the launches."""


def max_stack_tokens(device: str) -> int:
    """Most tokens of several runs in one pass on this device."""
    return MAX_STACK_TOKENS["cpu" if device == "cpu" else "cuda"]


def evaluate_runs(
    formation: SharedModel, data: Mapping[int, Encoded], plan: RunConfig
) -> list[Any]:
    """What some members of a formation make of their examples, in evaluation mode.

    Args:
        formation: whose weights are asked.
        data: by the places of the members, at least one; all of one kind of task.
        plan: of any of them: where and how precisely to compute.

    Returns:
        The logits of each, (examples, labels); of translations the loss of a token, in nats.
    """
    members, some = formation.fleet.runs, next(iter(data.values()))
    tokens = evaluation_tokens(plan.device)
    cuts = {r: evaluation_passes(e, tokens, formation.fleet.packing) for r, e in data.items()}
    sides = [formation.sides(data[r], cuts[r]) if r in data else [] for r in range(members)]
    found: dict[int, list[Any]] = {r: [None] * len(e.lengths) for r, e in data.items()}
    losses = dict.fromkeys(data, 0.0)
    formation.loaded.model.eval()
    with torch.inference_mode(), autocast(plan.device, plan.precision):
        for stack in formation.stacks(sides, tokens):
            shares: list[MicroBatch] = [
                (data.get(r, some), cuts[r][stack[r]] if r in stack else ()) for r in range(members)
            ]
            if some.targets is not None:
                for r, loss in formation.word_losses(shares, [0.0] * members).items():
                    losses[r] += float(loss)
                continue
            logits = formation.outputs(shares)
            for r, part in stack.items():
                own = logits[r].float().cpu().numpy()
                for row, index in zip(own, cuts[r][part], strict=True):
                    found[r][index] = row
    if some.targets is not None:
        return [losses[r] / weight(e, range(len(e.lengths))) for r, e in data.items()]
    return [np.stack(one) for one in found.values()]
