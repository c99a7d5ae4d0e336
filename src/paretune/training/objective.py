"""What the outputs of a model are compared with: classes, choices, numbers, or tokens.

Numbers are learnt in units of their standard deviation from their mean, both of the training part,
so that a learning rate means the same whatever the unit; answers are given in the label's unit.
A translation is learnt token by token, each told the right ones before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from paretune.models.structure.language_model import shift_right
from paretune.objectives.collate import IGNORE_INDEX, pad_batch
from paretune.objectives.encoding import Encoded
from paretune.objectives.target_scale import TargetScale
from paretune.study import Label

Scores = NDArray[np.float32] | NDArray[np.float64]

LABEL_SMOOTHING = 0.1
"""Of translations, where the study does not say (Vaswani et al. 2017, arXiv:1706.03762, 5.4)."""


def collate_tensors(
    encoded: Encoded, indices: list[int], pad_id: int, device: str
) -> dict[str, Tensor]:
    """Model inputs of some examples: (batch, tokens), or (batch, choices, tokens).

    Of a translation ``labels`` are among them, (batch, target tokens).
    """
    return {
        name: torch.from_numpy(array).to(device)
        for name, array in pad_batch(encoded, indices, pad_id).items()
    }


def translation_loss(
    model: nn.Module,
    encoded: Encoded,
    indices: list[int],
    *,
    pad_id: int,
    device: str,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The summed loss of some translations, in nats; divide it by their :func:`weight`."""
    given = collate_tensors(encoded, indices, pad_id, device)
    labels_of_tokens = given.pop("labels")
    logits = _token_logits(model, given, labels_of_tokens)
    return sum_token_losses(logits.flatten(0, 1), labels_of_tokens.flatten(), label_smoothing)


def sum_token_losses(scores: Tensor, tokens: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The same from scores of all words for each token, (tokens, vocabulary), and the tokens.

    Padding, where there is any, is passed over.
    """
    return F.cross_entropy(
        scores.float(),
        tokens,
        ignore_index=IGNORE_INDEX,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def weight(encoded: Encoded, indices: Sequence[int]) -> int:
    """What a sum of losses is divided by: examples, or the tokens of their targets."""
    if encoded.targets is None:
        return len(indices)
    return sum(len(encoded.targets[i]) for i in indices)


def _token_logits(model: Any, given: dict[str, Tensor], labels: Tensor) -> Tensor:
    """(batch, target tokens, vocabulary): each position told the right tokens before it."""
    before = shift_right(model, labels)
    logits: Tensor = model(**given, decoder_input_ids=before, use_cache=False).logits
    return logits


def sum_losses(
    logits: Tensor,
    labels: Sequence[Label | None],
    scale: TargetScale | None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy in nats, or half the squared error in units of the scale, over the examples.

    Shapes: ``logits`` (examples, labels), of a regression (examples, 1).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if scale is None:
        asked = torch.tensor(labels, device=wide.device)
        return F.cross_entropy(wide, asked, reduction="sum", label_smoothing=label_smoothing)
    # In float64: far from zero a float32 would round away what tells the numbers apart.
    exact = torch.tensor(labels, dtype=torch.float64)
    wanted = ((exact - scale.mean) / scale.deviation).to(wide)
    return F.mse_loss(wide.squeeze(-1), wanted, reduction="sum") / 2


def mean_loss(scores: Scores, labels: Sequence[Label], scale: TargetScale | None) -> float:
    """The same of model outputs as arrays, as a mean over the examples."""
    wide = scores.astype(np.float64)
    if scale is not None:
        off = wide[:, 0] - (np.array(labels) - scale.mean) / scale.deviation
        return float(np.mean(off**2) / 2)
    top = wide.max(axis=1, keepdims=True)
    log_norm = np.log(np.exp(wide - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(log_norm - wide[np.arange(len(labels)), np.array(labels, dtype=int)]))


def answers(scores: Scores, scale: TargetScale | None) -> list[Label]:
    """The class of the highest score, or the number in the label's own unit."""
    if scale is None:
        return [int(i) for i in scores.argmax(1)]
    return [float(s) * scale.deviation + scale.mean for s in scores[:, 0].astype(np.float64)]
