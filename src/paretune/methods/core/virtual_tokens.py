"""Prepend virtual tokens to the input embeddings.

Placeholder ids are prepended to the token ids, and after the word embeddings were looked up, the
trained prompt replaces the placeholders'. So prompt and text go alike through all that a model does
between its embeddings and its first layer (Marian multiplies by sqrt(width)), and through all that
the embedding module does itself (mBART's multiplies inside); passing ``inputs_embeds`` would skip
the one or the other.

In an encoder-decoder model the prompt is prepended to the source: ids and mask are lengthened where
the encoder is called, and the encoder's mask where the decoder is called. So it works in
``generate`` too, which calls the encoder once. A decoder is called once for each new token, and has
the prompt in its cache from the first call on.

**Positions.** A prompt moves the text to later positions. PEFT does so, and encoders bear it; a
small translation model with absolute positions does not (dev/log.md: moved by five
tokens, without any prompt, Marian loses 1.3 nats a token). With ``text_positions: kept`` the text
has the positions that it has without a prompt, and the prompt has none: it can learn one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods.core.injection import Injection
from paretune.models.changes import ModelChanges
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.models.weight_storage import embed_rows

MODULE_NAME = "virtual_prompt"
TextPositions = Literal["auto", "kept", "shifted"]


class VirtualTokens:
    """The hooks that put the prompt before each sequence.

    With a cache (a decoder) the prompt enters in the first call of a generation. Every later call
    is told that the text is longer by the prompt: its mask, and its positions where those are
    shifted. Only the base model knows of virtual tokens: ids, mask and positions are lengthened
    before it, and the virtual tokens' hidden states are cut off behind it. So an LM head, or a
    classifier that looks for the last token, finds the hidden states of the text.

    Args:
        prompts: called, it gives rows as of the word embeddings, (virtual, embedding width).
        cached: whether the text is read by a decoder.
        keeps_positions: the text has the positions that it has without a prompt.
    """

    def __init__(
        self,
        prompts: nn.Module,
        virtual: int,
        placeholder_id: int,
        context: PassContext,
        *,
        cached: bool,
        keeps_positions: bool,
    ) -> None:
        self.prompts = prompts
        self.context = context
        self.virtual, self.placeholder_id = virtual, placeholder_id
        self._cached, self._keeps_positions = cached, keeps_positions
        self._is_first = False
        """Whether the prompt enters in this call."""
        self._places = Places(None, virtual)
        self._pending: Tensor | None = None
        """Prompts of this pass that the embeddings do not have yet."""

    def lengthen_inputs(self, reader: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook of the module that reads the text: longer ids, mask and token types.

        Raises:
            MethodError: the prompt is to enter, and there are no token ids.
        """
        kwargs = name_arguments(reader, args, kwargs)
        self._is_first = not self._cached or count_cached(kwargs) == 0
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if positions is None and self._cached and self._keeps_positions:
            positions = find_text_positions(kwargs, not_of_text=self.virtual)
        if self._is_first:
            if kwargs.get("input_ids") is None:
                raise MethodError(
                    f"virtual tokens need token ids, and {type(reader).__name__} was called "
                    "without input_ids.",
                    remedy="Call the model with input_ids=...",
                )
            self._pending = self.prompts()
            self.virtual = self._pending.shape[0]
        if self.context.packing is not None:  # packed batches come with the placeholders in them
            return (), kwargs
        self._places = Places.behind_padding(mask if self._cached else None, self.virtual)
        fronts = {"attention_mask": 1}
        if self._is_first:
            fronts |= {"input_ids": self.placeholder_id, "token_type_ids": 0}
        for name, value in fronts.items():
            if kwargs.get(name) is not None:
                kwargs[name] = self._prepend_value(kwargs[name], value)
        if not self._cached or positions is None:
            return (), kwargs
        # The positions of the tokens of this call, with those of the prompt.
        if not self._keeps_positions:
            positions = positions + self.virtual
        if self._is_first:
            of_prompt = torch.arange(self.virtual, device=positions.device)
            if self._keeps_positions:
                of_prompt = torch.zeros_like(of_prompt)  # looked up, and then left without any
            positions = self._places.insert(of_prompt.expand(len(positions), -1), positions)
        kwargs["position_ids"] = positions
        return (), kwargs

    def _prepend_value(self, x: Tensor, value: int) -> Tensor:
        return self._places.insert(x.new_full((*x.shape[:-1], self.virtual), value), x)

    def insert_embeddings(self, words: nn.Module, args: Any, looked_up: Tensor) -> Tensor | None:
        """Forward hook of the word embeddings: the prompt replaces the placeholders."""
        # A decoder may share the module, and is called after the encoder.
        if self._pending is None:
            return None
        rows, self._pending = self._pending, None
        prompt = embed_rows(words, rows).to(looked_up)
        if self.context.packing is None:
            return self._places.replace(looked_up, prompt.expand(len(looked_up), -1, -1))
        layout = self.context.packing.layout
        prompts = prompt.repeat(len(layout.lengths), 1)
        return looked_up.index_copy(0, layout.virtual_rows(self.virtual), prompts[:, None])

    def keep_positions(self, positions: nn.Module, args: Any, looked_up: Tensor) -> Tensor | None:
        """Forward hook of the position embeddings: the text's from the first on, the prompt's 0."""
        if not self._is_first:
            return None
        if self.context.packing is not None:
            # A row has the position of the row ``virtual`` rows before it, in its sequence.
            moved = F.pad(looked_up[: len(looked_up) - self.virtual], (0, 0, 0, 0, self.virtual, 0))
            return moved.index_fill(0, self.context.packing.layout.virtual_rows(self.virtual), 0)
        if self._cached:
            none = looked_up.new_zeros(len(looked_up), self.virtual, looked_up.shape[-1])
            return self._places.replace(looked_up, none)
        text = looked_up[..., : looked_up.shape[-2] - self.virtual, :]
        return F.pad(text, (0, 0, self.virtual, 0))

    def lengthen_encoder_mask(self, decoder: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook of the decoder: a longer mask of the encoded source."""
        mask = kwargs.get("encoder_attention_mask")
        if mask is not None:
            kwargs["encoder_attention_mask"] = self._prepend_value(mask, 1)
        return args, kwargs

    def cut_hidden_states(self, reader: nn.Module, args: Any, out: Any) -> Any:
        """Forward hook of a decoder's base model: hidden states of the text alone."""
        if self._is_first and self.context.packing is None:
            out["last_hidden_state"] = self._places.cut(out["last_hidden_state"])
        return out


@dataclass(frozen=True)
class Places:
    """Where the virtual tokens stand: behind the padding on the left, if a row has any.

    Before it, they would be farther away from a text that is padded, and a sliding window, which
    counts the places between two tokens, would hide them from it earlier.

    Attributes:
        padding: the number of each row, (rows,); None: no row has any.
    """

    padding: Tensor | None
    virtual: int

    @classmethod
    def behind_padding(cls, mask: Tensor | None, virtual: int) -> Places:
        """The places in texts of this mask; (rows, tokens)."""
        if mask is None or mask.ndim != 2 or bool(mask[:, 0].all()):
            return cls(None, virtual)
        return cls((mask.cumsum(-1) == 0).sum(-1), virtual)

    def insert(self, virtual: Tensor, text: Tensor) -> Tensor:
        """(rows, virtual), (rows, tokens) -> (rows, virtual + tokens)."""
        joined = torch.cat([virtual, text], -1)
        if self.padding is None:
            return joined
        return joined.scatter(1, self._of_text(text.shape[1]), text).scatter(
            1, self._of_prompt(), virtual
        )

    def replace(self, x: Tensor, virtual: Tensor) -> Tensor:
        """``x`` with these in the places of the virtual tokens.

        Shapes: (rows, virtual + tokens, width), (rows, virtual, width).
        """
        if self.padding is None:
            return torch.cat([virtual, x[:, self.virtual :]], 1)
        return x.scatter(1, self._of_prompt()[..., None].expand_as(virtual), virtual)

    def cut(self, x: Tensor) -> Tensor:
        """(rows, virtual + tokens, width) -> (rows, tokens, width)."""
        if self.padding is None:
            return x[:, self.virtual :]
        places = self._of_text(x.shape[1] - self.virtual)[..., None]
        return x.gather(1, places.expand(-1, -1, x.shape[-1]))

    def _of_prompt(self) -> Tensor:
        """The places of the virtual tokens; (rows, virtual)."""
        assert self.padding is not None  # noqa: S101  (asked for where there is padding)
        return self.padding[:, None] + torch.arange(self.virtual, device=self.padding.device)

    def _of_text(self, tokens: int) -> Tensor:
        """The places of the text's tokens, its padding included; (rows, tokens)."""
        assert self.padding is not None  # noqa: S101  (asked for where there is padding)
        places = torch.arange(tokens, device=self.padding.device)
        return places + self.virtual * (places >= self.padding[:, None])


def prepend_virtual_tokens(
    model: Any,
    anatomy: Anatomy,
    prompts: nn.Module,
    virtual: int,
    context: PassContext,
    text_positions: TextPositions = "auto",
) -> Injection:
    """Prepend virtual tokens to the input embeddings.

    Args:
        prompts: called, it gives (virtual, embedding width).
    """
    changes = ModelChanges()
    changes.add_module(model, MODULE_NAME, prompts)
    words = model.get_submodule(anatomy.word_embeddings)
    # A token that means nothing to the model's code: padding is counted, masked and given no
    # position by some models; others look for the end.
    special: set[int] = set()
    for name, value in model.config.to_dict().items():
        if name.endswith("token_id") and value is not None:
            special.update(value if isinstance(value, list) else [value])
    placeholder_id = next(token for token in range(len(words.weight)) if token not in special)
    keeps_positions = keeps_text_positions(anatomy, text_positions)
    reader = model.get_submodule(anatomy.text_reader)
    tokens = VirtualTokens(
        prompts,
        virtual,
        placeholder_id,
        context,
        cached=anatomy.reads_causally,
        keeps_positions=keeps_positions,
    )
    if anatomy.reads_causally:
        changes.hook(reader.register_forward_hook(tokens.cut_hidden_states))
    # Before the hooks of a prefix, which moves the positions of all that it finds.
    lengthen = tokens.lengthen_inputs
    changes.hook(reader.register_forward_pre_hook(lengthen, with_kwargs=True, prepend=True))
    changes.hook(words.register_forward_hook(tokens.insert_embeddings))
    if keeps_positions:
        positions = model.get_submodule(str(anatomy.position_embeddings))
        changes.hook(positions.register_forward_hook(tokens.keep_positions))
    for name in anatomy.source_readers:
        hook = tokens.lengthen_encoder_mask
        source_reader = model.get_submodule(name)
        changes.hook(source_reader.register_forward_pre_hook(hook, with_kwargs=True))
    parameters = {f"{MODULE_NAME}.{name}": p for name, p in prompts.named_parameters()}
    return Injection(parameters, changes, virtual_tokens=virtual, placeholder_id=placeholder_id)


def keeps_text_positions(anatomy: Anatomy, text_positions: TextPositions) -> bool:
    """Whether the text keeps its positions; where they are not absolute there is nothing to keep.

    Args:
        text_positions: ``kept``, ``shifted``, or ``auto``: as the topology has it.
    """
    if anatomy.position_embeddings is None or text_positions == "shifted":
        return False
    return text_positions == "kept" or anatomy.topology.keeps_text_positions


def name_arguments(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a forward pass, all by their names."""
    names = inspect.signature(module.forward).parameters
    return dict(zip(names, args, strict=False)) | kwargs


def count_cached(kwargs: Mapping[str, Any]) -> int:
    """Tokens in the cache of a generation before this call; 0 where there is no cache."""
    # transformers renamed the argument after 5.23; either name may come.
    caches = (kwargs.get(name) for name in ("cache", "past_key_values"))
    return next((int(cache.get_seq_length()) for cache in caches if cache is not None), 0)


def find_text_positions(kwargs: Mapping[str, Any], not_of_text: int = 0) -> Tensor:
    """The positions of the tokens of this call, as ``generate`` counts them; (rows or 1, tokens).

    ``generate`` calls a decoder once for each new token, with all positions given; all calls but
    the first read what came before from the cache. Padding has none: tokens are counted by the
    mask, where there is one.

    Args:
        not_of_text: how many of the tokens in the cache are not counted, nor in the mask.
    """
    ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
    read = kwargs["inputs_embeds"] if ids is None else ids
    tokens = read.shape[1]
    if mask is not None and mask.ndim == 2:
        counted: Tensor = mask.long().cumsum(-1) - 1
        return counted.clamp(min=0)[:, -tokens:]
    before = max(0, count_cached(kwargs) - not_of_text)
    return torch.arange(before, before + tokens, device=read.device)[None]
