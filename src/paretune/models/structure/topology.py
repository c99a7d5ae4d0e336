"""How a model's stacks are laid out, and what follows from it. One value for each layout.

Code outside of this folder never asks whether a model has a decoder: it asks ``anatomy.topology``,
which :func:`topology_of` chooses from the model's config.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from paretune.errors import ModelError
from paretune.models.structure.layers import (
    SUPPORTED_FAMILIES,
    Layer,
    find_layers,
    find_name,
    parent_name,
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
        return _outermost_outside(model, backbone)

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """An embedding beside the word embeddings, as long as the config says."""
        limit = _position_limit(model)
        home = word_embeddings.rpartition(".")[0]
        for name, module in model.get_submodule(home).named_children():
            is_table = isinstance(module, nn.Embedding) and module.num_embeddings == limit
            if is_table and module is not model.get_submodule(word_embeddings):
                return _join(home, name)
        return None

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """Rows of the position table that tokens use; the trained length of rotary positions."""
        limit = _position_limit(model)
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


@dataclass(frozen=True)
class EncoderDecoder:
    """An encoder of the source and a decoder that attends to it; all of it is pretrained.

    Virtual tokens stand before the source. Their positions: a small translator of absolute
    positions does not bear it when the source moves to later ones (dev/log.md: moved by five, even
    without a prompt, Marian loses 1.3 nats a token), so the text keeps its own.
    """

    name: str = "a translation model with encoder and decoder"
    heads: tuple[str, ...] = ("seq2seq_lm",)
    pooled_token: int | None = None
    can_cache_activations: bool = False
    keeps_text_positions: bool = True
    default_targets: tuple[str, ...] = ("query", "value")
    requires_fast_tokenizer: bool = False  # Marian's has no fast version
    holds_tables_in_bf16: bool = False

    def choose_rates(self, method: HasRates) -> tuple[float, float, float] | None:
        """Those of encoders and translation models."""
        return method.learning_rates

    def find_layers(self, model: Any) -> tuple[Layer, ...]:
        """The encoder's layers, then the decoder's, each of which attends to the source."""
        encoder, decoder = self._stack_names(model)
        layers = find_layers(model, encoder) + find_layers(model, decoder, "decoder")
        blind = [one.name for one in layers if one.stack == "decoder" and not one.cross_attention]
        if blind:
            raise ModelError(
                f"{type(model).__name__} has a decoder without attention to the source: "
                f"{blind[0]}.",
                remedy=SUPPORTED_FAMILIES,
            )
        return layers

    def word_embeddings(self, model: Any) -> list[Any]:
        """The encoder's table, then the decoder's.

        The model's own may be a third one, which shares their weights and is never called.
        """
        return [
            stack.get_input_embeddings() for stack in (model.get_encoder(), model.get_decoder())
        ]

    def last_hidden_state(self, model: Any, embeddings: Tensor) -> Tensor:
        """The decoder's, over the encoder's."""
        source = model.get_encoder()(inputs_embeds=embeddings)[0]
        # A full mask: from no mask at all the model computes one by values, which meta has not.
        length = embeddings.shape[1]
        hidden: Tensor = model.get_decoder()(
            inputs_embeds=embeddings,
            attention_mask=embeddings.new_zeros(1, 1, length, length),
            encoder_hidden_states=source,
            use_cache=False,
        )[0]
        return hidden

    def first_stack(self, model: Any) -> Any:
        """The encoder."""
        return model.get_encoder()

    def text_reader(self, model: Any) -> str:
        """The encoder: ``generate`` calls it once for each text."""
        return self._stack_names(model)[0]

    def source_readers(self, model: Any) -> tuple[str, ...]:
        """The decoder."""
        return self._stack_names(model)[1:]

    def head_modules(self, model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
        """None: what scores words came with the checkpoint."""
        return ()

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """A table beside the encoder's word embeddings: learnt, or sines.

        BART's has rows in front that no token uses, and sines may be a buffer.
        """
        limit = _position_limit(model) or 1
        encoder = self._stack_names(model)[0]
        for name, module in model.get_submodule(encoder).named_children():
            tensors = (*module.parameters(False), *module.buffers(False))
            is_table = any(t.ndim == 2 and len(t) >= limit for t in tensors)
            if is_table and module is not model.get_submodule(word_embeddings):
                return _join(encoder, name)
        return None

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """What the config says, for source and target each; None for relative positions."""
        return None if position_embeddings is None else _position_limit(model)

    def scored_vocabulary(self, model: Any) -> int:
        """All words, for every token of a target."""
        return int(model.config.vocab_size)

    def generation_config(
        self, model: Any, generation: Generation, max_length: int | None, first_token: int | None
    ) -> GenerationConfig:
        """Its ``max_length`` counts target tokens, the start token included."""
        from transformers import GenerationConfig

        own: dict[str, Any] = model.generation_config.to_dict()
        # The first token is given; a checkpoint's own max_length would conflict with
        # max_new_tokens.
        longest = generation.max_new_tokens + 1
        longest = min(longest, max_length or longest)  # the decoder's positions
        own |= {"max_length": longest, "max_new_tokens": None, "do_sample": False}
        if generation.num_beams is not None:
            own["num_beams"] = generation.num_beams
        if generation.length_penalty is not None:
            own["length_penalty"] = generation.length_penalty
        if first_token is not None:
            own["forced_bos_token_id"] = first_token
        return GenerationConfig.from_dict(own)

    def _stack_names(self, model: Any) -> tuple[str, str]:
        return find_name(model, model.get_encoder()), find_name(model, model.get_decoder())


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
        outside = _outermost_outside(model, backbone)
        return tuple(name for name in outside if model.get_submodule(name) is not lm_head)

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """An embedding beside the word embeddings; OPT's has two rows in front of the first."""
        limit = _position_limit(model) or 1
        home = word_embeddings.rpartition(".")[0]
        for name, module in model.get_submodule(home).named_children():
            is_table = isinstance(module, nn.Embedding) and module.num_embeddings >= limit
            if is_table and module is not model.get_submodule(word_embeddings):
                return _join(home, name)
        return None

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """What the config says: rows of the position table, or the length of pretraining."""
        return _position_limit(model)

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


ENCODER = Encoder()
ENCODER_DECODER = EncoderDecoder()
DECODER = Decoder()


def topology_of(config: Any) -> Topology:
    """The topology of the models of a config that is not refused.

    Encoders can mask words, decoders cannot: a type that ``transformers`` has a causal LM for, and
    no masked one, is a decoder.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if getattr(config, "is_encoder_decoder", False):
        return ENCODER_DECODER
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return DECODER if causal and type(config) not in MODEL_FOR_MASKED_LM_MAPPING else ENCODER


def _outermost_outside(model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
    """The outermost modules with parameters, none of which belongs to the backbone."""
    outermost: list[str] = []
    for name, module in model.named_modules():
        own = [f"{name}.{n}" if name else n for n, _ in module.named_parameters()]
        inside = any(name.startswith(f"{outer}.") for outer in outermost)
        if own and not inside and not backbone.intersection(own):
            outermost.append(name)
    return tuple(outermost)


def _position_limit(model: Any) -> int | None:
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    return limit


def _join(parent: str, child: str) -> str:
    return f"{parent}.{child}" if parent else child
