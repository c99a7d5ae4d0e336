"""Where a model's parts are, read from its structure: one description for all architectures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from paretune.errors import MethodError, ModelError
from paretune.models.changes import ModelChanges, evaluation_mode
from paretune.models.structure.layers import SUPPORTED_FAMILIES, Layer, find_name, is_within
from paretune.models.structure.topology import Topology, topology_of


def find_backbone_parameters(model: Any, topology: Topology) -> frozenset[str]:
    """Names of the parameters on which the last hidden state depends, word embeddings included.

    Raises:
        ModelError: the model cannot be run from embeddings.
    """
    tables = topology.word_embeddings(model)
    embeddings = torch.zeros(1, 4, tables[0].weight.shape[1], device=tables[0].weight.device)
    try:
        with evaluation_mode(model), torch.enable_grad():
            hidden = topology.last_hidden_state(model, embeddings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be run from embeddings ({error}).",
            remedy=SUPPORTED_FAMILIES,
        ) from None
    # The leaf tensors that it was computed from; tensors are hashed by identity.
    reached: set[Tensor] = {p for table in tables for p in table.parameters()}
    seen: set[Any] = set()
    waiting: list[Any] = [hidden.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # only nodes that accumulate gradients have one
        if leaf is not None:
            reached.add(leaf)
        waiting.extend(following for following, _ in node.next_functions)
    return frozenset(name for name, p in model.named_parameters() if p in reached)


@contextmanager
def watch_output_norms(model: nn.Module, layers: Sequence[Layer]) -> Iterator[dict[str, str]]:
    """Record by layer the name of the normalisation that gives its output (post-norm), if one does.

    A forward pass fills it while the block runs. The order in which modules are declared does not
    tell: XLM-RoBERTa-XL declares last what it uses first.
    """
    output_norms: dict[str, str] = {}
    normed: dict[str, Tensor] = {}  # the tensors themselves: an address alone may come again

    def record(name: str, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        normed[name] = out

    def compare(layer: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        hidden = out[0] if isinstance(out, tuple) else out
        for name, states in normed.items():
            if states is hidden:
                output_norms[layer] = name
        normed.clear()

    with ModelChanges() as hooks:
        for layer in layers:
            block = model.get_submodule(layer.name)
            for part, module in block.named_modules():
                if isinstance(module, nn.LayerNorm | nn.RMSNorm):
                    hook = partial(record, f"{layer.name}.{part}")
                    hooks.hook(module.register_forward_hook(hook))
            hooks.hook(block.register_forward_hook(partial(compare, layer.name)))
        yield output_norms


ROLES: dict[str, Callable[[Layer], tuple[str, ...]]] = {
    "query": lambda layer: tuple(a.query for a in layer.attentions),
    "key": lambda layer: tuple(a.key for a in layer.attentions),
    "value": lambda layer: tuple(a.value for a in layer.attentions),
    "attention_output": lambda layer: tuple(a.output for a in layer.attentions),
    "feed_forward_up": lambda layer: layer.up,
    "feed_forward_down": lambda layer: (layer.down,),
    "all_linear": lambda layer: (
        *(part for a in layer.attentions for part in (a.query, a.key, a.value, a.output)),
        *(*layer.up, layer.down),
    ),
}
"""The linear layers of a role in one layer, those of cross-attention included. A fused projection
has all its roles."""


@dataclass(frozen=True)
class Anatomy:
    """Names of a model's parts.

    Attributes:
        embedding_width: the width of the word embeddings; ELECTRA's differs from ``width``.
        head_modules: the outermost modules after the last hidden state that training begins with
            new weights: pooler, classifier.
        linear_layers: names of every linear layer of the backbone, those of ``layers`` among them.
        max_length: tokens that fit, special tokens included, or None if nothing limits them.
        text_reader: name of the module whose ids and mask grow by virtual tokens; "" is the model.
        source_readers: names of the modules that are given the mask of an encoded source.
        position_embeddings: module name of the table of absolute positions beside the word
            embeddings, or None where positions are relative or rotary.
        untrainable: parameters that are no weights, computed and never saved: Marian's sines.
        is_whole: whether ``layers`` are all of them; no after :meth:`select_layers`.
    """

    topology: Topology
    width: int
    embedding_width: int
    word_embeddings: str
    layers: tuple[Layer, ...]
    head_modules: tuple[str, ...]
    linear_layers: tuple[str, ...]
    max_length: int | None
    pad_id: int | None
    encoder: str
    text_reader: str = ""
    source_readers: tuple[str, ...] = ()
    position_embeddings: str | None = None
    untrainable: tuple[str, ...] = ()
    is_whole: bool = True

    @property
    def reads_causally(self) -> bool:
        """Whether no token of the text sees those after it, so that generation keeps a cache."""
        return self.layers[0].stack == "decoder" and not self.source_readers

    def select_layers(self, numbers: Sequence[int]) -> Anatomy:
        """A copy with these layers only, for a method that stands beside them."""
        if self.is_whole and list(numbers) == list(range(len(self.layers))):
            return self
        chosen = replace(self, layers=tuple(self.layers[n] for n in numbers), is_whole=False)
        inside = tuple(name for name in self.linear_layers if chosen.covers(name))
        return replace(chosen, linear_layers=inside)

    def covers(self, name: str) -> bool:
        """Whether a module or a parameter is in one of ``layers``; anything is in all of them."""
        return self.is_whole or is_within(name, *(layer.name for layer in self.layers))

    def find_layer(self, name: str) -> int | None:
        """Number of the layer that holds a module or a parameter; None if no layer does."""
        numbers = (n for n, layer in enumerate(self.layers) if is_within(name, layer.name))
        return next(numbers, None)

    @property
    def stacks(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers of each stack, first to last."""
        stacks = groupby(self.layers, lambda layer: layer.stack)
        return tuple(tuple(layers) for _, layers in stacks)


def read_anatomy(model: Any) -> Anatomy:
    """Describe a ``transformers`` model, with weights or on meta.

    Raises:
        ModelError: an architecture without what was looked for; the text shows both.
    """
    topology = topology_of(getattr(model, "config", None))
    layers = topology.find_layers(model)
    words = topology.word_embeddings(model)[0]
    if not isinstance(words, nn.Embedding):
        raise ModelError(
            f"{type(model).__name__} has no table of word embeddings "
            f"(its input goes through {type(words).__name__})."
        )
    word_embeddings = find_name(model, words)
    with watch_output_norms(model, layers) as norms:
        backbone = find_backbone_parameters(model, topology)
    positions = topology.find_position_embeddings(model, word_embeddings)
    # Marian's positions are made untrainable, but ``from_pretrained`` forgets that; what tells them
    # apart for certain is that a checkpoint leaves them out: what was trained would be lost.
    unsaved = getattr(model, "_keys_to_ignore_on_save", None) or ()
    return Anatomy(
        topology=topology,
        width=model.get_submodule(layers[0].self_attention.query).in_features,
        embedding_width=words.embedding_dim,
        word_embeddings=word_embeddings,
        layers=tuple(replace(layer, output_norm=norms.get(layer.name)) for layer in layers),
        head_modules=topology.head_modules(model, backbone),
        linear_layers=tuple(
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and f"{name}.weight" in backbone
        ),
        max_length=topology.max_length(model, positions),
        pad_id=getattr(model.config, "pad_token_id", None),
        encoder=find_name(model, topology.first_stack(model)),
        text_reader=topology.text_reader(model),
        source_readers=topology.source_readers(model),
        position_embeddings=positions,
        untrainable=tuple(name for name, _ in model.named_parameters() if name in unsaved),
    )


def find_target_modules(
    anatomy: Anatomy,
    names: Sequence[str],
    *,
    option: str = "target_modules",
    allow_unmatched: bool = False,
) -> list[str]:
    """Module names of the linear layers that ``names`` mean, in the order of the model.

    A name is a role of :data:`ROLES`, or the end of a module's name, as in PEFT
    (``attention.self.query``, ``dense``). ``allow_unmatched`` passes over names that match nothing,
    to repeat a study that had such; it may leave no target. ``option`` has the names, for messages.

    Raises:
        MethodError: a name matches nothing; the text shows what exists.
    """
    chosen: set[str] = set()
    unmatched = []
    for name in names:
        if name in ROLES:
            chosen.update(part for layer in anatomy.layers for part in ROLES[name](layer))
            continue
        hits = [n for n in anatomy.linear_layers if n == name or n.endswith(f".{name}")]
        chosen.update(hits)
        if not hits:
            unmatched.append(name)
    if unmatched and not allow_unmatched:
        listed = ", ".join(f'"{name}"' for name in unmatched)
        prefix = f"{anatomy.layers[0].name}."
        first = [n.removeprefix(prefix) for n in anatomy.linear_layers if n.startswith(prefix)]
        raise MethodError(
            f"{option}: {listed} {'match' if len(unmatched) > 1 else 'matches'} no linear "
            f"layer of the model.\nIts first layer has: {', '.join(first)}.\n",
            remedy=f"Name one of these, or a role: {', '.join(ROLES)}.",
        )
    return [name for name in anatomy.linear_layers if name in chosen]


def accepts_embeddings(model: Any, *, tolerance: float = 1e-5) -> bool:
    """Whether the model gives the same for tokens and for what its table gives for them.

    PEFT's prompt methods hand the model embeddings. An architecture that scales or changes the
    embeddings only when it looks them up itself (Marian multiplies by sqrt(width)) would read
    virtual tokens that are far too small. Asked of the first stack. Leaves the model as it was;
    needs real weights.
    """
    topology = topology_of(model.config)
    reader, words = topology.first_stack(model), topology.word_embeddings(model)[0]
    rows = len(words.weight)
    # Ordinary tokens from the middle of the vocabulary: neither padding nor special.
    ids = torch.linspace(rows // 2, rows - 1, 6, device=words.weight.device).long()[None]
    with evaluation_mode(model), torch.no_grad():
        mask = torch.ones_like(ids)
        by_ids = reader(input_ids=ids, attention_mask=mask)[0]
        by_embeddings = reader(inputs_embeds=words(ids), attention_mask=mask)[0]
    return torch.allclose(by_ids, by_embeddings, rtol=tolerance, atol=tolerance)
