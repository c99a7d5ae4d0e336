"""Forward passes: the batches of a step, the micro-batches of a pass, and padded passes.

:class:`PlainForward` is the easiest to read, and what every faster path is compared with in the
tests (``training.backend: plain``): a step's batch is cut into consecutive micro-batches, each is
padded to its longest text, the model computes its own attention, and dropout is torch's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from paretune.data.batch import PASS_OVERHEAD_TOKENS
from paretune.device_transfer import to_device
from paretune.methods.core.method import BodyTraining
from paretune.models.pass_context import PassContext
from paretune.models.structure.heads import shift_right
from paretune.objectives import LossOptions, Objective
from paretune.objectives.encoding import Batch, Encoded, pad_batch
from paretune.objectives.token_outputs import TokenLogits
from paretune.study import Run, derive_seed


@dataclass(frozen=True)
class Compute:
    """Where and how precisely a model is computed."""

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"

    @classmethod
    def of(cls, run: Run, device: str) -> Compute:
        """The settings of a run whose precision is concrete."""
        return cls(device, "bf16" if run.training.precision == "bf16" else "fp32")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for a forward pass: autocast to bf16, or nothing."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """The examples of one optimizer step, and how their loss is computed.

    Attributes:
        indices: of the examples.
        step: 0-based.
        seed: of the run's dropout.
        loss_options: label smoothing, and the scale of a regression's targets.
        micro_batch: examples of one forward pass at most.
        pass_overhead_tokens: fixed cost of a forward pass, in tokens.
        body: what the method trains on in place of the rows; see :meth:`draw`.
    """

    data: Encoded
    indices: Sequence[int] = ()
    step: int = 0
    seed: int = 0
    objective: Objective
    loss_options: LossOptions
    micro_batch: int
    pass_overhead_tokens: int = PASS_OVERHEAD_TOKENS
    body: BodyTraining | None = None

    def draw(self) -> StepBatch:
        """The batch as it is trained on: with the texts and the loss of ``body``, if any."""
        if self.body is None or not self.indices:
            return self
        data = self.body.draw(self.data, self.indices, derive_seed(self.seed, "body", self.step))
        objective = replace(self.objective, loss=self.body.loss)
        rows = range(len(self.indices))
        return replace(self, data=data, indices=rows, objective=objective, body=None)

    @property
    def weight(self) -> int:
        """The divisor of the summed loss: number of examples, or of their target tokens."""
        return self.objective.weight(self.data, self.indices)


@dataclass(frozen=True)
class MicroBatch:
    """The examples of one forward pass; ``part`` numbers those of a step: it seeds dropout."""

    data: Encoded
    indices: Sequence[int]
    part: int = 0


EVALUATION_EXAMPLES = 32
"""Examples of one evaluation pass."""


class PlainSplitter:
    """Decides which examples share a forward pass: here in their order."""

    def split_training(self, batch: StepBatch) -> list[MicroBatch]:
        """The passes of one optimizer step, of at most ``micro_batch`` examples."""
        return _cut(batch.data, batch.indices, batch.micro_batch)

    def split_evaluation(self, data: Encoded) -> list[MicroBatch]:
        """The passes over all examples."""
        return _cut(data, range(len(data.lengths)), EVALUATION_EXAMPLES)


@dataclass(frozen=True)
class Forward(ABC):
    """Runs examples through a model.

    Paths differ in speed, in rounding, and in the random numbers that dropout draws; in nothing
    else.

    Attributes:
        model: a ``transformers`` model with the method inside.
        context: tells the method what it must know of a pass.
        pad_id: padding is masked, so any token would do.
    """

    model: Any
    context: PassContext
    compute: Compute
    pad_id: int
    splitter: PlainSplitter

    @abstractmethod
    def __call__(self, batch: MicroBatch) -> Any:
        """The model's outputs for the examples.

        Logits, (examples, labels) or (examples, choices), in the order of ``indices``; of
        sequence-to-sequence the scores of the target tokens (``TokenOutputs``).
        """


class PlainForward(Forward):
    """Runs padded batches through a model."""

    def __call__(self, batch: MicroBatch) -> Any:
        """Logits, (examples, labels) or (examples, choices); of scored tokens, those of each."""
        padded = pad_batch(batch.data, batch.indices, self.pad_id)
        inputs = to_tensors(padded, self.compute.device)
        labels = inputs.pop("labels", None)
        if labels is None:
            return select_words(self.model(**inputs).logits, batch, padded["input_ids"].shape[-1])
        texts = [(i, c) for i in batch.indices for c in range(len(batch.data.ids[i]))]
        if batch.data.completion_starts is not None:
            inputs = {name: values.flatten(0, -2) for name, values in inputs.items()}
            logits = self.model(**inputs, use_cache=False).logits
            # The logits at a token score the next one. Those of virtual tokens are in front.
            of_text, labels = logits[:, -labels.shape[-1] :], labels.flatten(0, -2)
            return TokenLogits(of_text[:, :-1], labels[:, 1:], texts)
        inputs["decoder_input_ids"] = shift_right(self.model, labels)
        logits = self.model(**inputs, use_cache=False).logits
        return TokenLogits(logits, labels, texts)


def select_words(logits: Tensor, batch: MicroBatch, width: int) -> Tensor:
    """Select the logits of words from those of all tokens, (words, labels), where there are words.

    Args:
        width: tokens of a padded text; virtual tokens are in front of them.
    """
    if batch.data.word_places is None:
        return logits
    words = [(r, p) for r, i in enumerate(batch.indices) for p in batch.data.word_places[i]]
    rows, places = to_device(np.array(words, dtype=np.int64).reshape(-1, 2).T, logits.device)
    return logits[rows, places + logits.shape[1] - width]


def to_tensors(batch: Batch, device: str) -> dict[str, Tensor]:
    """A batch of arrays as tensors on a device."""
    return {name: to_device(array, device) for name, array in batch.items()}


def _cut(data: Encoded, indices: Sequence[int], size: int) -> list[MicroBatch]:
    starts = range(0, len(indices), size)
    return [MicroBatch(data, indices[i : i + size], part) for part, i in enumerate(starts)]
