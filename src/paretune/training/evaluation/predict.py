"""Outputs of models for encoded examples, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from paretune.objectives.encoding import Encoded
from paretune.objectives.logits import LogitsCollector
from paretune.objectives.objective import Collector
from paretune.training.forward.micro_batch import Forward


def evaluate(
    forward: Forward,
    data: Sequence[Encoded | None],
    make_collector: Callable[[Encoded], Collector],
) -> list[Any]:
    """Outputs of each run for its examples, all runs in the same passes.

    Args:
        forward: of all runs.
        data: the examples of each run; None: it is not evaluated.
        make_collector: the objective's.

    Returns:
        For each run the result of its collector: logits, (examples, labels), or the losses of
        target tokens. None where it was not evaluated.
    """
    collectors = [None if own is None else make_collector(own) for own in data]
    was_training = forward.model.training
    forward.model.eval()
    with torch.inference_mode(), forward.compute.autocast():
        for micro_batches in forward.splitter.split_evaluation(data):
            outputs = forward(micro_batches)
            for collector, batch, own in zip(collectors, micro_batches, outputs, strict=True):
                if collector is not None and batch.indices:
                    collector.add(batch.indices, own)
    forward.model.train(was_training)
    return [None if collector is None else collector.result() for collector in collectors]


def evaluate_alone(
    forward: Forward,
    data: Encoded,
    make_collector: Callable[[Encoded], Collector] = LogitsCollector,
) -> Any:
    """Outputs of a run alone; see :func:`evaluate`."""
    return evaluate(forward, [data], make_collector)[0]
