"""Packed forward passes of encoder-decoder models: rows of sources, and rows of targets.

The decoder is given the right token before each token of a target (teacher forcing), and its last
hidden states come back with the LM head, so that nobody holds the logits of all tokens at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretune.methods.core.run_axis import Fleet
from paretune.models.structure.language_model import lm_head, shift_right
from paretune.objectives.collate import IGNORE_INDEX, pad_batch
from paretune.objectives.token_outputs import TokenStates
from paretune.training.forward.micro_batch import MicroBatch, Splitter
from paretune.training.forward.packed import pack_inputs, packing_of, row_counts
from paretune.training.optimisation.precision import Compute


@dataclass(frozen=True)
class PackedSeq2SeqForward:
    """Runs packed batches of one or several runs through an encoder and a decoder.

    Args:
        model: packed (:func:`paretune.training.forward.select.enable_packing`).
        fleet: with the packing.
        compute: device and precision.
        splitter: decides which examples share a pass.
    """

    model: Any
    fleet: Fleet
    compute: Compute
    splitter: Splitter

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[TokenStates]:
        """Hidden states of the target tokens of each run, in the order of the packed rows."""
        device = self.compute.device
        texts, source = pack_inputs(micro_batches, self.fleet, device)
        if is_ambiguous(row_counts(packing_of(self.fleet))):
            return self._run_one_by_one(micro_batches)
        before, targets = [], []
        for batch, own in zip(micro_batches, texts, strict=True):
            if not own:
                targets.append(_no_tokens(device))
                continue
            # Padded, because the model itself knows how targets begin.
            padded = pad_batch(batch.data, [i for i, _ in own], 0)["labels"]
            labels = torch.from_numpy(padded).to(device)
            # On the CPU: the number of set elements of a GPU's mask would have to be copied back.
            real = torch.from_numpy(np.flatnonzero(padded != IGNORE_INDEX)).to(device)
            before.append(shift_right(self.model, labels).flatten().index_select(0, real))
            targets.append(labels.flatten().index_select(0, real))
        hidden: Tensor = self.model.base_model(
            **source, decoder_input_ids=torch.cat(before)[:, None], use_cache=False
        ).last_hidden_state[:, 0]
        pieces = torch.split(hidden, [len(tokens) for tokens in targets])
        return [
            self._states(hidden, tokens, [i for i, _ in own])
            for hidden, tokens, own in zip(pieces, targets, texts, strict=True)
        ]

    def _run_one_by_one(self, micro_batches: Sequence[MicroBatch]) -> list[TokenStates]:
        """Each run in a pass of its own, because row counts alone tell which run a row is of."""
        device = self.compute.device
        states = []
        for run, own in enumerate(micro_batches):
            alone = [
                one if r == run else MicroBatch(one.data) for r, one in enumerate(micro_batches)
            ]
            if own.indices:
                states.append(self(alone)[run])
            else:
                no_rows = torch.empty(0, 1, device=device)
                states.append(self._states(no_rows, _no_tokens(device), ()))
        return states

    def _states(self, hidden: Tensor, tokens: Tensor, examples: Sequence[int]) -> TokenStates:
        return TokenStates(hidden, *lm_head(self.model), tokens, examples)


def is_ambiguous(row_counts: Sequence[Sequence[int]]) -> bool:
    """Whether two divisions of rows among runs have equal totals, but not equal counts."""
    return any(
        sum(one) == sum(other) and list(one) != list(other)
        for place, one in enumerate(row_counts)
        for other in row_counts[:place]
    )


def _no_tokens(device: str) -> Tensor:
    return torch.empty(0, dtype=torch.long, device=device)
