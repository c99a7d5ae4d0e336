"""The plain forward path: padded batches through ``transformers`` as it comes.

The easiest to read, and what every faster path is compared with in the tests
(``training.backend: plain``). A step's batch is cut into consecutive micro-batches, each is padded
to its longest text, the model computes its own attention, and dropout is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretune.device_transfer import to_device
from paretune.models.dropout import DropoutRng
from paretune.models.structure.heads import shift_right
from paretune.objectives.encoding import Batch, Encoded, pad_batch
from paretune.objectives.objective import Collate
from paretune.objectives.token_outputs import TokenLogits
from paretune.training.forward.micro_batch import Forward, MicroBatch, StepBatch

EVALUATION_EXAMPLES = 32
"""Examples of one evaluation pass."""


class PlainSplitter:
    """Cuts the batches of one run into consecutive micro-batches."""

    def split_training(self, batches: Sequence[StepBatch]) -> list[list[MicroBatch]]:
        """Of at most ``micro_batch`` examples."""
        (batch,) = batches
        return _cut(batch.data, batch.indices, batch.micro_batch)

    def split_evaluation(self, data: Sequence[Encoded | None]) -> list[list[MicroBatch]]:
        """All examples in their order."""
        (examples,) = data
        if examples is None:
            return []
        return _cut(examples, range(len(examples.lengths)), EVALUATION_EXAMPLES)


@dataclass(frozen=True)
class PlainForward(Forward):
    """Runs padded batches of one run through its model."""

    collate: Collate = pad_batch

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[Any]:
        """Logits, (examples, labels) or (examples, choices); of scored tokens, those of each."""
        (batch,) = micro_batches
        padded = self.collate(batch.data, batch.indices, self.pad_id)
        inputs = to_tensors(padded, self.compute.device)
        labels = inputs.pop("labels", None)
        self.fleet.set_row_counts([len(batch.indices) * len(batch.data.ids[0])])
        if labels is None:
            return [self.model(**inputs).logits]
        texts = [(i, c) for i in batch.indices for c in range(len(batch.data.ids[i]))]
        if batch.data.completion_starts is not None:
            inputs = {name: values.flatten(0, -2) for name, values in inputs.items()}
            logits = self.model(**inputs, use_cache=False).logits
            # The logits at a token score the next one. Those of virtual tokens are in front.
            of_text, labels = logits[:, -labels.shape[-1] :], labels.flatten(0, -2)
            return [TokenLogits(of_text[:, :-1], labels[:, 1:], texts)]
        inputs["decoder_input_ids"] = shift_right(self.model, labels)
        logits = self.model(**inputs, use_cache=False).logits
        return [TokenLogits(logits, labels, texts)]


@dataclass(frozen=True)
class PaddedForward(Forward):
    """Runs padded batches of several runs through a model."""

    dropout_rng: DropoutRng

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[Tensor]:
        """Logits of each run's examples: (examples, labels), or (examples, choices)."""
        batches = [
            pad_batch(batch.data, batch.indices, self.pad_id) if batch.indices else {}
            for batch in micro_batches
        ]
        lengths = [padded["input_ids"].shape[-1] if padded else 0 for padded in batches]
        sequences = [len(batch.indices) * len(batch.data.ids[0]) for batch in micro_batches]
        # Tensors with one row for each run have rows of the runs in this pass only.
        self.fleet.set_row_counts(sequences, [min(1, count) for count in sequences])
        self.dropout_rng.begin_pass(self.dropout_rng.seeds, [sequences])
        self.dropout_rng.run_lengths = lengths
        present, inputs = [padded for padded in batches if padded], {}
        for name in present[0]:
            fill = self.pad_id if name == "input_ids" else 0
            behind = [(0, 0)] * (present[0][name].ndim - 1)
            parts = [
                np.pad(
                    padded[name],
                    [*behind, (0, max(lengths) - padded[name].shape[-1])],
                    constant_values=fill,
                )
                for padded in present
            ]
            inputs[name] = to_device(np.concatenate(parts), self.compute.device)
        logits: Tensor = self.model(**inputs).logits
        return list(torch.split(logits, [len(batch.indices) for batch in micro_batches]))


def to_tensors(batch: Batch, device: str) -> dict[str, Tensor]:
    """A batch of arrays as tensors on a device."""
    return {name: to_device(array, device) for name, array in batch.items()}


def _cut(data: Encoded, indices: Sequence[int], size: int) -> list[list[MicroBatch]]:
    starts = range(0, len(indices), size)
    return [[MicroBatch(data, indices[i : i + size], part)] for part, i in enumerate(starts)]
