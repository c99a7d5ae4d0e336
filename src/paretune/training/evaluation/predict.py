"""Outputs of models for encoded examples, in evaluation mode: logits, losses, generated texts.

The search is ``transformers`' own. Beams that have ended wait for the longest of their batch, so
sentences of similar length go together, the longest first, and a batch holds so many beams that the
matrix products are large and the waiting stays short (dev/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from paretune.data.batch import split_for_evaluation
from paretune.models.changes import evaluation_mode
from paretune.models.load import LoadedModel
from paretune.models.pass_context import PassContext
from paretune.objectives.encoding import Batch, Encoded, pad_batch
from paretune.objectives.objective import Collector, LogitsCollector
from paretune.study import Generation
from paretune.training.forward.passes import Compute, Forward, MicroBatch, to_tensors
from paretune.training.forward.select import device_kind, packing_disabled


def evaluate(
    forward: Forward,
    data: Encoded,
    make_collector: Callable[[Encoded], Collector] = LogitsCollector,
    passes: Sequence[MicroBatch] | None = None,
) -> Any:
    """Outputs for examples, as the collector has them.

    They are logits, (examples, labels), or the losses of target tokens. ``passes`` go over some of
    the examples; None: over all.
    """
    collector = make_collector(data)
    with evaluation_mode(forward.model), torch.inference_mode(), forward.compute.autocast():
        for batch in passes or forward.splitter.split_evaluation(data):
            collector.add(batch.indices, forward(batch))
    return collector.result()


BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Padded source tokens in one batch, all beams counted; on a GPU not measured."""
CACHED_TOKENS = {"cpu": 16384, "cuda": 131072}
"""Tokens of prompts and of what may follow them in one batch of a decoder, all beams counted: it
keeps the keys and values of all of them; on a GPU not measured."""


def generate(
    loaded: LoadedModel,
    context: PassContext,
    compute: Compute,
    data: Encoded,
    generation: Generation,
    stop: Sequence[str] = (),
    virtual_tokens: int = 0,
) -> list[str]:
    """One text for each example, in their order; may be empty.

    A target is one line; a prompt gets what follows it, without blanks at its ends.

    Args:
        stop: texts before which a completion ends; those of ``generation`` are added.
        virtual_tokens: of the method, which take positions too: a text ends where there are none
            left, before ``max_new_tokens``.
    """
    model: Any = loaded.model
    config: Any = loaded.generation_config(generation)
    beams = config.num_beams or 1
    ends = tuple(dict.fromkeys((*stop, *generation.stop)))
    texts = [""] * len(data.ids)
    kind = device_kind(compute.device)
    if data.completion_starts is None:
        lengths, most = [length * beams for length in data.source_lengths], BATCH_TOKENS[kind]
    else:
        prompts = [starts[0] for starts in data.completion_starts]
        lengths = [(length + generation.max_new_tokens) * beams for length in prompts]
        most = CACHED_TOKENS[kind]
    with (
        evaluation_mode(model),
        torch.inference_mode(),
        compute.autocast(),
        packing_disabled(loaded, context),
    ):
        for batch in split_for_evaluation(lengths, most):
            if data.completion_starts is None:
                padded = pad_batch(data, batch, loaded.pad_id)
                inputs = to_tensors(padded, compute.device)
                inputs.pop("labels", None)
                tokens = model.generate(**inputs, generation_config=config)
                decoded = loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
                completed = [" ".join(text.split()) for text in decoded]
            else:
                if loaded.anatomy.max_length is not None:
                    room = loaded.anatomy.max_length - virtual_tokens
                    room -= max(data.completion_starts[i][0] for i in batch)
                    config.max_new_tokens = max(1, min(generation.max_new_tokens, room))
                inputs = to_tensors(pad_prompts(data, batch, loaded.pad_id), compute.device)
                width = inputs["input_ids"].shape[1]
                stops = [StopAtText(loaded.tokenizer, ends, width)] if ends else []
                criteria = StoppingCriteriaList(stops)
                tokens = model.generate(
                    **inputs, generation_config=config, stopping_criteria=criteria
                )
                written = tokens[:, width:]
                decoded = loaded.tokenizer.batch_decode(written, skip_special_tokens=True)
                completed = [cut_at(text, ends).strip() for text in decoded]
            for index, text in zip(batch, completed, strict=True):
                texts[index] = text
    return texts


def pad_prompts(data: Encoded, indices: Sequence[int], pad_id: int) -> Batch:
    """Prompts of some examples, padded on the left: what follows them stands at one place.

    Returns:
        ``input_ids`` and ``attention_mask``, (batch, tokens).
    """
    if data.completion_starts is None:
        raise ValueError("these examples were encoded without completions")
    prompts = [data.ids[i][0][: data.completion_starts[i][0]] for i in indices]
    width = max(map(len, prompts))
    ids = np.full((len(prompts), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def cut_at(text: str, stop: Sequence[str]) -> str:
    """A text before the first of these that is in it; blanks before it do not count as its start.

    A model that begins a new line first has not ended for it.
    """
    start = len(text) - len(text.lstrip())
    places = [place for end in stop if (place := text.find(end, start)) >= 0]
    return text[: min(places)] if places else text


class StopAtText(StoppingCriteria):  # type: ignore[misc]
    """Ends each sequence that has written one of some texts, behind more than blanks.

    Args:
        width: tokens of the padded prompts.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], width: int) -> None:
        self._tokenizer, self._stop, self._width = tokenizer, tuple(stop), width

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Mark the sequences that have ended, (sequences,)."""
        texts = self._tokenizer.batch_decode(input_ids[:, self._width :], skip_special_tokens=True)
        ended = [cut_at(text, self._stop) != text for text in texts]
        return torch.tensor(ended, device=input_ids.device)
