"""The plain forward path: padded batches through ``transformers`` as it comes.

The easiest to read, and what every faster path is compared with in the tests
(``training.backend: plain``). A step's batch is cut into consecutive micro-batches, each is padded
to its longest text, the model computes its own attention, and dropout is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from paretune.device_transfer import to_device
from paretune.methods.core.run_axis import Fleet
from paretune.models.structure.heads import shift_right
from paretune.objectives.encoding import Batch, Encoded, pad_batch
from paretune.objectives.objective import Collate
from paretune.objectives.token_outputs import TokenLogits
from paretune.training.forward.micro_batch import Compute, MicroBatch, Splitter, StepBatch

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
class PlainForward:
    """Runs padded batches of one run through its model."""

    model: Any
    fleet: Fleet
    compute: Compute
    pad_id: int
    splitter: Splitter
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
            own, labels = logits[:, -labels.shape[-1] :], labels.flatten(0, -2)
            return [TokenLogits(own[:, :-1], labels[:, 1:], texts)]
        inputs["decoder_input_ids"] = shift_right(self.model, labels)
        logits = self.model(**inputs, use_cache=False).logits
        return [TokenLogits(logits, labels, texts)]


def to_tensors(batch: Batch, device: str) -> dict[str, Tensor]:
    """A batch of arrays as tensors on a device."""
    return {name: to_device(array, device) for name, array in batch.items()}


def _cut(data: Encoded, indices: Sequence[int], size: int) -> list[list[MicroBatch]]:
    starts = range(0, len(indices), size)
    return [[MicroBatch(data, indices[i : i + size], part)] for part, i in enumerate(starts)]
