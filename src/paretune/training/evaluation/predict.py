"""What models make of encoded examples in evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from paretune.objectives.encoding import Encoded
from paretune.training.forward.micro_batch import Forward
from paretune.training.objective import weight


def evaluate(forward: Forward, data: Sequence[Encoded | None]) -> list[Any]:
    """What each run's weights make of its examples, all runs in the same passes.

    Args:
        forward: of all runs.
        data: the examples of each run; None: it is not evaluated.

    Returns:
        For each run its logits, (examples, labels), in the order of the examples; of
        sequence-to-sequence the mean loss of a target token, in nats. None where not evaluated.
    """
    logits: list[list[NDArray[np.float32]]] = [
        [] if own is None else [np.empty(0, np.float32)] * len(own.lengths) for own in data
    ]
    losses = [0.0] * len(data)
    was_training = forward.model.training
    forward.model.eval()
    with torch.inference_mode(), forward.compute.autocast():
        for micro_batches in forward.splitter.split_evaluation(data):
            outputs = forward(micro_batches)
            for run, batch in enumerate(micro_batches):
                if not batch.indices:
                    continue
                if batch.data.targets is not None:
                    losses[run] += float(outputs[run].summed_loss(0.0))
                    continue
                rows = outputs[run].float().cpu().numpy()
                for row, index in zip(rows, batch.indices, strict=True):
                    logits[run][index] = row
    forward.model.train(was_training)
    return [
        None
        if own is None
        else np.stack(rows)
        if own.targets is None
        else loss / weight(own, range(len(own.lengths)))
        for own, rows, loss in zip(data, logits, losses, strict=True)
    ]


def evaluate_alone(forward: Forward, data: Encoded) -> Any:
    """The same of a run alone."""
    return evaluate(forward, [data])[0]
