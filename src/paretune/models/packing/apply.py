"""Makes a model read packed batches, and undoes that.

Everything is done by hooks and by ``transformers``' attention interface; no module is replaced and
no weight is touched. The results are the model's own for each sequence (tests: to rounding), but
nothing is spent on padding, and the last layer computes only the tokens that the head reads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from paretune.models.changes import ModelChanges
from paretune.models.dropout import OFFSETS_PER_LAYER, DropoutRng
from paretune.models.packing.attention import (
    IMPLEMENTATION,
    compute_packed_attention,
    packed_attention_forward,
)
from paretune.models.packing.layout import AttentionRole, AttentionSettings, PackedLayout, Packing
from paretune.models.packing.recomputed import cast_in_both_passes, fuse_rows, share_tied_table
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.heads import scores_tokens
from paretune.models.structure.layers import has_attention_interface, parent_name
from paretune.models.structure.topology import DECODER, ENCODER_DECODER, topology_of

CLS_ONLY_ARCHITECTURES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Architectures whose last layer computes queries for [CLS] only: BERT's own layer."""
PACKED_ENCODERS = (*CLS_ONLY_ARCHITECTURES, "distilbert", "modernbert")
"""Architectures that are packed: the head reads one token, and attention has no biases."""


PACKED_ENCODER_DECODERS = ("bart", "m2m_100", "marian", "mbart")
"""Architectures with absolute positions and attention without biases; NLLB is an M2M100."""


PACKED_DECODERS = (
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "opt",
    "phi3",
    "qwen2",
    "qwen3",
)
"""Architectures that are given each token's position, and whose attention is softmax attention with
fewer heads of keys, a window or capped scores at most."""


def can_pack(model: Any) -> bool:
    """Whether the model's batches can be packed."""
    config, lm_head = model.config, model.get_output_embeddings()
    topology, kind = topology_of(config), config.model_type
    if topology is DECODER:
        plain_head = lm_head is None or (type(lm_head) is nn.Linear and lm_head.bias is None)
        # EmbeddingGemma is a Gemma 3 in which tokens see those after them.
        causal = not getattr(config, "use_bidirectional_attention", False)
        return kind in PACKED_DECODERS and has_attention_interface(model) and plain_head and causal
    if not getattr(model, "_supports_sdpa", False):
        return False
    if topology is ENCODER_DECODER:
        # M2M100 gives padding no position, which a first token would be by name.
        first = kind == "m2m_100" and config.decoder_start_token_id == config.pad_token_id
        return kind in PACKED_ENCODER_DECODERS and not first and type(lm_head) is nn.Linear
    # ModernBERT's head may read the mean of all tokens instead.
    reads_one_token = getattr(config, "classifier_pooling", "cls") == "cls"
    return kind in PACKED_ENCODERS and reads_one_token


def apply_packing(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Let a model read packed batches until ``packing.changes`` are undone."""
    changes = packing.changes
    packing.passes_position_ids = anatomy.position_embeddings is None
    packing.pooled_token, packing.computes_tails = None, False
    changes.set_attention(model, IMPLEMENTATION)
    last = anatomy.layers[-1] if anatomy.topology is DECODER else None
    for layer in anatomy.layers:
        role: AttentionRole = "self" if layer.stack == "encoder" else "causal"
        roles = {layer.self_attention: "causal_tail" if layer is last else role}
        if layer.cross_attention is not None:
            roles[layer.cross_attention] = "cross"
        for attention, role_of_attention in roles.items():
            module: Any = model.get_submodule(attention.module)
            changes.set(module, "packing", packing)
            changes.set(module, "packed_role", role_of_attention)
    count_offsets_by_layer(changes, model, anatomy, packing.dropout_rng)
    if anatomy.topology is DECODER:
        _pack_decoder(model, anatomy, packing)
    elif anatomy.topology is ENCODER_DECODER:
        # Each row, of sources and of targets, has the position that it has in its own sequence.
        if anatomy.position_embeddings is None:
            raise ValueError(f"{type(model).__name__} has no tables of positions")
        name = anatomy.position_embeddings.removeprefix(anatomy.encoder)
        for stack in (anatomy.encoder, *anatomy.source_readers):
            table: Any = model.get_submodule(f"{stack}{name}")
            of_targets = stack != anatomy.encoder
            look_up = partial(_look_up_positions, table, table.forward, packing, of_targets)
            changes.set(table, "forward", look_up)
    else:
        _pack_encoder(model, anatomy, packing)


def count_offsets_by_layer(
    changes: ModelChanges, model: nn.Module, anatomy: Anatomy, rng: DropoutRng
) -> None:
    """Count dropouts anew in each layer, so that a layer that is computed again draws the same.

    Counted from the query projection on, before which a layer has no dropout: what computes a layer
    again does so inside the hooks of the layer itself.
    """

    def begin_layer(first: int, module: nn.Module, args: Any) -> None:
        if args[0].ndim > 2:  # DeBERTa's table of positions goes through it too, later
            rng.offset = first

    for i, layer in enumerate(anatomy.layers):
        query = model.get_submodule(layer.self_attention.query)
        hook = partial(begin_layer, OFFSETS_PER_LAYER * (i + 1))
        changes.hook(query.register_forward_pre_hook(hook))


def _pack_encoder(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Change the parts of an encoder beside its attention."""
    if anatomy.position_embeddings is not None:
        table = model.get_submodule(anatomy.position_embeddings)
        padding = getattr(table, "padding_idx", None)
        start = 0 if padding is None else padding + 1

        def give_positions(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
            return (packing.layout.position_ids + start,)

        packing.changes.hook(table.register_forward_pre_hook(give_positions))
    if scores_tokens(model):
        return
    packing.pooled_token = anatomy.topology.pooled_token
    if model.config.model_type in CLS_ONLY_ARCHITECTURES:
        _prune_last_layer(model, anatomy, packing)
        return

    def select_pooled(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        all_skipped = packing.skipped_layers == len(anatomy.layers)
        return out if all_skipped else out[packing.pooled_rows]

    last = model.get_submodule(anatomy.layers[-1].name)
    packing.changes.hook(last.register_forward_hook(select_pooled))


def _prune_last_layer(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Let the last layer compute queries for [CLS] only; its keys and values are those of all."""
    attention = anatomy.layers[-1].self_attention
    module: Any = model.get_submodule(attention.module)

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        query = module.query(hidden_states[packing.pooled_rows])
        key, value = module.key(hidden_states), module.value(hidden_states)
        settings = AttentionSettings(
            heads=module.num_attention_heads,
            key_heads=module.num_attention_heads,
            scaling=module.attention_head_size**-0.5,
            dropout=module.dropout.p if module.training else 0.0,
            role="pooled",
        )
        out = compute_packed_attention(module, query[:, 0], key[:, 0], value[:, 0], settings)
        return out[:, None], None

    def select_pooled(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0], args[1][packing.pooled_rows], *args[2:])

    packing.changes.set(module, "forward", forward)
    residual = model.get_submodule(parent_name(attention.output))
    packing.changes.hook(residual.register_forward_pre_hook(select_pooled))


def _look_up_positions(
    table: Any,
    look_up: Callable[[Any], Tensor],
    packing: Packing,
    of_targets: bool,
    seen: Any,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """The positions of all rows, (rows, 1, width): those of one long text, each row its own.

    ``seen`` is what the model shows the table: its ids, or only their shape. Whatever the table
    makes of it (BART's begins two rows late, M2M100's behind its padding) is made of one text of
    the longest length, without padding.
    """
    layout: PackedLayout | None = packing.layout.target if of_targets else packing.layout
    assert layout is not None  # noqa: S101  (a translation's batch has targets)
    longest = max(layout.lengths)
    shape: Any = (1, longest)
    if isinstance(seen, Tensor):
        no_padding = (getattr(table, "padding_idx", None) or 0) + 1
        shape = seen.new_full(shape, no_padding)
    return look_up(shape).view(longest, -1)[layout.position_ids]


def _pack_decoder(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Compute in the last layer the last tokens of each text only, and score these.

    The forward path says at each batch which tokens these are (``layout.tail``): a classifier reads
    one, an LM head those before the tokens of the completion.
    """
    changes = packing.changes
    packing.passes_position_ids = True
    cast_in_both_passes(changes, model)
    share_tied_table(packing, model)
    fuse_rows(changes, model, anatomy)
    if scores_tokens(model):
        return
    if model.get_output_embeddings() is None:
        packing.pooled_token = anatomy.topology.pooled_token

        def score_pooled(**inputs: Any) -> SequenceClassifierOutput:
            """Logits of the pooled token, (sequences, labels)."""
            hidden: Tensor = model.base_model(**inputs, use_cache=False).last_hidden_state[:, 0]
            if len(hidden) != len(packing.layout.lengths):
                hidden = hidden.index_select(0, packing.pooled_rows)
            return SequenceClassifierOutput(logits=model.score(hidden))

        changes.set(model, "forward", score_pooled)
    # OPT-350m normalises behind attention, so that nothing tells what attention is given.
    packing.computes_tails = getattr(model.config, "do_layer_norm_before", True)
    if packing.computes_tails:
        _prune_to_tails(model, anatomy, packing)


def _prune_to_tails(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Let the last layer compute keys and values of all tokens, and the rest of the tails only.

    The layer is handed the rows of the tails, to which it adds what attention and feed-forward
    give; only its first normalisation, which attention reads, is handed all. They are kept until
    the next pass where there is a backward pass, in which the layer may be computed again, without
    the hooks on itself.
    """
    layer, changes = anatomy.layers[-1], packing.changes
    whole: list[Tensor] = []  # what the layer was handed, where it was more than the tails

    def select(x: Tensor) -> Tensor:
        return x.index_select(0, packing.layout.tail_rows)

    def select_residual(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        whole.clear()
        all_skipped = packing.skipped_layers == len(anatomy.layers)
        if packing.layout.tail is None or all_skipped:
            return None
        whole.append(args[0])
        return (select(args[0]), *args[1:])

    def give_whole(norm: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (whole[0], *args[1:]) if whole else None

    def forget_whole(block: nn.Module, args: Any, out: Any) -> None:
        if not torch.is_grad_enabled():
            whole.clear()

    def select_attended(output: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return None if packing.layout.tail is None else (select(args[0]),)

    def is_norm(child: nn.Module) -> bool:
        linear = any(isinstance(part, nn.Linear) for part in child.modules())
        return not linear and next(child.parameters(), None) is not None

    block = model.get_submodule(layer.name)
    changes.hook(block.register_forward_pre_hook(select_residual))
    changes.hook(block.register_forward_hook(forget_whole))
    # Attention reads the first of a layer's normalisations, in the order they are declared.
    norm = next(child for child in block.children() if is_norm(child))
    changes.hook(norm.register_forward_pre_hook(give_whole))
    output = model.get_submodule(layer.self_attention.output)
    # Before the hooks of a method, which reads what the projection reads.
    changes.hook(output.register_forward_pre_hook(select_attended, prepend=True))


ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, packed_attention_forward)
