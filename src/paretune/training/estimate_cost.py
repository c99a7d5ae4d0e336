"""How much a run will do and hold, from the model's shape and the texts' lengths.

Operations: 2 N T for the forward pass of T tokens through N backbone parameters, 2 N T for the
gradient to the inputs, and 2 N T for the gradient to the weights where they are trained (Kaplan et
al. 2020, arXiv:2001.08361, section 2.1). Bytes: weights; gradients and AdamW's two moments of what
is trained, and outside the cost probe the best weights so far; what a layer keeps for each token
until the backward pass, attention and, of a translation, the scores of all words beside.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from paretune import methods
from paretune.data.batch import NEVER_SPLIT, split_by_count, split_by_length
from paretune.measuring.compute_cost import ComputeCost
from paretune.methods import Trains
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import can_pack
from paretune.objectives.losses.chunked_cross_entropy import chunk_tokens
from paretune.study import Run
from paretune.training.prepare import pass_tokens

PASS_OPERATIONS = {
    Trains.EVERYTHING: 6.0,
    Trains.ADAPTER: 4.0,
    Trains.HEAD: 2.0,
    Trains.NOTHING: 4.0,
}
"""Operations for each parameter of the backbone and token in one step."""
SAVED_WIDTHS = {Trains.EVERYTHING: 20, Trains.ADAPTER: 16, Trains.HEAD: 16, Trains.NOTHING: 16}
"""Values of the layer's width that a layer keeps for each token until the backward pass."""


@dataclass(frozen=True)
class ModelShape:
    """A model before a method is inside.

    ``total_parameters`` in all its tensors, ``backbone_parameters`` without its table of words;
    ``vocabulary`` is 0
    where no words are chosen. ``can_pack``: batches go through it whole, without padding.
    """

    weights_bytes: int
    total_parameters: int
    backbone_parameters: int
    width: int
    layers: int
    heads: int
    vocabulary: int
    packs: bool


def measure_shape(loaded: LoadedModel) -> ModelShape:
    """The shape of a model as it was loaded."""
    model, width = loaded.model, loaded.anatomy.width
    numbers = sum(p.numel() for p in model.parameters())
    table = model.get_input_embeddings().weight.numel()
    heads = getattr(model.config, "num_attention_heads", None) or max(1, width // 64)
    return ModelShape(
        weights_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        total_parameters=numbers,
        backbone_parameters=int(numbers - table),
        width=width,
        layers=len(loaded.anatomy.layers),
        heads=int(heads),
        vocabulary=loaded.anatomy.topology.scored_vocabulary(model),
        packs=can_pack(model),
    )


def estimate_cost(
    run: Run,
    shape: ModelShape,
    trained: int,
    lengths: Sequence[int],
    choices: int,
    device: str = "cpu",
) -> ComputeCost:
    """Of one run.

    Args:
        run: its method, batch, precision and stage count.
        shape: of its model.
        trained: numbers that training moves, head included.
        lengths: tokens of the training texts' longest choices, cut; of a translation both texts.
        choices: texts of one example.
        device: where it computes, which decides how its batch is cut.
    """
    batch = min(run.training.batch_size, len(lengths))
    longest = sorted(lengths)[-batch:]
    mean = statistics.mean(longest if run.stage == "cost" else lengths)
    # Of a translation's tokens half go through the encoder and half through the decoder, whose
    # output is laid beside every word.
    half = 2 if shape.vocabulary else 1
    a_token = (shape.backbone_parameters + shape.width * shape.vocabulary) / half
    passes = PASS_OPERATIONS[methods.configure_method(run.method).trains]
    # The best weights so far, which the probe does not keep, nor any run on a GPU.
    copies = 3 if run.stage == "cost" or device != "cpu" else 4
    return ComputeCost(
        operations=passes * a_token * mean * choices * batch,
        held_bytes=shape.weights_bytes + 4 * copies * trained,
        saved_bytes=_saved_bytes(run, shape, trained, longest, choices, device),
    )


def _saved_bytes(
    run: Run, shape: ModelShape, trained: int, longest: Sequence[int], choices: int, device: str
) -> int:
    """Of the largest pass that the batch of the longest texts is cut into."""
    rows = min(run.training.micro_batch or len(longest), len(longest))
    tokens, length = rows * longest[-1], longest[-1]
    if not shape.packs:  # a padded batch is cut where that is faster
        alone = pass_tokens(trained, max(trained, shape.total_parameters), device)
        if alone == NEVER_SPLIT:
            cut = split_by_count(longest, range(len(longest)), rows)
        else:
            cut = split_by_length(longest, range(len(longest)), rows, max(1, alone // choices))
        tokens, length = max((len(one) * longest[one[0]], longest[one[0]]) for one in cut)
    half = 2 if shape.vocabulary else 1
    trains = methods.configure_method(run.method).trains
    width = SAVED_WIDTHS[trains] * shape.width
    # Of a frozen backbone below a head nothing is kept but what one layer computes with.
    kept = 1 if trains is Trains.HEAD else shape.layers
    value = 2 if run.training.precision == "bf16" else 4
    layers = kept * tokens * choices / half * (width + 2 * shape.heads * length / half)
    # Scores of all words and their gradient, in fp32; where batches are packed, a piece at a time.
    scored = tokens / half
    if shape.packs and shape.vocabulary:
        scored = min(scored, chunk_tokens(shape.vocabulary, device))
    return int(value * layers + 8 * scored * shape.vocabulary)
