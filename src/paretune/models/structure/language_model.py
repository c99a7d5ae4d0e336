"""What turns hidden states into scores of words, and what a decoder reads while it is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from paretune.objectives.collate import IGNORE_INDEX


def lm_head(model: Any) -> tuple[Tensor, Tensor | None]:
    """Weight (vocabulary, width) and bias (vocabulary,) or None of a model's LM head.

    The bias is added and never trained: a buffer of Marian, BART and mBART; M2M100 has none.
    """
    bias: Tensor | None = getattr(model, "final_logits_bias", None)
    return model.get_output_embeddings().weight, None if bias is None else bias[0]


def shift_right(model: Any, labels: Tensor) -> Tensor:
    """``decoder_input_ids`` for teacher forcing: before each target token the right one.

    Both (batch, target tokens), ``labels`` padded with -100.
    """
    prepare = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is not None:
        shifted: Tensor = prepare(labels=labels)
        return shifted
    # M2M100 keeps it to itself: the decoder's first token, then the others, one place later.
    config = model.config
    first = labels.new_full((len(labels), 1), config.decoder_start_token_id)
    shifted = torch.cat([first, labels[:, :-1]], 1)
    return shifted.masked_fill(shifted == IGNORE_INDEX, config.pad_token_id)
