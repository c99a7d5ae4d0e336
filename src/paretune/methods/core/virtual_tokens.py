"""Prepend virtual tokens to the input embeddings.

Placeholder ids are prepended to the token ids, and after the word embeddings were looked up, the
trained prompt replaces the placeholders'. So whatever a model does between its embeddings and its
first layer (Marian multiplies by sqrt(width)), and what the embedding module itself does (mBART's
multiplies inside), happens to prompt and text alike; passing ``inputs_embeds`` would skip the one
or the other.

In an encoder-decoder model the prompt is prepended to the source: ids and mask are lengthened where
the encoder is called, and the encoder's mask where the decoder is called. So it works in
``generate`` too, which calls the encoder once.

**Positions.** A prompt moves the text to later positions. PEFT does so, and encoders bear it; a
small translation model with absolute positions does not (dev/log.md: moved by five
tokens, without any prompt, Marian loses 1.3 nats a token). With ``text_positions: kept`` the text
has the positions that it has without a prompt, and the prompt has none: it can learn one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods.core.injection import Injection
from paretune.methods.core.run_axis import Fleet
from paretune.models.changes import ModelChanges
from paretune.models.embedding_rows import embed_rows
from paretune.models.structure.anatomy import Anatomy

MODULE_NAME = "virtual_prompt"


class VirtualTokens:
    """The hooks that put each run's prompt before its sequences.

    ``prompts``, called, gives (runs, virtual, embedding width): rows as of the word embeddings.
    """

    def __init__(self, prompts: nn.Module, virtual: int, placeholder_id: int, fleet: Fleet) -> None:
        self.prompts, self.fleet = prompts, fleet
        self.virtual, self.placeholder_id = virtual, placeholder_id
        self._pending: Tensor | None = None
        """Prompts of this pass that the embeddings do not have yet."""
        self._shift_positions = False

    def lengthen_inputs(self, reader: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook of the module that reads the text: longer ids, mask and token types."""
        if kwargs.get("input_ids") is None:
            raise MethodError(
                f"virtual tokens need token ids, and {type(reader).__name__} was called without "
                "input_ids.",
                remedy="Call the model with input_ids=...",
            )
        self._pending = self.prompts()
        self.virtual, self._shift_positions = self._pending.shape[1], True
        if self.fleet.packing is not None:  # packed batches come with the placeholders in them
            return args, kwargs
        fronts = {"input_ids": self.placeholder_id, "attention_mask": 1, "token_type_ids": 0}
        for name, value in fronts.items():
            if kwargs.get(name) is not None:
                kwargs[name] = self._prepend_value(kwargs[name], value)
        return args, kwargs

    def insert_embeddings(self, words: nn.Module, args: Any, looked_up: Tensor) -> Tensor | None:
        """Forward hook of the word embeddings: the prompt replaces the placeholders."""
        # A decoder may share the module, and is called after the encoder.
        if self._pending is None:
            return None
        rows, self._pending = self._pending, None
        prompts = embed_rows(words, rows.flatten(0, 1)).reshape(rows.shape)
        if self.fleet.packing is not None:
            layout = self.fleet.packing.layout
            fronts = [
                own.repeat(n, 1) for own, n in zip(prompts, layout.run_sequences, strict=True)
            ]
            own_rows = torch.cat(fronts).to(looked_up)[:, None]
            return looked_up.index_copy(0, layout.virtual_rows(self.virtual), own_rows)

        def replace_placeholders(run: int, own: Tensor) -> Tensor:
            front = prompts[run].to(own).expand(len(own), -1, -1)
            return torch.cat([front, own[:, front.shape[1] :]], 1)

        return self.fleet.map_runs(looked_up, replace_placeholders)

    def keep_positions(self, positions: nn.Module, args: Any, looked_up: Tensor) -> Tensor | None:
        """Forward hook of the position embeddings: the text's from the first on, the prompt's 0."""
        if not self._shift_positions:
            return None
        self._shift_positions = False
        if self.fleet.packing is not None:
            # A row has the position of the row ``virtual`` rows before it, in its sequence.
            moved = F.pad(looked_up[: len(looked_up) - self.virtual], (0, 0, 0, 0, self.virtual, 0))
            return moved.index_fill(0, self.fleet.packing.layout.virtual_rows(self.virtual), 0)
        text = looked_up[..., : looked_up.shape[-2] - self.virtual, :]
        return F.pad(text, (0, 0, self.virtual, 0))

    def lengthen_encoder_mask(self, decoder: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook of the decoder: a longer mask of the encoded source."""
        if kwargs.get("encoder_attention_mask") is not None:
            kwargs["encoder_attention_mask"] = self._prepend_value(
                kwargs["encoder_attention_mask"], 1
            )
        return args, kwargs

    def _prepend_value(self, x: Tensor, value: int) -> Tensor:
        front = x.new_full((*x.shape[:-1], self.virtual), value)
        return torch.cat([front, x], dim=-1)


def prepend_virtual_tokens(
    model: Any,
    anatomy: Anatomy,
    prompts: nn.Module,
    virtual: int,
    fleet: Fleet,
    text_positions: str = "auto",
) -> Injection:
    """Prepend virtual tokens to the input embeddings.

    Args:
        prompts: called, it gives (runs, virtual, embedding width).
    """
    changes = ModelChanges()
    changes.add_module(model, MODULE_NAME, prompts)
    words = model.get_submodule(anatomy.word_embeddings)
    placeholder_id = _find_placeholder_id(model, len(words.weight))
    tokens = VirtualTokens(prompts, virtual, placeholder_id, fleet)
    reader = model.get_submodule(anatomy.text_reader)
    changes.hook(reader.register_forward_pre_hook(tokens.lengthen_inputs, with_kwargs=True))
    changes.hook(words.register_forward_hook(tokens.insert_embeddings))
    if keeps_text_positions(anatomy, text_positions):
        positions = model.get_submodule(str(anatomy.position_embeddings))
        changes.hook(positions.register_forward_hook(tokens.keep_positions))
    for name in anatomy.source_readers:
        hook = tokens.lengthen_encoder_mask
        source_reader = model.get_submodule(name)
        changes.hook(source_reader.register_forward_pre_hook(hook, with_kwargs=True))
    parameters = {f"{MODULE_NAME}.{name}": p for name, p in prompts.named_parameters()}
    return Injection(parameters, changes, virtual_tokens=virtual, placeholder_id=placeholder_id)


def keeps_text_positions(anatomy: Anatomy, text_positions: str) -> bool:
    """Whether the text keeps its positions; where they are not absolute there is nothing to keep.

    Args:
        text_positions: ``kept``, ``shifted``, or ``auto``: as the topology has it.
    """
    if anatomy.position_embeddings is None or text_positions == "shifted":
        return False
    return text_positions == "kept" or anatomy.topology.keeps_text_positions


def _find_placeholder_id(model: Any, vocabulary: int) -> int:
    """A token that means nothing to the model's code.

    Padding is counted, masked and given no position by some models; others look for the end.
    """
    special: set[int] = set()
    for name, value in model.config.to_dict().items():
        if name.endswith("token_id") and value is not None:
            special.update(value if isinstance(value, list) else [value])
    return next(token for token in range(vocabulary) if token not in special)
