"""How much a run will compute and keep, from the model's shape and the lengths of the texts.

Operations: 2 N T for the forward pass of T tokens through N backbone parameters, 2 N T for the
gradient of the inputs, and 2 N T for the gradient of the weights where they are trained (Kaplan et
al. 2020, arXiv:2001.08361, section 2.1); what scores words counts for the scored tokens alone.
Below the lowest trained layer there is no backward pass: with l of L layers below, the gradient of
the inputs is 2 N T (L - l) / L; and no forward pass where activations are kept from epoch to epoch.
What an adapter has of its own counts three times, as what is trained.
Bytes: weights; gradients and AdamW's two moments of what is trained, and outside the cost probe the
best weights so far; what a layer above the lowest trained one saves for each token until the
backward pass, attention and, where words are scored, their scores.

Bytes moved: what lies between the products (normalisations, activations, dropout, residual sums,
casts, and the optimiser) reads and writes memory, as many passes over what a layer saves and over
what is trained as fit measured steps (``bench/step_seconds.py``).

What an encoder's layer saves is a rule of thumb, a multiple of its width. Decoders differ too much
for one: by the width of their feed-forward part, by gates, by the number of key and value heads.
There the numbers are counted from the layer's modules (:class:`SavedValues`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from paretune import methods
from paretune.data.batch import (
    NEVER_SPLIT,
    pass_overhead_tokens,
    split_by_count,
    split_by_length,
    split_packed,
)
from paretune.measuring.training_step import count_weight_bytes
from paretune.methods import Trains
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import can_pack
from paretune.models.quantised import count_parameters
from paretune.objectives.chunked_cross_entropy import chunk_tokens
from paretune.store.record import ComputeCost
from paretune.study import Run

TRAINED_OPERATIONS = 6.0
"""Operations of one step for each trained parameter and token."""
SAVED_WIDTHS = {Trains.EVERYTHING: 20, Trains.ADAPTER: 14.5, Trains.HEAD: 16, Trains.NOTHING: 16}
"""Vectors of the layer's width that a layer saves for each token until the backward pass.

Beside an adapter without what that saves (``Method.saved_widths``)."""
FORWARD_PASSES, BACKWARD_PASSES, OPTIMIZER_PASSES = 9, 18, 18
"""Passes of a step over the numbers that a layer saves, and over what is trained, all as fp32."""
SEARCH_OPERATIONS = 6
"""Words in a pass that take as long as one of a beam (Marian, four beams, Zen 3: 5 to 8)."""


@dataclass(frozen=True)
class TrainedPart:
    """What a run trains of a model.

    Attributes:
        parameters: all of them, the head's included.
        token_parameters: of these, those of an adapter that every token goes through.
        layers_below: layers below everything that is trained.
        skips_below: whether these are computed once for all epochs.
        saved_widths: vectors of the width that adapters save for each token, all layers together.
    """

    parameters: int
    token_parameters: int = 0
    layers_below: int = 0
    skips_below: bool = False
    saved_widths: float = 0.0


def describe_trained_part(
    run: Run, loaded: LoadedModel, parameters: int, *, skips_below: bool = False
) -> TrainedPart:
    """What a run trains of a model; ``parameters``: how many, the head's included."""
    method, anatomy = methods.configure_method(run.method), loaded.anatomy
    below, through, saved = method.count_layers_below(anatomy), 0, 0.0
    if method.trains is Trains.ADAPTER:
        saved = method.sum_saved_widths(anatomy)
        if not method.method.counts_by_wrapping:
            through = method.count_token_parameters(loaded.model, anatomy)
    return TrainedPart(parameters, through, below, skips_below, saved)


@dataclass(frozen=True)
class SavedValues:
    """How many numbers a decoder's layer saves for each token until the backward pass.

    Attributes:
        wide: inputs of normalisations, which compute in fp32, and four vectors of the residual
            stream, which is in fp32 (counted on Gemma 3 and SmolLM2, dev/log.md).
        narrow: query, keys, values and output of attention, and what the activation and the gate of
            the feed-forward part save; in the precision of products.
        inputs: those of linear layers, which the gradients of their weights need.
        computed_again: of these, what packed batches do not keep: that of the last matrix of a
            gated feed-forward part.
        width: input of an adapter.
    """

    wide: int
    narrow: int
    inputs: int
    computed_again: int
    width: int


@dataclass(frozen=True)
class ModelShape:
    """A model before a method is in it.

    Attributes:
        backbone_parameters: without its word embeddings, and without what scores words.
        vocabulary: words that it scores for each target token; 0 where it scores none.
        stacks: among which the tokens of an example are divided.
        saved: what a layer saves; None: a multiple of its width.
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
    saved: SavedValues | None = None


def measure_shape(loaded: LoadedModel) -> ModelShape:
    """The shape of a model as it was loaded."""
    model, width = loaded.model, loaded.anatomy.width
    total = count_parameters(model)
    tables = {
        t.weight
        for t in (model.get_input_embeddings(), model.get_output_embeddings())
        if t is not None
    }
    embeddings = sum(table.numel() for table in tables)
    heads = getattr(model.config, "num_attention_heads", None) or max(1, width // 64)
    return ModelShape(
        weights_bytes=count_weight_bytes(model),
        total_parameters=total,
        backbone_parameters=int(total - embeddings),
        width=width,
        layers=len(loaded.anatomy.layers),
        heads=int(heads),
        vocabulary=loaded.anatomy.topology.scored_vocabulary(model),
        packs=can_pack(model),
        stacks=len(loaded.anatomy.stacks),
        saved=_count_saved_values(loaded),
    )


def _count_saved_values(loaded: LoadedModel) -> SavedValues | None:
    """Of the first layer of a decoder, which the others are like."""
    layer, model = loaded.anatomy.layers[0], loaded.model
    if layer.stack != "decoder" or len(loaded.anatomy.stacks) > 1:
        return None

    def linear(name: str) -> nn.Linear:
        module = model.get_submodule(name)
        assert isinstance(module, nn.Linear)  # noqa: S101  (the anatomy names linear layers)
        return module

    attention, width = layer.self_attention, loaded.anatomy.width
    query = linear(attention.output).in_features
    projected = {attention.query, attention.key, attention.value}
    keys_and_values = sum(linear(name).out_features for name in projected) - query
    inner = linear(layer.down).in_features
    is_gated = sum(linear(name).out_features for name in layer.up) > inner
    vectors = [
        module.weight.numel()
        for module in model.get_submodule(layer.name).modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim == 1
    ]
    # Norms of query and key (Qwen3, Gemma 3) have the weights of one head, for all of them.
    heads = query + keys_and_values // 2 if any(size < width for size in vectors) else 0
    return SavedValues(
        wide=4 * width + sum(size for size in vectors if size >= width) + heads,
        narrow=2 * query + keys_and_values + (3 if is_gated else 2) * inner,
        inputs=2 * width + inner,
        computed_again=inner if is_gated else 0,
        width=width,
    )


def estimate_compute_cost(
    run: Run,
    shape: ModelShape,
    trained: TrainedPart,
    lengths: Sequence[int],
    choices: int,
    device: str = "cpu",
    scored: float | None = None,
) -> ComputeCost:
    """What one run computes and keeps.

    Args:
        lengths: tokens of the training examples' longest choices, truncated, targets included.
        scored: tokens of an example whose words are scored; None: those of one of the stacks.
    """
    method, batch = methods.configure_method(run.method), min(run.training.batch_size, len(lengths))
    body = method.method.body_training
    choices *= 1 if body is None else body.texts_per_row
    longest = sorted(lengths)[-batch:]
    mean = statistics.mean(longest if run.stage == "cost" else lengths)
    # Each token goes through one of the stacks.
    tokens = mean * choices / shape.stacks
    scored = tokens if scored is None else scored
    products = shape.backbone_parameters * tokens + shape.width * shape.vocabulary * scored
    trains = method.trains
    above = 1 - trained.layers_below / shape.layers
    passes = 2.0 * above + 2.0 * (above if trained.skips_below else 1)
    passes = TRAINED_OPERATIONS if trains is Trains.EVERYTHING else passes
    own_products = TRAINED_OPERATIONS * trained.token_parameters * tokens
    backward = above if trains in (Trains.EVERYTHING, Trains.ADAPTER) else 0.0
    forward = above if trained.skips_below else 1.0
    moved = shape.layers * (FORWARD_PASSES * forward + BACKWARD_PASSES * backward)
    moved *= _bytes_of_token(run, shape, mean) / _value_bytes(run) * tokens * batch
    # The best weights so far, which the probe does not keep, nor any run on a GPU.
    copies = 3 if run.stage == "cost" or device != "cpu" else 4
    return ComputeCost(
        operations=(passes * products + own_products) * batch,
        held_bytes=shape.weights_bytes + 4 * copies * trained.parameters,
        saved_bytes=_saved_bytes(
            run, shape, trained, longest, choices, device, scored / max(1.0, tokens)
        ),
        moved_bytes=int(4 * (moved + OPTIMIZER_PASSES * trained.parameters)),
    )


def estimate_evaluation_cost(
    run: Run, shape: ModelShape, lengths: Sequence[int], choices: int, scored: float, beams: int = 0
) -> ComputeCost:
    """What answering one example computes: by one pass, or by a search with ``beams``.

    Arguments are those of :func:`estimate_compute_cost`. Answers that share a prompt read it once,
    so label words count as one of them. Nothing is kept.
    """
    mean = statistics.mean(lengths)
    searched = max(0.0, SEARCH_OPERATIONS * beams - 1) * scored  # beyond what one pass reads
    tokens = (mean * choices + searched) / shape.stacks
    products = shape.backbone_parameters * tokens
    products += shape.width * shape.vocabulary * (scored + searched)
    numbers = _bytes_of_token(run, shape, mean) / _value_bytes(run) * tokens * shape.layers
    return ComputeCost(2 * products, 0, 0, moved_bytes=int(4 * FORWARD_PASSES * numbers))


def _value_bytes(run: Run) -> int:
    """Of a number in the precision of products."""
    return 2 if run.training.precision == "bf16" else 4


def _bytes_of_token(run: Run, shape: ModelShape, length: float) -> float:
    """What a layer saves for each token of a text of ``length`` tokens."""
    trains, value_bytes = methods.configure_method(run.method).trains, _value_bytes(run)
    plain, saved = run.training.backend == "plain", shape.saved
    if saved is None:
        scores = 2 * shape.heads * length / shape.stacks
        return value_bytes * (SAVED_WIDTHS[trains] * shape.width + scores)
    # Attention keeps no scores: it computes them again.
    scores = 2 * shape.heads * length * value_bytes if plain else 0
    trained = saved.width
    if trains is Trains.EVERYTHING:
        trained = saved.inputs - (saved.computed_again if shape.packs and not plain else 0)
    return 4 * saved.wide + value_bytes * (saved.narrow + trained) + scores


def _saved_bytes(
    run: Run,
    shape: ModelShape,
    part: TrainedPart,
    longest: Sequence[int],
    choices: int,
    device: str,
    scored_share: float,
) -> int:
    """Of the largest pass that the batch of the longest texts is split into."""
    rows = min(run.training.micro_batch or len(longest), len(longest))
    tokens, length = rows * longest[-1], longest[-1]
    plain = run.training.backend == "plain"
    if not shape.packs and not plain:  # a padded batch is split where that is faster
        trained = part.parameters
        overhead = pass_overhead_tokens(trained, max(trained, shape.total_parameters), device)
        if overhead == NEVER_SPLIT:
            passes = split_by_count(longest, range(len(longest)), rows)
        else:
            overhead = max(1, overhead // choices)
            passes = split_by_length(longest, range(len(longest)), rows, overhead)
        tokens, length = max(
            (len(indices) * longest[indices[0]], longest[indices[0]]) for indices in passes
        )
    elif shape.saved is not None and not plain and device == "cpu":  # packed
        texts = [tokens * choices for tokens in longest]
        passes = split_packed(texts, range(len(texts)), rows)
        tokens = max(sum(longest[i] for i in indices) for indices in passes)
    method = methods.configure_method(run.method)
    trains, value_bytes = method.trains, _value_bytes(run)
    # Below a trained head nothing is saved but what one layer computes with; nor without training.
    is_frozen = trains is Trains.HEAD or (trains is Trains.NOTHING and shape.saved is not None)
    layers = 1 if is_frozen else max(1, shape.layers - part.layers_below)
    of_token = _bytes_of_token(run, shape, length)
    own_bytes = value_bytes * part.saved_widths * shape.width if shape.saved is None else 0
    saved = (layers * of_token + own_bytes) * tokens * choices / shape.stacks
    if shape.saved is not None and trains is Trains.EVERYTHING and value_bytes == 2:
        # Autocast casts every matrix once for a pass, but no table that words are looked up in.
        # Packed batches keep none of the layers'.
        layers_cast = 0 if shape.packs and not plain else shape.backbone_parameters
        saved += 2 * (layers_cast + shape.width * shape.vocabulary)
    # Scores of all words and their gradient, in fp32; where batches are packed, a chunk at a time.
    scored = tokens / shape.stacks
    if shape.packs and shape.vocabulary and not plain:
        scored = min(scored * scored_share, chunk_tokens(shape.vocabulary, device))
    return int(saved + 8 * scored * shape.vocabulary)
