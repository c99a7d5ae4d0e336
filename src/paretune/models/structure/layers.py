"""The parts of one layer of an encoder or a decoder, read from its structure.

Place and shape of a linear layer tell its role; names only distinguish query, key and value, since
nothing else does. Shapes are written ``out x in``, as ``nn.Linear`` has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from torch import nn

from paretune.errors import ModelError


def find_name(model: nn.Module, part: Any) -> str:
    """The name under which a model holds one of its modules; ModelError where it does not."""
    names: list[str] = [name for name, module in model.named_modules() if module is part]
    if not names:
        raise ModelError(f"{type(model).__name__} does not hold its own {type(part).__name__}.")
    return names[0]


def parent_name(name: str) -> str:
    """Name of the module that holds what is called ``name``; "" is the model."""
    return name.rpartition(".")[0]


def is_within(name: str, *modules: str) -> bool:
    """Whether a module or a parameter is one of ``modules`` or a part of one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


Stack = Literal["encoder", "decoder"]

ENCODER_FAMILIES = "BERT, RoBERTa, DistilBERT, DeBERTa, ELECTRA, ModernBERT"
TRANSLATION_FAMILIES = "Marian, T5, mT5, BART, mBART, M2M100, NLLB"
DECODER_FAMILIES = "Llama, Qwen, Gemma, Mistral, Phi-3, OPT, GPT-2, GPT-NeoX"
SUPPORTED_FAMILIES = (
    f"Encoders ({ENCODER_FAMILIES}) work, and so do decoders ({DECODER_FAMILIES}) and translation "
    f"models ({TRANSLATION_FAMILIES})."
)
"""Advice about a model that is not understood."""

_QKV = {
    "query": re.compile(r"^(q|query|wq)(_?(proj|lin|linear))?$", re.IGNORECASE),
    "key": re.compile(r"^(k|key|wk)(_?(proj|lin|linear))?$", re.IGNORECASE),
    "value": re.compile(r"^(v|value|wv)(_?(proj|lin|linear))?$", re.IGNORECASE),
}


@dataclass(frozen=True)
class FusedOutput:
    """Where query, key and value lie in the output of the one linear layer that makes them.

    The output is ``blocks`` equal parts, one after the other, each of ``query`` channels, then
    ``key`` channels, then as many of the value: one part for most (GPT-2, ModernBERT, Phi-3, whose
    keys are fewer), one for each head in GPT-NeoX.
    """

    query: int
    key: int
    blocks: int = 1

    @property
    def keys_and_values(self) -> tuple[int, ...]:
        """Channels that are no query's, in their order."""
        size = self.query + 2 * self.key
        channels = range(self.query, size)
        return tuple(block * size + channel for block in range(self.blocks) for channel in channels)


@dataclass(frozen=True)
class Attention:
    """Module names of an attention's linear layers.

    Where one linear layer makes query, key and value at once (``fused_output``), the three names
    are the same. ``name`` is the module that holds them all.
    """

    name: str
    query: str
    key: str
    value: str
    output: str
    fused_output: FusedOutput | None = None

    @property
    def module(self) -> str:
        """Name of the module that computes the attention: it holds the query projection."""
        return parent_name(self.query)


@dataclass(frozen=True)
class Layer:
    """One layer: its attention and its feed-forward part.

    ``up`` has one name (width to inner, or to twice inner where a gate is fused with it) or two (a
    gate apart); ``down`` leads back to the width. ``output_norm`` is the normalisation that gives
    the layer's output, or None in a layer that normalises first. ``cross_attention`` is a decoder's
    second attention, whose keys and values are those of the encoded source.
    """

    name: str
    self_attention: Attention
    up: tuple[str, ...]
    down: str
    output_norm: str | None = None
    stack: Stack = "encoder"
    cross_attention: Attention | None = None

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Self-attention, then cross-attention where there is one."""
        both = (self.self_attention, self.cross_attention)
        return tuple(attention for attention in both if attention is not None)


def has_attention_interface(model: Any) -> bool:
    """Whether all attention of a model goes through the attention interface of ``transformers``.

    So it does where it can be SDPA. Gemma 2 caps its scores, which SDPA cannot.
    """
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    interface = capped and getattr(model, "_supports_attention_backend", False)
    return bool(getattr(model, "_supports_sdpa", False) or interface)


class NotALayerError(Exception):
    """A block that is no layer; the message says what it lacks and what it has."""


def find_layers(model: nn.Module, within: str = "", stack: Stack = "encoder") -> tuple[Layer, ...]:
    """Read the longest list of equal blocks that have an attention and a feed-forward part.

    Raises:
        ModelError: there is no such list; the message says why each list of blocks is none.
    """
    reasons: list[str] = []
    candidates: list[tuple[Layer, ...]] = []
    for part, module in model.get_submodule(within).named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        name = f"{within}.{part}" if within else part
        types = {type(block) for block in module}
        if len(types) > 1:
            reasons.append(f"{name}: blocks of different classes ({_describe_types(types)})")
            continue
        try:
            read = partial(read_layer, stack=stack, config=getattr(model, "config", None))
            candidates.append(tuple(read(f"{name}.{i}", block) for i, block in enumerate(module)))
        except NotALayerError as error:
            reasons.append(f"{name}: {len(module)} x {_describe_types(types)}, {error}")
    if not candidates:
        listed = "".join(f"\n  {reason}" for reason in reasons) or "\n  no list of blocks at all"
        raise ModelError(
            f"{type(model).__name__} has no {stack} that paretune understands.\n"
            "Looked for: a list of equal blocks, each with linear layers for query, key and value "
            "(or one fused), an attention output, and a feed-forward pair up and down.\n"
            f"Found:{listed}\n",
            remedy=SUPPORTED_FAMILIES,
        )
    return max(candidates, key=len)


def read_layer(name: str, block: nn.Module, stack: Stack = "encoder", config: Any = None) -> Layer:
    """Find the roles of a block's linear layers.

    ``config`` tells how many heads of queries and of keys a fused projection makes.

    Raises:
        NotALayerError: a role has no linear layer.
    """
    linears = {n: m for n, m in block.named_modules() if isinstance(m, nn.Linear)}
    if not linears:
        weighted = sorted(
            f"{n} {type(m).__name__}"
            for n, m in block.named_modules()
            if any(p.dim() > 1 for p in m.parameters(recurse=False))
        )
        raise NotALayerError(f"without linear layers (it has {', '.join(weighted) or 'none'})")
    attentions = _find_attentions(linears, 2 if stack == "decoder" else 1, config)
    projections = {part for a in attentions for part in (a.query, a.key, a.value, a.output)}
    rest = [n for n in linears if n not in projections]
    width = linears[attentions[0].output].out_features
    downs = [n for n in rest if linears[n].out_features == width]
    if not downs:
        raise NotALayerError(
            f"with an attention but no feed-forward part ({_describe_shapes(linears)})"
        )
    down = downs[-1]
    inner = linears[down].in_features
    ups = tuple(
        n
        for n in rest
        if n != down
        and linears[n].in_features == width
        and linears[n].out_features in (inner, 2 * inner)
    )
    if not ups or len(ups) + 1 != len(rest):
        raise NotALayerError(f"with an unclear feed-forward part ({_describe_shapes(linears)})")

    def full(part: str) -> str:
        return f"{name}.{part}" if part else name

    parts = ("name", "query", "key", "value", "output")
    self_attention, *crosses = (
        replace(a, **dict[str, Any]({part: full(getattr(a, part)) for part in parts}))
        for a in attentions
    )
    cross = crosses[0] if crosses else None
    ups = tuple(map(full, ups))
    return Layer(name, self_attention, ups, full(down), stack=stack, cross_attention=cross)


def _find_attentions(linears: dict[str, nn.Linear], most: int, config: Any) -> list[Attention]:
    """The attentions of a block, in its order: that to its own sequence comes first.

    Names are those inside the block.
    """
    fused_output: FusedOutput | None = None
    named = {
        role: [n for n in linears if pattern.match(n.rpartition(".")[2])]
        for role, pattern in _QKV.items()
    }
    if any(named.values()):
        unclear = [
            f"{role}: {names or 'none'}"
            for role, names in named.items()
            if not 1 <= len(names) <= most or len(names) != len(named["query"])
        ]
        if unclear:
            raise NotALayerError(f"unclear attention ({'; '.join(unclear)})")
        triples = list(zip(*named.values(), strict=True))
    else:
        fused = {n: _read_fused(n, linears, config) for n in linears}
        fused = {n: output for n, output in fused.items() if output is not None}
        if len(fused) != 1:
            raise NotALayerError(f"without a recognisable attention ({_describe_shapes(linears)})")
        ((name, fused_output),) = fused.items()
        triples = [(name,) * 3]
    roles = {name for triple in triples for name in triple}
    return [_read_attention(linears, triple, roles, fused_output) for triple in triples]


def _read_attention(
    linears: dict[str, nn.Linear],
    triple: tuple[str, ...],
    roles: set[str],
    fused_output: FusedOutput | None,
) -> Attention:
    """The attention of these query, key and value; ``roles`` are those of the whole block."""
    query, key, value = triple
    inside = parent_name(query)
    while inside and not (is_within(key, inside) and is_within(value, inside)):
        inside = parent_name(inside)
    # The output projection is the nearest linear layer around them: climb until there is one.
    while True:
        near = [n for n in linears if n not in roles and (not inside or n.startswith(f"{inside}."))]
        if near or not inside:
            break
        inside = parent_name(inside)
    width = linears[query].in_features
    outputs = [n for n in near if linears[n].out_features == width]
    if not outputs:
        raise NotALayerError(f"with no attention output ({_describe_shapes(linears)})")
    return Attention(inside, query, key, value, outputs[0], fused_output)


_FUSED_BY_HEAD = ("gpt_neox", "gpt_neox_japanese", "bloom")
"""Architectures whose fused projection makes query, key and value head by head."""


def _read_fused(name: str, linears: dict[str, nn.Linear], config: Any) -> FusedOutput | None:
    """The parts of a fused projection's output; None where the layer is no fused projection.

    It has a sibling that leads from the queries' width back to the width: the attention's output.
    If no config names heads, all three are as wide as the model.
    """
    layer = linears[name]
    width = layer.in_features
    heads = getattr(config, "num_attention_heads", None) or 1
    of_head = getattr(config, "head_dim", None) or width // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    query, key = heads * of_head, key_heads * of_head
    siblings = [m for n, m in linears.items() if parent_name(n) == parent_name(name)]
    has_output = any((m.in_features, m.out_features) == (query, width) for m in siblings)
    if not has_output or layer.out_features != query + 2 * key:
        return None
    if config is not None and config.model_type in _FUSED_BY_HEAD:
        return FusedOutput(of_head, of_head, heads)
    return FusedOutput(query, key)


def _describe_shapes(linears: dict[str, nn.Linear]) -> str:
    return ", ".join(f"{n} {m.out_features}x{m.in_features}" for n, m in linears.items())


def _describe_types(types: set[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in types))
