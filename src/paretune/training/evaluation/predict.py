"""Outputs of models for encoded examples, in evaluation mode: logits, losses, generated texts.

The search is ``transformers`' own. Beams that have ended wait for the longest of their batch, so
sentences of similar length go together, the longest first, and a batch holds so many beams that the
matrix products are large and the waiting stays short (dev/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from paretune.data.batch import split_for_evaluation
from paretune.methods.core.run_axis import Fleet
from paretune.models.load import LoadedModel
from paretune.objectives.encoding import Encoded, pad_batch
from paretune.objectives.logits import LogitsCollector
from paretune.objectives.objective import Collector
from paretune.study import Generation
from paretune.training.forward.micro_batch import Forward
from paretune.training.forward.plain import to_tensors
from paretune.training.forward.select import packing_disabled
from paretune.training.forward.splitting import device_kind
from paretune.training.runs.run_config import Compute


def evaluate(
    forward: Forward,
    data: Sequence[Encoded | None],
    make_collector: Callable[[Encoded], Collector],
) -> list[Any]:
    """Outputs of each run for its examples, all runs in the same passes; None: it is not evaluated.

    Logits, (examples, labels), or the losses of target tokens, as the run's collector has them.
    """
    collectors = [None if own is None else make_collector(own) for own in data]
    was_training = forward.model.training
    forward.model.eval()
    with torch.inference_mode(), forward.compute.autocast():
        for micro_batches in forward.splitter.split_evaluation(data):
            outputs = forward(micro_batches)
            for collector, batch, own in zip(collectors, micro_batches, outputs, strict=True):
                if collector is not None and batch.indices:
                    collector.add(batch.indices, own)
    forward.model.train(was_training)
    return [None if collector is None else collector.result() for collector in collectors]


def evaluate_alone(
    forward: Forward,
    data: Encoded,
    make_collector: Callable[[Encoded], Collector] = LogitsCollector,
) -> Any:
    """Outputs of a run alone; see :func:`evaluate`."""
    return evaluate(forward, [data], make_collector)[0]


BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Padded source tokens in one batch, all beams counted; on a GPU not measured."""


def generate(
    loaded: LoadedModel, fleet: Fleet, compute: Compute, data: Encoded, generation: Generation
) -> list[str]:
    """One text for each source, in their order; may be empty, never has a line break."""
    model: Any = loaded.model
    config: Any = loaded.generation_config(generation)
    was_training = model.training
    model.eval()
    texts = [""] * len(data.ids)
    lengths = [length * config.num_beams for length in data.source_lengths]
    with torch.inference_mode(), compute.autocast(), packing_disabled(loaded, fleet):
        for batch in split_for_evaluation(lengths, BATCH_TOKENS[device_kind(compute.device)]):
            fleet.set_row_counts([len(batch)])
            padded = pad_batch(data, batch, loaded.anatomy.pad_id or 0)
            inputs = to_tensors(padded, compute.device)
            inputs.pop("labels", None)
            tokens = model.generate(**inputs, generation_config=config)
            decoded = loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for index, text in zip(batch, decoded, strict=True):
                texts[index] = " ".join(text.split())
    model.train(was_training)
    return texts
