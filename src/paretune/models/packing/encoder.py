"""Packed batches of an encoder: positions of rows, and a last layer for the pooled token alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from paretune.models.changes import ModelChanges
from paretune.models.dropout.rng import DropoutRng
from paretune.models.kernels import policy
from paretune.models.packing.attention import compute_packed_attention
from paretune.models.packing.state import AttentionSettings, Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import parent_name

CLS_ONLY_ARCHITECTURES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Architectures whose last layer computes queries for [CLS] only: BERT's own layer."""
PACKED_ENCODERS = (*CLS_ONLY_ARCHITECTURES, "distilbert", "modernbert")
"""Architectures that are packed: the head reads one token, and attention has no biases."""


def can_pack_encoder(model: Any) -> bool:
    """Whether the model is an encoder whose batches can be packed."""
    config = model.config
    if config.model_type not in PACKED_ENCODERS or not getattr(model, "_supports_sdpa", False):
        return False
    # ModernBERT's head may read the mean of all tokens instead.
    return getattr(config, "classifier_pooling", "cls") == "cls"


def pack_encoder(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """What packed batches change in an encoder beside its attention."""
    _set_positions(model, anatomy, packing)
    packing.pooled_token = anatomy.topology.pooled_token
    if model.config.model_type in CLS_ONLY_ARCHITECTURES:
        _fuse_add_norm(packing.changes, model, anatomy, packing.dropout_rng)
        _prune_last_layer(model, anatomy, packing)
        return
    last = model.get_submodule(anatomy.layers[-1].name)
    select = partial(_select_pooled, packing, len(anatomy.layers))
    packing.changes.hook(last.register_forward_hook(select))


def _set_positions(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Give each row its position in its own sequence, where the model has a table of positions."""
    if anatomy.position_embeddings is None:
        return
    table = model.get_submodule(anatomy.position_embeddings)
    padding = getattr(table, "padding_idx", None)
    start = 0 if padding is None else padding + 1

    def give_positions(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        return (packing.layout.position_ids + start,)

    packing.changes.hook(table.register_forward_pre_hook(give_positions))


def _select_pooled(
    packing: Packing, layers: int, module: nn.Module, args: Any, out: Tensor
) -> Tensor:
    return out if packing.skipped_layers == layers else out[packing.pooled_rows]


def _prune_last_layer(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Let the last layer compute queries for [CLS] only; its keys and values are those of all."""
    attention = anatomy.layers[-1].self_attention
    module: Any = model.get_submodule(parent_name(attention.query))

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        query = module.query(hidden_states[packing.pooled_rows])
        key, value = module.key(hidden_states), module.value(hidden_states)
        settings = AttentionSettings(
            heads=module.num_attention_heads,
            dropout=module.dropout.p if module.training else 0.0,
            scaling=module.attention_head_size**-0.5,
            role="pooled",
        )
        out = compute_packed_attention(module, query[:, 0], key[:, 0], value[:, 0], settings)
        return out[:, None], None

    def select_pooled(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0], args[1][packing.pooled_rows], *args[2:])

    packing.changes.set(module, "forward", forward)
    residual = model.get_submodule(parent_name(attention.output))
    packing.changes.hook(residual.register_forward_pre_hook(select_pooled))


def _fuse_add_norm(changes: ModelChanges, model: Any, anatomy: Anatomy, rng: DropoutRng) -> None:
    """Compute dropout, residual and normalisation behind BERT's products in one compiled kernel.

    Where nothing stands between them: a method that hooks one of them (Pfeiffer's adapter, BitFit)
    gets the layer's own three.
    """
    for layer in anatomy.layers:
        for name in (layer.self_attention.output, layer.down):
            module = model.get_submodule(parent_name(name))
            if "forward" not in vars(module):
                changes.set(module, "forward", partial(_fused_output, module, rng))


def _fused_output(
    module: Any, rng: DropoutRng, hidden_states: Tensor, input_tensor: Tensor
) -> Tensor:
    hidden = module.dense(hidden_states)
    norm = module.LayerNorm
    plain = type(norm) is nn.LayerNorm and not any(map(_has_hooks, (module.dropout, norm)))
    fits = plain and hidden.shape[-1] % 4 == 0
    if fits and policy.can_use_kernels(hidden, input_tensor, norm.weight):
        from paretune.models.kernels.add_norm import add_norm

        rng.used_kernels = True
        p = module.dropout.p if module.dropout.training else 0.0
        parts, offset = [(0, len(hidden))], 0
        if p > 0:
            offset, parts = rng.next_offset(), rng.row_parts(len(hidden))
        return add_norm(hidden, input_tensor, norm, parts, offset, p)
    out: Tensor = norm(module.dropout(hidden) + input_tensor)
    return out


def _has_hooks(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks)
