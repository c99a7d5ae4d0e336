"""The loss of translations by the plain forward path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from paretune import objectives
from paretune.models.pass_context import PassContext
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded
from paretune.training.forward.passes import Compute, MicroBatch, PlainForward, PlainSplitter

SEQ2SEQ = objectives.get("translation")


def plain_loss(
    model: Any, pad_id: int, data: Encoded, rows: Sequence[int], label_smoothing: float = 0.0
) -> Tensor:
    """Summed over the target tokens of some examples, in nats."""
    forward = PlainForward(model, PassContext(), Compute(), pad_id, PlainSplitter())
    outputs = forward(MicroBatch(data, rows))
    options = LossOptions(label_smoothing=label_smoothing)
    return SEQ2SEQ.loss(outputs, data, rows, options)
