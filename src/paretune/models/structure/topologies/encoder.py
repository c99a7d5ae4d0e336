"""Encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from paretune.models.structure.layers import Layer, find_layers
from paretune.models.structure.topologies.parts import join_names, outermost_outside, position_limit
from paretune.models.structure.topology import HasRates

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from paretune.study import Generation


@dataclass(frozen=True)
class Encoder:
    """One stack in which every token attends to every other. A new head reads the first token."""

    name: str = "an encoder"
    heads: tuple[str, ...] = ("sequence_classification", "multiple_choice")
    pooled_token: int | None = 0
    can_cache_activations: bool = True
    keeps_text_positions: bool = False
    default_targets: tuple[str, ...] = ("query", "value")
    requires_fast_tokenizer: bool = True
    holds_tables_in_bf16: bool = False

    def choose_rates(self, method: HasRates) -> tuple[float, float, float] | None:
        """Those of encoders and translation models."""
        return method.learning_rates

    def find_layers(self, model: Any) -> tuple[Layer, ...]:
        """The layers of the longest list of equal blocks."""
        return find_layers(model)

    def word_embeddings(self, model: Any) -> list[Any]:
        """The one table."""
        return [model.get_input_embeddings()]

    def last_hidden_state(self, model: Any, embeddings: Tensor) -> Tensor:
        """The base model's, before any pooler."""
        hidden: Tensor = model.base_model(inputs_embeds=embeddings)[0]
        return hidden

    def first_stack(self, model: Any) -> Any:
        """The base model."""
        return model.base_model

    def text_reader(self, model: Any) -> str:
        """The model itself: a head may read the mask too (ModernBERT's mean)."""
        return ""

    def source_readers(self, model: Any) -> tuple[str, ...]:
        """None."""
        return ()

    def head_modules(self, model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
        """All outside the backbone."""
        return outermost_outside(model, backbone)

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """An embedding beside the word embeddings, as long as the config says."""
        limit = position_limit(model)
        home = word_embeddings.rpartition(".")[0]
        for name, module in model.get_submodule(home).named_children():
            is_table = isinstance(module, nn.Embedding) and module.num_embeddings == limit
            if is_table and module is not model.get_submodule(word_embeddings):
                return join_names(home, name)
        return None

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """Rows of the position table that tokens use; the trained length of rotary positions."""
        limit = position_limit(model)
        if position_embeddings is None:
            return limit if any("inv_freq" in name for name, _ in model.named_buffers()) else None
        padding = getattr(model.get_submodule(position_embeddings), "padding_idx", None)
        if padding is None or limit is None:
            return limit
        return int(
            limit - (padding + 1)
        )  # RoBERTa counts from padding_idx + 1; no row before is used

    def scored_vocabulary(self, model: Any) -> int:
        """None."""
        return 0

    def generation_config(
        self, model: Any, generation: Generation, max_length: int | None, first_token: int | None
    ) -> GenerationConfig:
        """None."""
        raise TypeError(f"{type(model).__name__} is {self.name}, which generates no texts")
