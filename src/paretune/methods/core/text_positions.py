"""The positions of a decoder's tokens, and what a generation has in its cache.

``generate`` calls a decoder once for each new token, with all positions given; all calls but the
first read what came before from the cache. Elsewhere positions are left to the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def make_position_shift(
    virtual: Callable[[], int],
) -> Callable[[nn.Module, Any, dict[str, Any]], Any]:
    """A forward pre-hook of a base model that moves the text behind ``virtual()`` positions.

    So is the text behind a prefix of PEFT, which stands in the cache.
    """

    def shift(reader: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        kwargs = name_arguments(reader, args, kwargs)
        positions = kwargs.get("position_ids")
        if positions is None:
            positions = find_text_positions(kwargs)
        kwargs["position_ids"] = positions + virtual()
        return (), kwargs

    return shift


def name_arguments(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a forward pass, all by their names."""
    names = inspect.signature(module.forward).parameters
    return dict(zip(names, args, strict=False)) | kwargs


def count_cached(kwargs: Mapping[str, Any]) -> int:
    """Tokens in the cache of a generation before this call; 0 where there is no cache."""
    # By the name that transformers had up to 5.23, or by the present one.
    caches = (kwargs.get(name) for name in ("cache", "past_key_values"))
    return next((int(cache.get_seq_length()) for cache in caches if cache is not None), 0)


def find_text_positions(kwargs: Mapping[str, Any], not_of_text: int = 0) -> Tensor:
    """The positions of the tokens of this call, as ``generate`` counts them; (rows or 1, tokens).

    Padding has none: tokens are counted by the mask, where there is one.

    Args:
        not_of_text: how many of the tokens in the cache are not counted, nor in the mask.
    """
    ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
    read = kwargs["inputs_embeds"] if ids is None else ids
    tokens = read.shape[1]
    if mask is not None and mask.ndim == 2:
        counted: Tensor = mask.long().cumsum(-1) - 1
        return counted.clamp(min=0)[:, -tokens:]
    before = max(0, count_cached(kwargs) - not_of_text)
    return torch.arange(before, before + tokens, device=read.device)[None]
