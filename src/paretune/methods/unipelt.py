"""UniPELT: LoRA, prefix and adapter in every layer, each behind a gate that the input opens.

Source: Mao et al. 2022, arXiv:2110.07577, section 3.
Equation: g(h) = mean over the text's tokens of sigmoid(w h + c), one number for each sequence.
  LoRA on query and value: h = W x + g(x) B A x: the gate is the scale, there is no alpha;
  prefix: [g P_k; K] and [g P_v; V], with g of the layer's input;
  adapter: that of pfeiffer, y = norm(f + x + g(h) (U relu(D h + d) + u)) with h = norm(f + x).
Shapes: of each gate w (width,) and c (1,); else as in lora, prefix and pfeiffer.
Trained parameters: the sum of the three, and width + 1 for each gate: four in a layer, seven in one
of a decoder with its second attention.
Start: not the base model (the prefix). w normal(0, 0.02), c = 0. Does not merge. PEFT export: none.
When: it is not known which of three methods suits the task, and the gates are to find out.

Padding is no text: the mean leaves it out (the authors' code counts it, so that there a longer
batch changes the answer). Query and value have a gate each, as in the authors' code; the paper
speaks of one for LoRA in a layer. No gate in a decoder may know the tokens after its own. Where
there is an encoded source, all gates read that instead of what is given to their part; both
attentions have a prefix, each with a gate. In a decoder-only model there is no mean: a gate reads
each token, g_t = sigmoid(w h_t + c), and opens for it alone: token t attends to [g_t P_k; K] and
gets of [g_t P_v; V]. The prefix is trained as it is; the paper makes it by a network that is thrown
away after training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paretune.methods import lora, pfeiffer, prefix
from paretune.methods.core.initialisation import draw_normal, init_generator
from paretune.methods.core.injection import Injection, attach, get_linear
from paretune.methods.core.low_rank import count_updates
from paretune.methods.core.method import Method
from paretune.methods.core.options import LayerOptions
from paretune.methods.core.prefix_attention import attach_prefixes, prefix_width
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy, find_target_modules
from paretune.models.structure.layers import is_within

NAME = "unipelt"
LORA_TARGETS = ("query", "value")
"""The paper's."""


class UnipeltOptions(LayerOptions):
    """Sizes as in the paper: rank 8, prefix of 10, bottleneck of width / 16."""

    rank: int = Field(default=8, ge=1, le=1024)
    num_virtual_tokens: int = Field(default=10, ge=1, le=512)
    reduction_factor: int = Field(default=16, ge=1, le=4096)

    @property
    def three(self) -> tuple[lora.LoraOptions, prefix.PrefixOptions, pfeiffer.PfeifferOptions]:
        """Options of the three methods."""
        return (
            # Alpha over rank is 1: the gate stands in its place.
            lora.LoraOptions(rank=self.rank, alpha=float(self.rank), target_modules=LORA_TARGETS),
            prefix.PrefixOptions(num_virtual_tokens=self.num_virtual_tokens),
            pfeiffer.PfeifferOptions(reduction_factor=self.reduction_factor),
        )


@dataclass
class TextMask:
    """Where the text is in the present batch; (rows, tokens), None where it is everywhere.

    ``source`` is what a decoder is given of the encoded text, (rows, tokens, width), and
    ``source_mask`` where that is text. ``may_grow``: a prompt may get in behind where masks are
    noted.
    """

    may_grow: bool = False
    mask: Tensor | None = field(default=None)
    source: Tensor | None = field(default=None)
    source_mask: Tensor | None = field(default=None)

    def note_mask(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Hook before what reads the text."""
        self.mask = _token_mask(kwargs.get("attention_mask"))

    def note_source(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Hook before the decoder."""
        self.source = kwargs["encoder_hidden_states"]
        self.source_mask = _token_mask(kwargs.get("encoder_attention_mask"))


Reads = Literal["text", "source", "token"]
"""A gate reads all tokens of the text, those of the encoded source, or each token for itself."""


class Gate(nn.Module):
    """Mean over tokens of sigmoid(w h + c), with h those of the text or of the encoded source.

    Where it reads each token for itself, there is no mean.
    """

    def __init__(
        self,
        width: int,
        text: TextMask,
        reads: Reads,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        self._text = text
        self.reads = reads
        self.w = nn.Parameter(draw_normal((width,), 0.02, generator).to(device))
        self.c_bias = nn.Parameter(torch.zeros(1, device=device))

    def forward(self, h: Tensor) -> Tensor:
        """(rows, tokens, width) -> (rows, 1, 1), or (rows, tokens, 1)."""
        mask = self._text.mask
        if self.reads == "source":
            assert self._text.source is not None  # noqa: S101  (noted before the decoder's layers)
            h, mask = self._text.source, self._text.source_mask
        score = (h * self.w).sum(-1, keepdim=True)
        opened = torch.sigmoid(score + self.c_bias)
        if self.reads == "token":
            return opened
        if mask is not None and self._text.may_grow:
            # All that was put in front of the text since its mask was noted is text as well.
            mask = F.pad(mask, (h.shape[1] - mask.shape[1], 0), value=1)
        if mask is None or mask.shape != h.shape[:2]:
            return opened.mean(1, keepdim=True)
        weights = mask.to(opened)[..., None]
        return (opened * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)


class GatedLora(lora.LoraUpdate):
    """A low-rank update behind a gate."""

    gate: Gate

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        opened: Tensor = self.gate(x)
        return out + opened * super().forward(x, torch.zeros_like(out))


class GatedBottleneck(pfeiffer.PfeifferBottleneck):
    """An adapter behind a gate."""

    gate: Gate

    def forward(self, h: Tensor, out: Tensor) -> Tensor:
        """Add the gated change of the adapter, which reads ``h``, to the layer's output."""
        opened: Tensor = self.gate(h)
        return out + opened * self.compute_change(h)


class GatedPrefix(prefix.Prefix):
    """A prefix behind a gate, which reads the layer's input."""

    gate: Gate
    _input: Tensor

    def remember_input(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Hook before the query projection: its input is the layer's."""
        self._input = args[0]

    def keys_and_values(self, rows: int) -> tuple[Tensor, Tensor]:
        """(rows, virtual, width) each."""
        keys, values = super().keys_and_values(rows)
        if self.gate.reads == "token":
            return keys, values
        opened = self.gate(self._input)
        return opened * keys, opened * values

    def token_gate(self) -> Tensor | None:
        """How far the gate is open for each query, (rows, tokens, 1), where it reads tokens."""
        return self.gate(self._input) if self.gate.reads == "token" else None


def inject(
    model: Any, anatomy: Anatomy, options: UnipeltOptions, context: PassContext, seed: int
) -> Injection:
    """Put the three, gated, into every layer.

    Raises:
        MethodError: an architecture whose attention takes no prefix.
    """
    text = TextMask(may_grow=bool(anatomy.source_readers))
    of_lora, of_prefix, of_adapter = options.three
    device = get_linear(model, anatomy.layers[0].down).weight.device

    def make_gate(name: str) -> Gate:
        reads: Reads = "token" if anatomy.reads_causally else "text"
        if is_within(name, *anatomy.source_readers):
            reads = "source"
        generator = init_generator(seed, NAME, "gate", name)
        return Gate(anatomy.width, text, reads, generator, device)

    updates: dict[str, nn.Module] = {}
    for name in find_target_modules(anatomy, LORA_TARGETS):
        generator = init_generator(seed, NAME, "lora", name)
        update = GatedLora(get_linear(model, name), of_lora, generator)
        update.gate = make_gate(name)
        updates[name] = update
    prefixes: dict[str, GatedPrefix] = {}
    bottlenecks: dict[str, nn.Module] = {}
    queries: dict[str, str] = {}
    for layer in anatomy.layers:
        for attention in layer.attentions:
            name, width = attention.module, prefix_width(model, attention)
            generator = init_generator(seed, NAME, "prefix", name)
            prefixes[name] = GatedPrefix(width, of_prefix, generator).to(device)
            prefixes[name].gate = make_gate(name)
            queries[name] = attention.query
        generator = init_generator(seed, NAME, "adapter", layer.down)
        bottleneck = GatedBottleneck(get_linear(model, layer.down), of_adapter, generator)
        bottleneck.gate = make_gate(layer.down)
        bottlenecks[layer.down] = bottleneck
    whole = attach_prefixes(model, anatomy, f"{NAME}_prefix", dict(prefixes))
    whole.absorb(attach(model, f"{NAME}_lora", updates))
    whole.absorb(
        pfeiffer.attach_behind_feed_forward(model, anatomy, f"{NAME}_adapter", bottlenecks)
    )
    for name, gated in prefixes.items():
        query = model.get_submodule(queries[name])
        whole.changes.hook(query.register_forward_pre_hook(gated.remember_input))
    reader = model.get_submodule(anatomy.encoder)
    whole.changes.hook(reader.register_forward_pre_hook(text.note_mask, with_kwargs=True))
    for name in anatomy.source_readers:
        hook = model.get_submodule(name).register_forward_pre_hook(
            text.note_source, with_kwargs=True
        )
        whole.changes.hook(hook)
    whole.supports_packing = False  # a gate reads the mean of a whole text
    return whole


def count_parameters(model: nn.Module, anatomy: Anatomy, options: UnipeltOptions) -> int:
    """The sum of the three, and of the gates."""
    of_lora, of_prefix, of_adapter = options.three
    prefixes = sum(len(layer.attentions) for layer in anatomy.layers)
    gates = len(find_target_modules(anatomy, LORA_TARGETS)) + prefixes + len(anatomy.layers)
    return (
        gates * (anatomy.width + 1)
        + count_updates(model, anatomy, of_lora, lora.LoraUpdate)
        + prefix.count_parameters(model, anatomy, of_prefix)
        + pfeiffer.count_parameters(model, anatomy, of_adapter)
    )


def _token_mask(mask: Tensor | None) -> Tensor | None:
    """The mask, if it is one of tokens and not of pairs of them."""
    return mask if mask is not None and mask.ndim == 2 else None


METHOD = Method(
    name=NAME,
    title="UniPELT",
    options=UnipeltOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    # These rates lie between those of its LoRA and its adapter.
    decoder_learning_rates=(1e-4, 3e-4, 1e-3),
    inject=inject,
    count_parameters=count_parameters,
    code_epoch=2,
    saved_widths=13.8,
)
