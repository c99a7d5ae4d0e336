"""What a layout of a model's stacks says; ``topologies/`` has one file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from paretune.models.structure.layers import (
    Layer,
)

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from paretune.study import Generation


class HasRates(Protocol):
    """A method, as far as its learning rates go: low, middle, high."""

    @property
    def learning_rates(self) -> tuple[float, float, float] | None:
        """Of encoders and translation models; None: it learns nothing."""

    @property
    def decoder_learning_rates(self) -> tuple[float, float, float] | None:
        """Of decoder-only models; None: the same."""


class Topology(Protocol):
    """A layout of a model's stacks. Implementations have no state and compare as values."""

    @property
    def name(self) -> str:
        """What such a model is, in words, for messages."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads that a model of this layout can have."""

    @property
    def pooled_token(self) -> int | None:
        """Which token of a sequence a new head reads: 0 the first, -1 the last that is no padding.

        None where no head is new.
        """

    @property
    def can_cache_activations(self) -> bool:
        """Whether a forward pass can start at a layer from what the layers below it gave."""

    @property
    def keeps_text_positions(self) -> bool:
        """Whether text keeps its positions behind virtual tokens, where a study does not say."""

    @property
    def default_targets(self) -> tuple[str, ...]:
        """Roles of the linear layers that updates stand beside, where a study names none."""

    @property
    def requires_fast_tokenizer(self) -> bool:
        """Whether a tokenizer without a fast version is refused."""

    @property
    def holds_tables_in_bf16(self) -> bool:
        """Whether the table of words, and what scores words, is held in bf16 where matrices are."""

    def choose_rates(self, method: HasRates) -> tuple[float, float, float] | None:
        """The learning rates of a method on such a model; None where it learns nothing."""

    def find_layers(self, model: Any) -> tuple[Layer, ...]:
        """The layers of all stacks, in the order in which they compute.

        Raises:
            ModelError: a stack that paretune does not understand.
        """

    def word_embeddings(self, model: Any) -> list[Any]:
        """The modules that look words up, one for each stack."""

    def last_hidden_state(self, model: Any, embeddings: Tensor) -> Tensor:
        """The output of the last stack, where all stacks are given ``embeddings``.

        Shapes: (rows, tokens, embedding width) -> (rows, tokens, width).
        """

    def first_stack(self, model: Any) -> Any:
        """The module that turns the input text into hidden states, without a head."""

    def text_reader(self, model: Any) -> str:
        """Name of the module whose ids and mask grow by virtual tokens; "" is the model itself."""

    def source_readers(self, model: Any) -> tuple[str, ...]:
        """Names of the modules that are given the mask of an encoded source."""

    def head_modules(self, model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
        """The outermost modules outside the ``backbone``: training begins with new weights."""

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """Name of the module with a row for every absolute position; None where there is none."""

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """Tokens that fit into a sequence, special tokens included; None where nothing limits."""

    def scored_vocabulary(self, model: Any) -> int:
        """How many words the model scores for each target token; 0 where it scores none."""

    def generation_config(
        self, model: Any, generation: Generation, max_length: int | None, first_token: int | None
    ) -> GenerationConfig:
        """The checkpoint's own settings of a search, with what the study asks for.

        Args:
            max_length: tokens that fit into a sequence; None where nothing limits.
            first_token: forced at the start of each text; None: the checkpoint's own.

        Raises:
            TypeError: such a model generates no texts.
        """
