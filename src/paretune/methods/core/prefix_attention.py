"""Attention with trained keys and values (a prefix) before those of the text.

Models that compute attention through ``transformers``' attention interface get an implementation
that prepends the module's prefix, if it has one, to keys and values. This happens after a decoder's
cache, so the prefix never enters it. Every query attends to the prefix, whatever its mask (a
sliding window's too), and T5's position bias is 0 for it.

A decoder's text stands behind its prefix: its positions are later by the prefix's length, as with
PEFT, whose prefix is what a cache begins with.

DeBERTa has an attention of its own, with relative positions; its forward pass is written out here,
and its scores with the prefix are content to content only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from paretune.errors import MethodError
from paretune.methods.core.injection import Injection, attach, get_linear
from paretune.methods.core.virtual_tokens import find_text_positions, name_arguments
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import Attention, has_attention_interface

_WITH_PREFIX = {"sdpa": "paretune_sdpa", "eager": "paretune_eager"}


def attach_prefixes(
    model: Any, anatomy: Anatomy, key: str, prefixes: dict[str, nn.Module]
) -> Injection:
    """Let every attention see its prefix; ``prefixes`` are by the attention modules' names.

    ``prefix.keys_and_values(rows)`` gives (rows, virtual, width) each, for the rows of the batch;
    ``prefix.virtual`` is how many there are, and ``prefix.token_gate()`` None, or one factor of the
    prefix's keys and values for each query, (rows, tokens, 1).

    Raises:
        MethodError: an architecture whose attention cannot be reached.
    """
    injection = attach(model, key, prefixes, hooked=False)
    changes = injection.changes
    modules: list[Any] = [model.get_submodule(name) for name in prefixes]
    with changes.on_failure():
        for module in modules:
            changes.set(module, "prefixes", key)
        if model.config.model_type == "deberta-v2":
            for module in modules:
                changes.set(module, "forward", partial(_attend_in_deberta, module))
            return injection
        attention = model.config._attn_implementation
        # Another member of a stack may have put its prefix into other layers already.
        with_prefix = _WITH_PREFIX.get(attention, attention)
        if with_prefix not in _WITH_PREFIX.values() or not has_attention_interface(model):
            raise MethodError(
                f"the attention of {type(model).__name__} ({attention}) takes no prefix.",
                where=f"method {key}",
                remedy="Take prompt tuning, or another method.",
            )
        changes.set_attention(model, with_prefix)
        if anatomy.reads_causally:
            first: Any = next(iter(prefixes.values()))

            def shift_text(reader: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
                named = name_arguments(reader, args, kwargs)
                positions = named.get("position_ids")
                positions = find_text_positions(named) if positions is None else positions
                return (), {**named, "position_ids": positions + first.virtual}

            reader = model.get_submodule(anatomy.text_reader)
            changes.hook(reader.register_forward_pre_hook(shift_text, with_kwargs=True))
            injection.prefix_positions = first.virtual
    return injection


def prefix_width(model: nn.Module, attention: Attention) -> int:
    """Width of the keys and of the values, all heads together: in T5 not always the model's."""
    fused = attention.fused_output
    if fused is not None:
        return fused.key * fused.blocks
    return get_linear(model, attention.key).out_features


def get_prefix(module: nn.Module) -> Any:
    """The prefix beside an attention module, or None."""
    key = vars(module).get("prefixes")
    return None if key is None else module.get_submodule(key)


def _attend_with_prefix(
    plain: Callable[..., tuple[Tensor, Tensor | None]],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    prefix, gate = get_prefix(module), None
    if prefix is not None:
        gate = prefix.token_gate()
        own_keys, own_values = (
            _split_heads(states, key.shape[1]).to(key)
            for states in prefix.keys_and_values(len(key))
        )
        virtual = own_keys.shape[2]
        is_causal = options.get("is_causal")  # by the rule of transformers
        if is_causal is None:
            is_causal = getattr(module, "is_causal", True)
        if attention_mask is None and is_causal and query.shape[2] > 1:
            shape = (1, 1, query.shape[2], key.shape[2])
            attention_mask = query.new_full(shape, torch.finfo(query.dtype).min).triu(1)
        if attention_mask is not None:
            visible = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = F.pad(attention_mask, (virtual, 0), value=visible)
        if options.get("position_bias") is not None:
            options["position_bias"] = F.pad(options["position_bias"], (virtual, 0))
        if gate is not None:
            options["scaling"] = options.get("scaling") or query.shape[-1] ** -0.5
            # In twice the width: what a query gets of the text beside what it gets of the
            # prefix, whose scores are its own times its gate.
            query = torch.cat([query, gate[:, None].to(query) * query], -1)
            key, value = (F.pad(x, (0, x.shape[-1])) for x in (key, value))
            own_keys, own_values = (F.pad(x, (x.shape[-1], 0)) for x in (own_keys, own_values))
        key, value = torch.cat([own_keys, key], 2), torch.cat([own_values, value], 2)
    out, shares = plain(module, query, key, value, attention_mask, **options)
    if gate is not None:
        of_text, of_prefix = out.chunk(2, -1)
        out = of_text + gate[..., None].to(out) * of_prefix
    return out, shares


def _eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """Softmax attention as the model files of ``transformers`` have it, Gemma 2's cap too.

    With grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) keys and values, the prefix
    included, are repeated for each query head of their group.
    """
    if key.shape[1] != query.shape[1]:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None:
        scores = scores + attention_mask
    shares = F.dropout(F.softmax(scores, dim=-1), p=dropout, training=module.training)
    return (shares @ value).transpose(1, 2).contiguous(), shares


def _split_heads(states: Tensor, heads: int) -> Tensor:
    """(rows, virtual, width) -> (rows, heads, virtual, width of a head)."""
    rows, virtual, width = states.shape
    return states.reshape(rows, virtual, heads, width // heads).transpose(1, 2)


def _attend_in_deberta(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """DeBERTa's attention with the prefix before its keys and values.

    He et al. 2020, arXiv:2006.03654, equation 4: scores are (content to content + content to
    position + position to content) / sqrt(3 d). A prefix has no position: the first term only.
    """
    heads = module.num_attention_heads
    query_input = hidden_states if query_states is None else query_states
    query = module.transpose_for_scores(module.query_proj(query_input), heads)
    key = module.transpose_for_scores(module.key_proj(hidden_states), heads)
    value = module.transpose_for_scores(module.value_proj(hidden_states), heads)
    rows = len(hidden_states)
    # Before anything else goes through the projections: a gated prefix reads their input.
    own_keys, own_values = (
        _split_heads(states, heads).to(key).flatten(0, 1)
        for states in get_prefix(module).keys_and_values(rows)
    )
    terms = 1 + sum(kind in module.pos_att_type for kind in ("c2p", "p2c"))
    scale = (query.shape[-1] * terms) ** 0.5
    scores = query @ (key / scale).transpose(-1, -2)
    if module.relative_attention:
        scores = scores + module.disentangled_attention_bias(
            query, key, relative_pos, module.pos_dropout(rel_embeddings), terms
        )
    scores = torch.cat([query @ (own_keys / scale).transpose(-1, -2), scores], -1)
    scores = scores.reshape(rows, heads, *scores.shape[1:])
    visible = F.pad(attention_mask.bool(), (own_keys.shape[1], 0), value=True)
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    shares = module.dropout(F.softmax(scores, dim=-1))
    context = shares.flatten(0, 1) @ torch.cat([own_values, value], 1)
    context = context.reshape(rows, heads, *context.shape[1:]).transpose(1, 2).flatten(2)
    return context, shares if output_attentions else None


for _plain, _name in ((sdpa_attention_forward, "sdpa"), (_eager_attention, "eager")):
    ALL_ATTENTION_FUNCTIONS.register(_WITH_PREFIX[_name], partial(_attend_with_prefix, _plain))
    ALL_MASK_ATTENTION_FUNCTIONS.register(_WITH_PREFIX[_name], ALL_MASK_ATTENTION_FUNCTIONS[_name])
