"""Decoder-only models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from paretune.errors import ModelError
from paretune.models.structure.layers import (
    SUPPORTED_FAMILIES,
    Layer,
    find_layers,
    find_name,
    parent_name,
)
from paretune.models.structure.topologies.parts import join_names, outermost_outside, position_limit
from paretune.models.structure.topology import HasRates

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from paretune.study import Generation


@dataclass(frozen=True)
class Decoder:
    """One stack in which a token attends to itself and to what stands before it.

    A new head reads the last token, the only one that has seen the whole text. Virtual tokens stand
    before the text inside the base model alone, so that what scores its hidden states finds those
    of the text. An LM head came with the checkpoint, tied to the embeddings or not. Updates stand
    beside all linear layers, as is usual in decoders (Dettmers et al. 2023, QLoRA,
    arXiv:2305.14314, section 4: needed to match full fine-tuning).
    """

    name: str = "a decoder-only model"
    heads: tuple[str, ...] = ("sequence_classification", "multiple_choice", "causal_lm")
    pooled_token: int | None = -1
    can_cache_activations: bool = True
    keeps_text_positions: bool = False
    default_targets: tuple[str, ...] = ("all_linear",)
    requires_fast_tokenizer: bool = True
    holds_tables_in_bf16: bool = True  # they may be most of the model, and are often published so

    def choose_rates(self, method: HasRates) -> tuple[float, float, float] | None:
        """Those of decoders."""
        return method.decoder_learning_rates or method.learning_rates

    def find_layers(self, model: Any) -> tuple[Layer, ...]:
        """The layers of the one stack, none of which attends to another sequence."""
        layers = find_layers(model, stack="decoder")
        if any(layer.cross_attention is not None for layer in layers):
            raise ModelError(
                f"{type(model).__name__} has a decoder that attends to a source, and no encoder.",
                remedy=SUPPORTED_FAMILIES,
            )
        return layers

    def word_embeddings(self, model: Any) -> list[Any]:
        """The one table."""
        return [model.get_input_embeddings()]

    def last_hidden_state(self, model: Any, embeddings: Tensor) -> Tensor:
        """The base model's, behind its last normalisation."""
        # Without a cache transformers looks for several texts in one row, by values, which meta
        # has not.
        hidden: Tensor = model.base_model(inputs_embeds=embeddings, use_cache=True)[0]
        return hidden

    def first_stack(self, model: Any) -> Any:
        """The base model."""
        return model.base_model

    def text_reader(self, model: Any) -> str:
        """The module that looks words up: of most the base model, in OPT a part of it."""
        return parent_name(find_name(model, model.get_input_embeddings()))

    def source_readers(self, model: Any) -> tuple[str, ...]:
        """None."""
        return ()

    def head_modules(self, model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
        """The outermost modules outside the backbone, but for the checkpoint's own LM head."""
        own: Any = model
        lm_head = own.get_output_embeddings()
        outside = outermost_outside(model, backbone)
        return tuple(name for name in outside if model.get_submodule(name) is not lm_head)

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """An embedding beside the word embeddings; OPT's has two rows in front of the first."""
        limit = position_limit(model) or 1
        home = word_embeddings.rpartition(".")[0]
        for name, module in model.get_submodule(home).named_children():
            is_table = isinstance(module, nn.Embedding) and module.num_embeddings >= limit
            if is_table and module is not model.get_submodule(word_embeddings):
                return join_names(home, name)
        return None

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """What the config says: rows of the position table, or the length of pretraining."""
        return position_limit(model)

    def scored_vocabulary(self, model: Any) -> int:
        """All words, for every scored token, where the model has its LM head."""
        return 0 if model.get_output_embeddings() is None else int(model.config.vocab_size)

    def generation_config(
        self, model: Any, generation: Generation, max_length: int | None, first_token: int | None
    ) -> GenerationConfig:
        """Its ``max_new_tokens`` counts what follows the prompt, not the prompt."""
        from transformers import GenerationConfig

        if model.get_output_embeddings() is None:
            raise TypeError(f"{type(model).__name__} has no LM head, so it generates no texts")
        own: dict[str, Any] = model.generation_config.to_dict()
        # Instruction-tuned checkpoints come with settings of sampling, which a search has not.
        sampling = dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "typical_p"))
        own |= sampling | {"do_sample": False, "max_length": None}
        own["max_new_tokens"] = generation.max_new_tokens
        if own.get("pad_token_id") is None:
            own["pad_token_id"] = model.config.pad_token_id
        if generation.num_beams is not None:
            own["num_beams"] = generation.num_beams
        if generation.length_penalty is not None:
            own["length_penalty"] = generation.length_penalty
        return GenerationConfig.from_dict(own)
