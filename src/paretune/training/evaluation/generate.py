"""Translations by beam search, batched with sources of similar length.

The search is ``transformers``' own. Beams that have ended wait for the longest of their batch, so
sentences of like length go together, the longest first, and a batch holds so many beams that the
products are large and the waiting stays short (docs/log.md).
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from paretune.data.batch import split_for_evaluation
from paretune.methods.core.run_axis import Fleet
from paretune.models.load import LoadedModel
from paretune.objectives.encoding import Encoded
from paretune.study import Generation
from paretune.training.forward.packed import packing_disabled
from paretune.training.objective import collate_tensors
from paretune.training.precision import autocast

BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Padded source tokens in one batch, all beams counted; on a GPU not measured."""


def generate(
    loaded: LoadedModel,
    encoded: Encoded,
    generation: Generation,
    *,
    fleet: Fleet,
    pad_id: int,
    device: str,
    precision: Literal["fp32", "bf16"],
) -> list[str]:
    """One translation of each source, in their order; may be empty, never has a line break."""
    model: Any = loaded.model
    settings = generation_config(loaded, generation)
    was_training = model.training
    model.eval()
    found = [""] * len(encoded.ids)
    lengths = [length * settings.num_beams for length in encoded.source_lengths]
    with torch.inference_mode(), autocast(device, precision), packing_disabled(loaded, fleet):
        for batch in split_for_evaluation(
            lengths, BATCH_TOKENS["cpu" if device == "cpu" else "cuda"]
        ):
            fleet.set_row_counts([len(batch)])
            given = collate_tensors(encoded, batch, pad_id, device)
            given.pop("labels", None)
            tokens = model.generate(**given, generation_config=settings)
            texts = loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for index, text in zip(batch, texts, strict=True):
                found[index] = " ".join(text.split())
    model.train(was_training)
    return found


def generation_config(loaded: LoadedModel, generation: Generation) -> Any:
    """The checkpoint's own search (a ``GenerationConfig``) with what the study asks for."""
    from transformers import GenerationConfig

    own = loaded.model.generation_config.to_dict()
    # The first token is given; a checkpoint's own max_length would stand beside max_new_tokens.
    longest = generation.max_new_tokens + 1
    longest = min(longest, loaded.anatomy.max_length or longest)  # the decoder's positions
    own |= {"max_length": longest, "max_new_tokens": None, "do_sample": False}
    if generation.num_beams is not None:
        own["num_beams"] = generation.num_beams
    if generation.length_penalty is not None:
        own["length_penalty"] = generation.length_penalty
    if loaded.direction is not None and loaded.direction.forced_bos_token_id is not None:
        own["forced_bos_token_id"] = loaded.direction.forced_bos_token_id
    return GenerationConfig.from_dict(own)
