"""Padded batches of token ids, as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paretune.objectives.encoding import Encoded

Batch = dict[str, np.ndarray[Any, np.dtype[np.int64]]]
"""Model inputs by the names that transformers gives them."""

IGNORE_INDEX = -100
"""Where a batch of targets has no token; torch's losses ignore it."""


def pad_batch(data: Encoded, indices: Sequence[int], pad_id: int) -> Batch:
    """One batch, padded on the right to its own longest text.

    Returns:
        ``input_ids``, ``attention_mask``, and ``token_type_ids`` where the model has them (padded
        with 0): (batch, tokens), or (batch, choices, tokens) for several choices. With targets
        also ``labels``, (batch, target tokens), padded with -100.
    """
    choices = len(data.ids[indices[0]])
    longest = max(len(tokens) for i in indices for tokens in data.ids[i])
    shape = (len(indices), choices, longest)
    ids, mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    types = None if data.type_ids is None else np.zeros(shape, dtype=np.int64)
    for row, i in enumerate(indices):
        for c, tokens in enumerate(data.ids[i]):
            ids[row, c, : len(tokens)] = tokens
            mask[row, c, : len(tokens)] = 1
            if types is not None and data.type_ids is not None:
                types[row, c, : len(tokens)] = data.type_ids[i][c]
    batch = {"input_ids": ids, "attention_mask": mask}
    if types is not None:
        batch["token_type_ids"] = types
    if choices == 1:
        batch = {name: array[:, 0] for name, array in batch.items()}
    if data.targets is not None:
        width = max(len(data.targets[i]) for i in indices)
        batch["labels"] = np.full((len(indices), width), IGNORE_INDEX, dtype=np.int64)
        for row, i in enumerate(indices):
            batch["labels"][row, : len(data.targets[i])] = data.targets[i]
    return batch
