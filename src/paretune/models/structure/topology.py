"""Layouts of a model's stacks, and their consequences: a class and a value for each layout.

Code outside of this folder never asks whether a model has a decoder: it asks ``anatomy.topology``,
which :func:`topology_of` chooses from the model's config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from paretune.errors import ModelError
from paretune.models.structure.layers import (
    DECODER_FAMILIES,
    ENCODER_FAMILIES,
    SUPPORTED_FAMILIES,
    TRANSLATION_FAMILIES,
    Layer,
    find_layers,
    find_name,
    parent_name,
)

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from paretune.study import Generation


@dataclass(frozen=True)
class Topology:
    """A layout of a model's stacks; its methods are those of a model with one stack.

    Attributes:
        name: such a model in words, for messages.
        families: families of models that are known to work.
        heads: kinds of heads that a model of this layout can have.
        pooled_token: which token of a sequence a new head of texts reads: 0 the first, -1 the last
            that is no padding; None if no head is new.
        can_cache_activations: whether a forward pass can start at a layer from the output of the
            layers below it.
        keeps_text_positions: whether text keeps its positions behind virtual tokens, where a study
            does not say.
        default_targets: roles of the linear layers that updates stand beside, where a study names
            none.
        has_decoder_rates: whether a method's learning rates are those of decoders, where it has
            such.
        requires_fast_tokenizer: whether a tokenizer without a fast version is refused.
        holds_tables_in_bf16: whether the table of words and the layer that scores words are held in
            bf16 where matrices are.
    """

    name: ClassVar[str]
    families: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    pooled_token: ClassVar[int | None] = None
    can_cache_activations: ClassVar[bool] = True
    keeps_text_positions: ClassVar[bool] = False
    default_targets: ClassVar[tuple[str, ...]] = ("query", "value")
    has_decoder_rates: ClassVar[bool] = False
    requires_fast_tokenizer: ClassVar[bool] = True
    holds_tables_in_bf16: ClassVar[bool] = False

    def find_layers(self, model: Any) -> tuple[Layer, ...]:
        """The layers of all stacks, in the order in which they compute.

        Raises:
            ModelError: a stack that paretune does not understand.
        """
        return find_layers(model)

    def word_embeddings(self, model: Any) -> list[Any]:
        """The modules that look words up, one for each stack."""
        return [model.get_input_embeddings()]

    def last_hidden_state(self, model: Any, embeddings: Tensor) -> Tensor:
        """The output of the last stack, where all stacks are given ``embeddings``.

        Shapes: (rows, tokens, embedding width) -> (rows, tokens, width).
        """
        hidden: Tensor = model.base_model(inputs_embeds=embeddings)[0]
        return hidden

    def first_stack(self, model: Any) -> Any:
        """The module that turns the input text into hidden states, without a head."""
        return model.base_model

    def text_reader(self, model: Any) -> str:
        """Name of the module whose ids and mask grow by virtual tokens; "" is the model itself."""
        return ""  # a head may read the mask too (ModernBERT's mean)

    def source_readers(self, model: Any) -> tuple[str, ...]:
        """Names of the modules that are given the mask of an encoded source."""
        return ()

    def head_modules(self, model: Any, backbone: frozenset[str]) -> tuple[str, ...]:
        """The outermost modules outside the ``backbone``, but for the checkpoint's own LM head.

        Training begins with new weights for them.
        """
        outermost: list[str] = []
        for name, module in model.named_modules():
            parameters = [p for p, _ in module.named_parameters(prefix=name)]
            is_inside = any(name.startswith(f"{outer}.") for outer in outermost)
            if parameters and not is_inside and not backbone.intersection(parameters):
                outermost.append(name)
        lm_head = model.get_output_embeddings()
        return tuple(name for name in outermost if model.get_submodule(name) is not lm_head)

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """Name of the module with a row for every absolute position, if there is one."""
        # OPT's has two rows in front of the first position.
        if (limit := position_limit(model)) is None:
            return None
        return _find_table(
            model,
            parent_name(word_embeddings),
            word_embeddings,
            lambda module: isinstance(module, nn.Embedding) and module.num_embeddings >= limit,
        )

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """Tokens that fit into a sequence, special tokens included, if there is a limit."""
        return position_limit(model)

    def scored_vocabulary(self, model: Any) -> int:
        """How many words the model scores for each target token; 0 where it has no LM head."""
        return 0 if model.get_output_embeddings() is None else int(model.config.vocab_size)

    def generation_config(
        self, model: Any, generation: Generation, max_length: int | None, first_token: int | None
    ) -> GenerationConfig:
        """The checkpoint's settings of a search, with what the study asks for.

        Args:
            max_length: tokens that fit into a sequence, or None if there is no limit.
            first_token: forced at the start of each text; None: the checkpoint's own.

        Raises:
            TypeError: such a model generates no texts.
        """
        raise TypeError(f"{type(model).__name__} is {self.name}, which generates no texts")


class EncoderOnly(Topology):
    """One stack in which every token attends to every other. A new head reads the first token."""

    name = "an encoder"
    families = ENCODER_FAMILIES
    heads = ("sequence_classification", "token_classification", "multiple_choice")
    pooled_token = 0

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """Rows of the position table that tokens use; the trained length of rotary positions."""
        limit = position_limit(model)
        if position_embeddings is None:
            return limit if any("inv_freq" in name for name, _ in model.named_buffers()) else None
        padding = getattr(model.get_submodule(position_embeddings), "padding_idx", None)
        # RoBERTa counts from padding_idx + 1; no row before is used.
        return limit if padding is None or limit is None else int(limit - (padding + 1))


class EncoderDecoder(Topology):
    """An encoder of the source and a decoder that attends to it; all of it is pretrained.

    Virtual tokens stand before the source. Their positions: a small translator of absolute
    positions does not bear it when the source moves to later ones (dev/log.md: moved by five, even
    without a prompt, Marian loses 1.3 nats a token), so the text keeps its own.
    """

    name = "a translation model with encoder and decoder"
    families = TRANSLATION_FAMILIES
    heads = ("seq2seq_lm",)
    can_cache_activations = False
    keeps_text_positions = True
    requires_fast_tokenizer = False  # Marian's has no fast version

    def find_layers(self, model: Any) -> tuple[Layer, ...]:
        """The encoder's layers, then the decoder's, each of which attends to the source."""
        encoder, decoder = self._stack_names(model)
        sources, targets = find_layers(model, encoder), find_layers(model, decoder, "decoder")
        if blind := [layer.name for layer in targets if not layer.cross_attention]:
            raise ModelError(
                f"{type(model).__name__} has a decoder without attention to the source: "
                f"{blind[0]}.",
                remedy=SUPPORTED_FAMILIES,
            )
        return sources + targets

    def word_embeddings(self, model: Any) -> list[Any]:
        """The encoder's table, then the decoder's.

        ``model.get_input_embeddings()`` may be a third one, which shares their weights and is never
        called.
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

    def head_modules(self, model: Any, backbone: frozenset[str]) -> tuple[str, ...]:
        """It has no new modules: the head that scores words came with the checkpoint."""
        return ()

    def find_position_embeddings(self, model: Any, word_embeddings: str) -> str | None:
        """A table beside the encoder's word embeddings: learnt, or sines, maybe in a buffer."""
        limit = position_limit(model) or 1

        def is_table(module: nn.Module) -> bool:
            tensors = (*module.parameters(False), *module.buffers(False))
            return any(t.ndim == 2 and len(t) >= limit for t in tensors)

        return _find_table(model, self._stack_names(model)[0], word_embeddings, is_table)

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """The config's limit, for source and target each; relative positions have none."""
        return None if position_embeddings is None else position_limit(model)

    def generation_config(
        self, model: Any, generation: Generation, max_length: int | None, first_token: int | None
    ) -> GenerationConfig:
        """Its ``max_length`` counts target tokens, the start token included."""
        # The first token is given; a checkpoint's own max_length would conflict with
        # max_new_tokens.
        longest = generation.max_new_tokens + 1
        longest = min(longest, max_length or longest)  # the decoder's positions
        first = {} if first_token is None else {"forced_bos_token_id": first_token}
        return _make_search(model, generation, max_length=longest, max_new_tokens=None, **first)

    def _stack_names(self, model: Any) -> tuple[str, str]:
        return find_name(model, model.get_encoder()), find_name(model, model.get_decoder())


class DecoderOnly(Topology):
    """One stack in which a token attends to itself and to what stands before it.

    A new head reads the last token, the only one that has seen the whole text. Virtual tokens stand
    before the text inside the base model alone, so that what scores its hidden states finds those
    of the text. An LM head came with the checkpoint, tied to the embeddings or not. Updates stand
    beside all linear layers, as is usual in decoders (Dettmers et al. 2023, QLoRA,
    arXiv:2305.14314, section 4: needed to match full fine-tuning).
    """

    name = "a decoder-only model"
    families = DECODER_FAMILIES
    heads = ("sequence_classification", "token_classification", "multiple_choice", "causal_lm")
    pooled_token = -1
    default_targets = ("all_linear",)
    has_decoder_rates = True
    holds_tables_in_bf16 = True  # they may be most of the model, and are often published so

    def find_layers(self, model: Any) -> tuple[Layer, ...]:
        """The layers of the one stack, none of which attends to another sequence."""
        layers = find_layers(model, stack="decoder")
        if any(layer.cross_attention is not None for layer in layers):
            raise ModelError(
                f"{type(model).__name__} has a decoder that attends to a source, and no encoder.",
                remedy=SUPPORTED_FAMILIES,
            )
        return layers

    def last_hidden_state(self, model: Any, embeddings: Tensor) -> Tensor:
        """The base model's, behind its last normalisation."""
        # If there is no cache, transformers looks for several texts in one row by their values,
        # which tensors on meta do not have.
        hidden: Tensor = model.base_model(inputs_embeds=embeddings, use_cache=True)[0]
        return hidden

    def text_reader(self, model: Any) -> str:
        """The module that looks words up: of most the base model, in OPT a part of it."""
        return parent_name(find_name(model, model.get_input_embeddings()))

    def generation_config(
        self, model: Any, generation: Generation, max_length: int | None, first_token: int | None
    ) -> GenerationConfig:
        """Its ``max_new_tokens`` counts what follows the prompt, not the prompt."""
        if model.get_output_embeddings() is None:
            raise TypeError(f"{type(model).__name__} has no LM head, so it generates no texts")
        # Instruction-tuned checkpoints come with settings of sampling, which a search has not.
        settings: dict[str, Any] = dict.fromkeys(
            ("temperature", "top_k", "top_p", "min_p", "typical_p", "max_length")
        )
        if model.generation_config.pad_token_id is None:
            settings["pad_token_id"] = model.config.pad_token_id
        most = generation.max_new_tokens
        return _make_search(model, generation, max_new_tokens=most, **settings)


ENCODER, ENCODER_DECODER, DECODER = EncoderOnly(), EncoderDecoder(), DecoderOnly()


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


def position_limit(model: Any) -> int | None:
    """Positions that the config allows, if it says so."""
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    return limit


def _find_table(
    model: nn.Module, home: str, word_embeddings: str, is_table: Callable[[nn.Module], bool]
) -> str | None:
    """The first table in the module ``home`` beside that of words."""
    words = model.get_submodule(word_embeddings)
    for name, module in model.get_submodule(home).named_children():
        if is_table(module) and module is not words:
            return f"{home}.{name}" if home else name
    return None


def _make_search(model: Any, generation: Generation, **settings: Any) -> GenerationConfig:
    """The checkpoint's settings, those of the study, and these."""
    from transformers import GenerationConfig

    of_study = {
        "num_beams": generation.num_beams,
        "length_penalty": generation.length_penalty,
    }
    search = {**model.generation_config.to_dict(), "do_sample": False}
    search |= {name: value for name, value in of_study.items() if value is not None}
    return GenerationConfig.from_dict({**search, **settings})
