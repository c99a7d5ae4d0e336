"""The head of a decoder reads the last token of each text that is no padding.

``transformers`` looks for the last token whose id is not the padding's. Many decoders have no
padding token and are padded with the one that ends a text, so that it passes over the end of a text
that has one; of a text of nothing else it reads the first token; with virtual tokens in front,
hidden states are longer than the ids; and given embeddings it reads the last place, padding or not.
Here the attention mask tells, counted from the end of the hidden states, so that none of that
matters and texts may be padded on either side.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput


def read_last_token(model: Any) -> None:
    """Let a decoder with a classifier (``score``) score the last real token of each text.

    Afterwards it takes inputs of (texts, tokens) and gives logits of (texts, labels); of
    (examples, choices, tokens), as multiple choice has them, (examples, choices).
    """
    model.forward = partial(_score_last_token, model)


def last_token_places(mask: Tensor | None, hidden: Tensor) -> Tensor:
    """The place of the last token that ``mask`` counts, in hidden states that may be longer.

    Shapes: ``mask`` (texts, tokens) or None, ``hidden`` (texts, tokens or more, width) ->
    (texts,). What is longer in front (virtual tokens) is counted; of a text that has no token at
    all it is the last place.
    """
    last = hidden.shape[1] - 1
    if mask is None:
        return torch.full((len(hidden),), last, device=hidden.device)
    padding_behind = mask.flip(-1).long().argmax(-1)  # argmax: the first of the largest
    return last - padding_behind.to(hidden.device)


def _score_last_token(
    model: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    **inputs: Any,
) -> SequenceClassifierOutput:
    choices = 0
    if input_ids is not None and input_ids.ndim == 3:
        choices = input_ids.shape[1]
        input_ids = input_ids.flatten(0, 1)
        if attention_mask is not None:
            attention_mask = attention_mask.flatten(0, 1)
        inputs = {
            name: value.flatten(0, 1) if torch.is_tensor(value) and value.ndim == 3 else value
            for name, value in inputs.items()
        }
    labels = inputs.pop("labels", None)
    if labels is not None:
        raise TypeError("the objective has the loss: call the model without labels")
    inputs.setdefault("use_cache", False)
    # A model's own return_dict=False would give a tuple, and is nobody's wish here.
    inputs.pop("return_dict", None)
    hidden = model.base_model(input_ids=input_ids, attention_mask=attention_mask, **inputs)[0]
    places = last_token_places(attention_mask, hidden)
    pooled = hidden[torch.arange(len(hidden), device=hidden.device), places]
    logits: Tensor = model.score(pooled)
    return SequenceClassifierOutput(logits=logits.view(-1, choices) if choices else logits)
