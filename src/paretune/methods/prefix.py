"""Prefix tuning: trained keys and values before those of the text, in every attention.

Source: Li and Liang 2021, arXiv:2101.00190, section 4; ``prefix_projection`` is its section 4.3.
Equation: softmax(Q [P_k; K]^T / sqrt d) [P_v; V], with everything but P_k and P_v frozen.
The decoder of a translation model has two in each layer, one for its own tokens and one for the
source, as in the paper. In decoder-only models the text's positions begin behind the prefix, as
with PEFT, and every token attends to the prefix, whatever its window.
Shapes: flat, P_k and P_v (num_virtual_tokens, width of the keys) in each attention. With
projection, P_k and P_v are W2 tanh(W1 Z + b1) + b2 with Z (num_virtual_tokens, width) and W1
(hidden, width) for all together, W2 (2 width of the keys, hidden) for each attention.
Trained parameters: 2 * num_virtual_tokens * width of the keys for each attention; with projection,
(num_virtual_tokens + hidden) * width + hidden, and 2 * width of the keys * (hidden + 1) for each.
Start: not the base model: the text shares its attention with the prefix. Flat: normal(0, 0.02);
with projection Z normal(0, 1), W and b uniform on +-1/sqrt(fan in), as PEFT's PrefixEncoder.
Does not merge. PEFT export: PREFIX_TUNING of a causal LM, flat (not with sliding windows, out of
which PEFT's prefix falls). PEFT's does not run on encoders nor on classifiers in transformers 5,
and in translation models it reaches the decoder's own tokens alone.
When: the model may not be touched and prompt tuning is too weak.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from paretune.methods.core.initialisation import draw_normal, draw_uniform, init_generator
from paretune.methods.core.injection import Injection, wrap_in_peft
from paretune.methods.core.method import Method, PeftExport
from paretune.methods.core.options import ALL, LayerOptions
from paretune.methods.core.prefix_attention import attach_prefixes, prefix_width
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import Attention
from paretune.objectives import Objective

NAME = "prefix"
ENCODER_NAME = "prefix_front"


class PrefixOptions(LayerOptions):
    """``prefix_projection``: the prefix is made by a network of ``encoder_hidden_size``."""

    num_virtual_tokens: int = Field(default=20, ge=1, le=512)
    prefix_projection: bool = False
    encoder_hidden_size: int = Field(default=512, ge=1, le=8192)
    READ_WITH: ClassVar[Mapping[str, str]] = {"encoder_hidden_size": "prefix_projection"}


class PrefixEncoder(nn.Module):
    """tanh(W1 Z + b1), from which all prefixes are made; (virtual, hidden)."""

    def __init__(self, width: int, options: PrefixOptions, generator: torch.Generator) -> None:
        super().__init__()
        hidden = options.encoder_hidden_size
        self.Z = nn.Parameter(draw_normal((options.num_virtual_tokens, width), 1, generator))
        self.W1 = nn.Parameter(draw_uniform((hidden, width), width, generator))
        self.W1_bias = nn.Parameter(draw_uniform((hidden,), width, generator))

    def forward(self) -> Tensor:
        """(virtual, hidden)."""
        return torch.tanh(self.Z @ self.W1.T + self.W1_bias)


class Prefix(nn.Module):
    """The prefix of one attention: trained as it is, or made from the ``front`` that all share."""

    def __init__(
        self,
        width: int,
        options: PrefixOptions,
        generator: torch.Generator,
        front: PrefixEncoder | None = None,
    ) -> None:
        super().__init__()
        # In a tuple, so that the front is not listed as a part of every attention.
        self._front = (front,)
        if front is None:
            shape = (options.num_virtual_tokens, width)
            self.K = nn.Parameter(draw_normal(shape, 0.02, generator))
            self.V = nn.Parameter(draw_normal(shape, 0.02, generator))
        else:
            hidden = options.encoder_hidden_size
            self.W2 = nn.Parameter(draw_uniform((2 * width, hidden), hidden, generator))
            self.W2_bias = nn.Parameter(draw_uniform((2 * width,), hidden, generator))

    @property
    def virtual(self) -> int:
        """How many keys and values there are."""
        (front,) = self._front
        return (self.K if front is None else front.Z).shape[0]

    def keys_and_values(self, rows: int) -> tuple[Tensor, Tensor]:
        """(rows, virtual, width) each."""
        (front,) = self._front
        if front is None:
            return self.K.expand(rows, -1, -1), self.V.expand(rows, -1, -1)
        states = front() @ self.W2.T + self.W2_bias
        keys, values = states.expand(rows, -1, -1).chunk(2, dim=-1)
        return keys, values

    def token_gate(self) -> Tensor | None:
        """None: the prefix is the same for every query."""
        return None


def inject(
    model: nn.Module, anatomy: Anatomy, options: PrefixOptions, context: PassContext, seed: int
) -> Injection:
    """Put a prefix before the keys and values of every attention.

    Raises:
        MethodError: an architecture whose attention cannot be reached.
    """
    # Not by a layer: those of a quantised model have no parameters.
    words = model.get_submodule(anatomy.word_embeddings)
    device: torch.device = next(words.parameters()).device
    front = None
    if options.prefix_projection:
        draws = init_generator(seed, NAME)
        front = PrefixEncoder(anatomy.width, options, draws).to(device)
    parts: dict[str, nn.Module] = {}
    for attention in _attentions(anatomy):
        name, width = attention.module, prefix_width(model, attention)
        draws = init_generator(seed, NAME, name)
        parts[name] = Prefix(width, options, draws, front).to(device)
    injection = attach_prefixes(model, anatomy, NAME, parts)
    if front is None:
        return injection
    injection.changes.add_module(model, ENCODER_NAME, front)
    injection.parameters |= {f"{ENCODER_NAME}.{n}": p for n, p in front.named_parameters()}
    return injection


def count_parameters(model: nn.Module, anatomy: Anatomy, options: PrefixOptions) -> int:
    """2 * num_virtual_tokens * width of the keys for each attention; more with the projection."""
    keys = sum(prefix_width(model, attention) for attention in _attentions(anatomy))
    tokens = options.num_virtual_tokens
    if not options.prefix_projection:
        return 2 * tokens * keys
    hidden = options.encoder_hidden_size
    return (tokens + hidden) * anatomy.width + hidden + 2 * keys * (hidden + 1)


def to_peft(
    model: Any, options: PrefixOptions, injection: Injection, common: dict[str, Any]
) -> Any:
    """Make PEFT's prefix on a fresh base; ``common`` goes to its config.

    It has the output of a projection instead of the projection, as in PEFT's own files.
    """
    import peft

    config = peft.PrefixTuningConfig(
        num_virtual_tokens=options.num_virtual_tokens,
        token_dim=model.config.hidden_size,
        num_layers=model.config.num_hidden_layers,
        num_attention_heads=model.config.num_attention_heads,
        **common,
    )
    peft_model = wrap_in_peft(model, config)
    parts: list[Any] = list(injection.adapters.values())
    with torch.no_grad():
        rows = [states[0] for part in parts for states in part.keys_and_values(1)]
        peft_model.prompt_encoder["default"].embedding.weight.copy_(torch.cat(rows, -1))
    return peft_model


def cannot_export_to_peft(options: PrefixOptions, objective: Objective, model: Any) -> str:
    """Why PEFT's prefix tuning cannot serve such a task or model, or ""."""
    if options.layers != ALL:
        return "PEFT's prefix is in every layer"
    if objective.peft_task_type != "CAUSAL_LM":
        return "PEFT's prefix tuning is one of causal language models"
    config = getattr(model, "config", None)
    window = getattr(config, "sliding_window", None) is not None
    # transformers names the kind of attention of each layer.
    types = getattr(config, "layer_types", None)
    if window if types is None else any("sliding" in kind for kind in types):
        return "PEFT's prefix is the start of a cache, out of which sliding windows leave it"
    return ""


def _attentions(anatomy: Anatomy) -> list[Attention]:
    return [attention for layer in anatomy.layers for attention in layer.attentions]


METHOD = Method(
    name=NAME,
    title="prefix tuning",
    options=PrefixOptions,
    learning_rates=(2e-3, 6e-3, 2e-2),
    inject=inject,
    count_parameters=count_parameters,
    peft_export=PeftExport(to_peft, cannot_export_to_peft),
    virtual_tokens="attention",
    saved_widths=0.0,
)
