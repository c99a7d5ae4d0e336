"""How much a run will compute and keep, from the model's shape and the lengths of the texts.

Operations: 2 N T for the forward pass of T tokens through N backbone parameters, 2 N T for the
gradient of the inputs, and 2 N T for the gradient of the weights where they are trained (Kaplan et
al. 2020, arXiv:2001.08361, section 2.1). Bytes: weights; gradients and AdamW's two moments of what
is trained, and outside the cost probe the best weights so far; what a layer saves for each token
until the backward pass, attention and, where words are scored, their scores.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from paretune import methods
from paretune.data.batch import (
    NEVER_SPLIT,
    pass_overhead_tokens,
    split_by_count,
    split_by_length,
)
from paretune.measuring.compute_cost import ComputeCost
from paretune.methods import Trains
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import can_pack
from paretune.objectives.losses.chunked_cross_entropy import chunk_tokens
from paretune.study import Run

PASS_OPERATIONS = {
    Trains.EVERYTHING: 6.0,
    Trains.ADAPTER: 4.0,
    Trains.HEAD: 2.0,
    Trains.NOTHING: 4.0,
}
"""Operations of one step for each backbone parameter and token."""
SAVED_WIDTHS = {Trains.EVERYTHING: 20, Trains.ADAPTER: 16, Trains.HEAD: 16, Trains.NOTHING: 16}
"""Vectors of the layer's width that a layer saves for each token until the backward pass."""


@dataclass(frozen=True)
class ModelShape:
    """A model before a method is in it.

    Attributes:
        backbone_parameters: without its word embeddings.
        vocabulary: words that it scores for each target token; 0 where it scores none.
        stacks: among which the tokens of an example are divided.
    """

    weights_bytes: int
    total_parameters: int
    backbone_parameters: int
    width: int
    layers: int
    heads: int
    vocabulary: int
    packs: bool
    stacks: int = 1


def measure_shape(loaded: LoadedModel) -> ModelShape:
    """The shape of a model as it was loaded."""
    model, width = loaded.model, loaded.anatomy.width
    total = sum(p.numel() for p in model.parameters())
    embeddings = model.get_input_embeddings().weight.numel()
    heads = getattr(model.config, "num_attention_heads", None) or max(1, width // 64)
    return ModelShape(
        weights_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        total_parameters=total,
        backbone_parameters=int(total - embeddings),
        width=width,
        layers=len(loaded.anatomy.layers),
        heads=int(heads),
        vocabulary=loaded.anatomy.topology.scored_vocabulary(model),
        packs=can_pack(model),
        stacks=len(loaded.anatomy.stacks),
    )


def estimate_compute_cost(
    run: Run,
    shape: ModelShape,
    trained: int,
    lengths: Sequence[int],
    choices: int,
    device: str = "cpu",
) -> ComputeCost:
    """What one run computes and keeps.

    Args:
        trained: number of trained parameters, the head's included.
        lengths: tokens of the training examples' longest choices, truncated, targets included.
    """
    batch = min(run.training.batch_size, len(lengths))
    longest = sorted(lengths)[-batch:]
    mean = statistics.mean(longest if run.stage == "cost" else lengths)
    # Each token goes through one of the stacks; the last one's hidden states score every word.
    per_token = (shape.backbone_parameters + shape.width * shape.vocabulary) / shape.stacks
    passes = PASS_OPERATIONS[methods.configure_method(run.method).trains]
    # The best weights so far, which the probe does not keep, nor any run on a GPU.
    copies = 3 if run.stage == "cost" or device != "cpu" else 4
    return ComputeCost(
        operations=passes * per_token * mean * choices * batch,
        held_bytes=shape.weights_bytes + 4 * copies * trained,
        saved_bytes=_saved_bytes(run, shape, trained, longest, choices, device),
    )


def _saved_bytes(
    run: Run, shape: ModelShape, trained: int, longest: Sequence[int], choices: int, device: str
) -> int:
    """Of the largest pass that the batch of the longest texts is split into."""
    rows = min(run.training.micro_batch or len(longest), len(longest))
    tokens, length = rows * longest[-1], longest[-1]
    plain = run.training.backend == "plain"
    if not shape.packs and not plain:  # a padded batch is split where that is faster
        overhead = pass_overhead_tokens(trained, max(trained, shape.total_parameters), device)
        if overhead == NEVER_SPLIT:
            passes = split_by_count(longest, range(len(longest)), rows)
        else:
            overhead = max(1, overhead // choices)
            passes = split_by_length(longest, range(len(longest)), rows, overhead)
        tokens, length = max((len(one) * longest[one[0]], longest[one[0]]) for one in passes)
    trains = methods.configure_method(run.method).trains
    # Below a trained head nothing is saved but what one layer computes with.
    layers = 1 if trains is Trains.HEAD else shape.layers
    value_bytes = 2 if run.training.precision == "bf16" else 4
    vectors = SAVED_WIDTHS[trains] * shape.width
    scores = 2 * shape.heads * length / shape.stacks
    saved = value_bytes * (layers * tokens * choices / shape.stacks * (vectors + scores))
    # Scores of all words and their gradient, in fp32; where batches are packed, a chunk at a time.
    scored = tokens / shape.stacks
    if shape.packs and shape.vocabulary and not plain:
        scored = min(scored, chunk_tokens(shape.vocabulary, device))
    return int(saved + 8 * scored * shape.vocabulary)
