"""What the outputs of a model are compared with: classes and choices, or numbers.

Numbers are learnt in units of their standard deviation from their mean, both of the training part,
so that a learning rate means the same whatever the unit; answers are given in the label's unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from paretune.data.scale import Scale
from paretune.study import Label

Scores = NDArray[np.float32] | NDArray[np.float64]


def summed_loss(logits: Tensor, labels: Sequence[Label | None], scale: Scale | None) -> Tensor:
    """Cross-entropy in nats, or half the squared error in units of the scale, over the examples.

    Shapes: ``logits`` (examples, labels), of a regression (examples, 1).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if scale is None:
        return F.cross_entropy(wide, torch.tensor(labels, device=wide.device), reduction="sum")
    # In float64: far from zero a float32 would round away what tells the numbers apart.
    exact = torch.tensor(labels, dtype=torch.float64)
    asked = ((exact - scale.mean) / scale.deviation).to(wide)
    return F.mse_loss(wide.squeeze(-1), asked, reduction="sum") / 2


def mean_loss(scores: Scores, labels: Sequence[Label], scale: Scale | None) -> float:
    """The same of model outputs as arrays, as a mean over the examples."""
    wide = scores.astype(np.float64)
    if scale is not None:
        off = wide[:, 0] - (np.array(labels) - scale.mean) / scale.deviation
        return float(np.mean(off**2) / 2)
    top = wide.max(axis=1, keepdims=True)
    log_norm = np.log(np.exp(wide - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(log_norm - wide[np.arange(len(labels)), np.array(labels, dtype=int)]))


def answers(scores: Scores, scale: Scale | None) -> list[Label]:
    """The class of the highest score, or the number in the label's own unit."""
    if scale is None:
        return [int(i) for i in scores.argmax(1)]
    return [float(s) * scale.deviation + scale.mean for s in scores[:, 0].astype(np.float64)]
