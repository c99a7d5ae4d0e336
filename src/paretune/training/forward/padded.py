"""Padded forward passes of several runs.

Each run's micro-batch is that of the run alone, padded to the longest text of the pass. Dropout is
drawn for each run at its own length (:mod:`paretune.models.dropout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretune.methods.core.run_axis import Fleet
from paretune.models.dropout.rng import DropoutRng
from paretune.objectives.collate import pad_batch
from paretune.training.forward.micro_batch import MicroBatch, Splitter
from paretune.training.runs.run_config import Compute


@dataclass(frozen=True)
class PaddedForward:
    """Runs padded batches of several runs through a model."""

    model: Any
    fleet: Fleet
    compute: Compute
    pad_id: int
    splitter: Splitter
    dropout_rng: DropoutRng

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[Tensor]:
        """Logits of each run's examples: (examples, labels), or (examples, choices)."""
        batches = [
            pad_batch(one.data, one.indices, self.pad_id) if one.indices else {}
            for one in micro_batches
        ]
        lengths = [batch["input_ids"].shape[-1] if batch else 0 for batch in batches]
        sequences = [len(one.indices) * len(one.data.ids[0]) for one in micro_batches]
        # Tensors with one row for each run have rows of the runs in this pass only.
        self.fleet.set_row_counts(sequences, [min(1, own) for own in sequences])
        self.dropout_rng.begin_pass(self.dropout_rng.seeds, [sequences])
        self.dropout_rng.run_lengths = lengths
        present = [batch for batch in batches if batch]
        inputs = {
            name: torch.from_numpy(
                np.concatenate([self._lengthen(name, own[name], max(lengths)) for own in present])
            ).to(self.compute.device)
            for name in present[0]
        }
        logits: Tensor = self.model(**inputs).logits
        return list(torch.split(logits, [len(one.indices) for one in micro_batches]))

    def _lengthen(self, name: str, values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        fill = self.pad_id if name == "input_ids" else 0
        behind = [(0, 0)] * (values.ndim - 1) + [(0, length - values.shape[-1])]
        return np.pad(values, behind, constant_values=fill)
