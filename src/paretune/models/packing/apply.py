"""A model made to read packed batches, and back as it was.

Everything is done by hooks and by ``transformers``' own attention interface; no module is replaced
and no weight is touched. What is computed is the model's own result for each sequence (tests: to
rounding), with nothing spent on padding, and in an encoder's last layer only what the head reads,
which is the first token of each sequence. Of a translation every token of a target is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from paretune.models.dropout.rng import OFFSETS_PER_LAYER, DropoutRng, by_chance
from paretune.models.kernels import policy
from paretune.models.packing import Packing
from paretune.models.packing.attention import (
    IMPLEMENTATION,
    compute_packed_attention,
    packed_attention_forward,
)
from paretune.models.packing.encoder_decoder import can_pack_encoder_decoder, set_row_positions
from paretune.models.packing.layout import AttentionRole
from paretune.models.structure.anatomy import Anatomy

CLS_ONLY_ARCHITECTURES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Architectures whose last layer is computed for the first tokens alone: BERT's own layer."""
PACKED_ENCODERS = (*CLS_ONLY_ARCHITECTURES, "distilbert", "modernbert")
"""Architectures that are packed: the head reads the first token, and attention has no biases."""

ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, packed_attention_forward)


def can_pack(model: Any) -> bool:
    """Whether the model's batches can be packed."""
    config = model.config
    if can_pack_encoder_decoder(model):
        return True
    if config.model_type not in PACKED_ENCODERS or not getattr(model, "_supports_sdpa", False):
        return False
    # ModernBERT's head may read the mean of all tokens instead.
    return getattr(config, "classifier_pooling", "cls") == "cls"


def apply_packing(model: Any, anatomy: Anatomy, packing: Packing) -> Callable[[], None]:
    """Let a model read packed batches; methods and dropout are in place already.

    Args:
        model: one that :func:`can_pack`.
        anatomy: of the model.
        packing: described anew for every batch.

    Returns:
        What takes all of it back.
    """
    packing.passes_position_ids = anatomy.position_embeddings is None
    steps: list[Callable[[], None]] = []
    before = model.config._attn_implementation
    model.set_attn_implementation(IMPLEMENTATION)
    steps.append(partial(model.set_attn_implementation, before))
    for module, role in _list_attentions(model, anatomy):
        module.packing, module.packed_role = packing, role
        steps += [partial(delattr, module, name) for name in ("packing", "packed_role")]
    for module in model.modules():
        # Elsewhere torch's own dropout is one fast kernel, but of one seed for all runs.
        if isinstance(module, nn.Dropout) and (
            packing.per_run_dropout or model.device.type == "cpu"
        ):
            by_chance(module, packing.dropout_rng)
            steps.append(partial(delattr, module, "forward"))
    handles = count_offsets_by_layer(model, anatomy, packing.dropout_rng)
    last = model.get_submodule(anatomy.layers[-1].name)
    if anatomy.decoder is not None:
        steps += set_row_positions(model, anatomy, packing)
    else:
        handles += _set_positions(model, anatomy, packing)
        if model.config.model_type in CLS_ONLY_ARCHITECTURES:
            _fuse_add_norm(model, anatomy, packing.dropout_rng, steps)
            handles.append(_prune_last_layer(model, anatomy, packing, steps))
        else:
            every = len(anatomy.layers)
            handles.append(last.register_forward_hook(partial(_select_first, packing, every)))
    steps += [handle.remove for handle in handles]

    def undo() -> None:
        for step in reversed(steps):
            step()

    return undo


def _list_attentions(model: nn.Module, anatomy: Anatomy) -> Iterable[tuple[Any, AttentionRole]]:
    """The modules that compute attention, and who looks at what in them."""
    for layer in anatomy.layers:
        role: AttentionRole = "own" if layer.stack == "encoder" else "causal"
        yield _parent_module(model, layer.self_attention.query), role
        if layer.cross_attention is not None:
            yield _parent_module(model, layer.cross_attention.query), "across"


def _parent_module(model: nn.Module, name: str) -> Any:
    return model.get_submodule(name.rpartition(".")[0])


def _set_positions(model: Any, anatomy: Anatomy, packing: Packing) -> Iterable[Any]:
    """Each row's position in its own sequence, where the model has a table of positions."""
    if anatomy.position_embeddings is None:
        return []
    table = model.get_submodule(anatomy.position_embeddings)
    padding = getattr(table, "padding_idx", None)
    start = 0 if padding is None else padding + 1

    def placed(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        return (packing.layout.position_ids + start,)

    return [table.register_forward_pre_hook(placed)]


def count_offsets_by_layer(model: nn.Module, anatomy: Anatomy, chance: DropoutRng) -> list[Any]:
    """Dropouts are counted anew in each layer: a layer that is computed again draws the same.

    Counted from the query projection on, before which a layer has no dropout: what computes a layer
    again does so inside the hooks of the layer itself.
    """

    def count(first: int, module: nn.Module, args: Any) -> None:
        if args[0].ndim > 2:  # DeBERTa's table of positions goes through it too, later
            chance.offset = first

    return [
        model.get_submodule(layer.self_attention.query).register_forward_pre_hook(
            partial(count, OFFSETS_PER_LAYER * (i + 1))
        )
        for i, layer in enumerate(anatomy.layers)
    ]


def _select_first(
    packing: Packing, layers: int, module: nn.Module, args: Any, out: Tensor
) -> Tensor:
    return out if packing.skipped_layers == layers else out[packing.layout.first_rows]


def _prune_last_layer(
    model: Any, anatomy: Anatomy, packing: Packing, steps: list[Callable[[], None]]
) -> Any:
    """In the last layer every token is looked at, and only the first ones look."""
    attention = anatomy.layers[-1].self_attention
    module: Any = model.get_submodule(attention.query.rpartition(".")[0])

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        looking = hidden_states[packing.layout.first_rows]
        query, key = module.query(looking), module.key(hidden_states)
        value = module.value(hidden_states)
        out = compute_packed_attention(
            module,
            query[:, 0],
            key[:, 0],
            value[:, 0],
            heads=module.num_attention_heads,
            dropout=module.dropout.p if module.training else 0.0,
            scaling=module.attention_head_size**-0.5,
            role="first",
        )
        return out[:, None], None

    module.forward = forward
    steps.append(partial(delattr, module, "forward"))
    residual = model.get_submodule(attention.output.rpartition(".")[0])

    def first(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0], args[1][packing.layout.first_rows], *args[2:])

    return residual.register_forward_pre_hook(first)


def _fuse_add_norm(
    model: Any, anatomy: Anatomy, chance: DropoutRng, steps: list[Callable[[], None]]
) -> None:
    """Dropout, residual and normalisation behind BERT's products in one compiled pass.

    Where nothing stands between them: a method that hooks one of them (Pfeiffer's adapter, BitFit)
    gets the layer's own three.
    """
    ends = [name for layer in anatomy.layers for name in (layer.self_attention.output, layer.down)]
    for module in (model.get_submodule(name.rpartition(".")[0]) for name in ends):
        if "forward" not in vars(module):
            module.forward = partial(_fused_output, module, chance)
            steps.append(partial(delattr, module, "forward"))


def _fused_output(
    module: Any, chance: DropoutRng, hidden_states: Tensor, input_tensor: Tensor
) -> Tensor:
    hidden = module.dense(hidden_states)
    norm = module.LayerNorm
    alone = type(norm) is nn.LayerNorm and not any(map(_has_hooks, (module.dropout, norm)))
    if (
        alone
        and hidden.shape[-1] % 4 == 0
        and policy.can_use_kernels(hidden, input_tensor, norm.weight)
    ):
        from paretune.models.kernels.add_norm import add_norm

        chance.used_kernels = True
        p = module.dropout.p if module.dropout.training else 0.0
        return add_norm(hidden, input_tensor, norm, chance, p)
    found: Tensor = norm(module.dropout(hidden) + input_tensor)
    return found


def _has_hooks(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks)
