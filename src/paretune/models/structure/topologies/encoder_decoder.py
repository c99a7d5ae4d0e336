"""Translation models with encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from paretune.errors import ModelError
from paretune.models.structure.layers import SUPPORTED_FAMILIES, Layer, find_layers, find_name
from paretune.models.structure.topologies.parts import join_names, position_limit
from paretune.models.structure.topology import HasRates

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from paretune.study import Generation


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
        limit = position_limit(model) or 1
        encoder = self._stack_names(model)[0]
        for name, module in model.get_submodule(encoder).named_children():
            tensors = (*module.parameters(False), *module.buffers(False))
            is_table = any(t.ndim == 2 and len(t) >= limit for t in tensors)
            if is_table and module is not model.get_submodule(word_embeddings):
                return join_names(encoder, name)
        return None

    def max_length(self, model: Any, position_embeddings: str | None) -> int | None:
        """What the config says, for source and target each; None for relative positions."""
        return None if position_embeddings is None else position_limit(model)

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
