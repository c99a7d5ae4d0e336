"""The numbers of a model, and of what a run trains of it, from which costs are computed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from paretune import methods
from paretune.measuring.training_step import count_weight_bytes
from paretune.methods import Trains
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import can_pack
from paretune.models.quantised import count_parameters
from paretune.study import Run


@dataclass(frozen=True)
class TrainedPart:
    """The part of a model that a run trains.

    Attributes:
        parameters: number of all trained parameters, the head's included.
        idle: number of those of words that do not occur, for which no gradient is kept.
        copied: number of those of words that occur, which are held once more beside the table.
        token_parameters: number of those of an adapter that every token goes through.
        layers_below: layers below everything that is trained.
        skips_below: whether these are computed once for all epochs.
        saved_widths: vectors of the width that adapters save for each token, all layers together.
    """

    parameters: int
    idle: int = 0
    copied: int = 0
    token_parameters: int = 0
    layers_below: int = 0
    skips_below: bool = False
    saved_widths: float = 0.0

    @property
    def updated(self) -> int:
        """The number of parameters that have a gradient, and moments."""
        return self.parameters - self.idle


def describe_trained_part(
    run: Run,
    loaded: LoadedModel,
    parameters: int,
    idle: int = 0,
    copied: int = 0,
    *,
    skips_below: bool = False,
) -> TrainedPart:
    """Describe the part of a model that a run trains, by fields of :class:`TrainedPart`."""
    method, anatomy = methods.configure_method(run.method), loaded.anatomy
    below = method.count_layers_below(anatomy)
    through = method.count_token_parameters(loaded.model, anatomy)
    saved = method.sum_saved_widths(anatomy) if method.trains is Trains.ADAPTER else 0.0
    return TrainedPart(parameters, idle, copied, through, below, skips_below, saved)


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
        backbone_parameters: parameters without word embeddings and the layer that scores words.
        vocabulary: words that it scores for each target token; 0 where it scores none.
        stacks: number of stacks among which the tokens of an example are divided.
        saved: values that a layer saves; None: a multiple of its width.
    """

    weights_bytes: int
    total_parameters: int
    backbone_parameters: int
    head_parameters: int
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
    parameters = dict(model.named_parameters())
    heads = getattr(model.config, "num_attention_heads", None) or max(1, width // 64)
    return ModelShape(
        weights_bytes=count_weight_bytes(model),
        total_parameters=total,
        backbone_parameters=int(total - embeddings),
        head_parameters=sum(parameters[name].numel() for name in loaded.head_parameters),
        width=width,
        layers=len(loaded.anatomy.layers),
        heads=int(heads),
        vocabulary=loaded.anatomy.topology.scored_vocabulary(model),
        packs=can_pack(model),
        stacks=len(loaded.anatomy.stacks),
        saved=_count_saved_values(loaded),
    )


def _count_saved_values(loaded: LoadedModel) -> SavedValues | None:
    """Count them in the first layer of a decoder, which the others are like."""
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
