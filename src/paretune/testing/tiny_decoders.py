"""Configs and tokenizers of tiny decoders; :mod:`paretune.testing.tiny_models` writes them.

What differs between families is in them: fewer heads of keys than of queries, heads that together
are wider than the model (Gemma), windows (Mistral, Gemma), learned positions (OPT, GPT-2), a tied
and an untied LM head, and tokenizers without a padding token, or without one at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Tokens:
    """Special tokens of a family; ``begins`` is whether every text starts with ``bos``."""

    eos: str
    bos: str | None = None
    pad: str | None = None
    begins: bool = False

    @property
    def every(self) -> tuple[str, ...]:
        """All of them, each once."""
        named = (self.pad, self.eos, self.bos, "<unk>")
        return tuple(dict.fromkeys(token for token in named if token is not None))


_TOKENS = {
    "llama": Tokens("</s>", "<s>", begins=True),
    "qwen2": Tokens("<|im_end|>", pad="<|endoftext|>"),
    "qwen3": Tokens("<|im_end|>", pad="<|endoftext|>"),
    "gemma2": Tokens("<eos>", "<bos>", "<pad>", begins=True),
    "gemma3": Tokens("<eos>", "<bos>", "<pad>", begins=True),
    "mistral": Tokens("</s>", "<s>", begins=True),
    "opt": Tokens("</s>", "</s>", "<pad>", begins=True),
    "phi3": Tokens("<|endoftext|>", "<s>", "<|endoftext|>"),
    "gpt2": Tokens("<|endoftext|>", "<|endoftext|>"),
    "gpt_neox": Tokens("<|endoftext|>", "<|endoftext|>"),
}
DECODERS = tuple(_TOKENS)
"""Families of decoders."""
WINDOW = 16
"""Tokens that a layer with a sliding window sees (Mistral, Gemma)."""
_WIDTH, _HEADS, _KEY_HEADS, _LAYERS, _INNER, _RANGE = 32, 4, 2, 2, 48, 0.2


def decoder_tokenizer(
    family: str, sentences: Sequence[str], max_length: int
) -> PreTrainedTokenizerFast:
    """Byte pairs learnt from ``sentences``, with the family's special tokens."""
    tokens = _TOKENS[family]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(tokens.every),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(sentences, trainer)
    if tokens.begins and tokens.bos is not None:
        core.post_processor = processors.TemplateProcessing(
            single=f"{tokens.bos} $A",
            pair=f"{tokens.bos} $A $B",
            special_tokens=[(tokens.bos, core.token_to_id(tokens.bos))],
        )
    names = {"eos_token": tokens.eos, "bos_token": tokens.bos, "pad_token": tokens.pad}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        **{role: token for role, token in names.items() if token is not None},
    )


def decoder_config(family: str, tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """The family's config and the class its hub checkpoints are saved from."""
    t = transformers
    tokens: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": int(tokenizer.model_max_length),
    }
    wide = tokens | {
        "hidden_size": _WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "intermediate_size": _INNER,
        "initializer_range": _RANGE,
    }
    grouped = wide | {"num_key_value_heads": _KEY_HEADS}
    gemma = grouped | {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": WINDOW}
    layer_types = ["sliding_attention", "full_attention"]
    match family:
        case "llama":
            return t.LlamaConfig(**grouped, tie_word_embeddings=False), t.LlamaForCausalLM
        case "qwen2":
            return t.Qwen2Config(**grouped, tie_word_embeddings=True), t.Qwen2ForCausalLM
        case "qwen3":
            config = t.Qwen3Config(**grouped, head_dim=12, tie_word_embeddings=False)
            return config, t.Qwen3ForCausalLM
        case "gemma2":
            # Capped so low that caps matter at this size.
            caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
            config = t.Gemma2Config(**gemma | caps, layer_types=layer_types)
            return config, t.Gemma2ForCausalLM
        case "gemma3":
            return t.Gemma3TextConfig(**gemma, layer_types=layer_types), t.Gemma3ForCausalLM
        case "mistral":
            config = t.MistralConfig(**grouped, sliding_window=WINDOW, tie_word_embeddings=False)
            return config, t.MistralForCausalLM
        case "opt":
            config = t.OPTConfig(
                **tokens,
                hidden_size=_WIDTH,
                word_embed_proj_dim=_WIDTH,
                num_hidden_layers=_LAYERS,
                num_attention_heads=_HEADS,
                ffn_dim=_INNER,
                init_std=_RANGE,
            )
            return config, t.OPTForCausalLM
        case "phi3":
            config = t.Phi3Config(**grouped, tie_word_embeddings=False)
            return config, t.Phi3ForCausalLM
        case "gpt2":
            config = t.GPT2Config(
                **tokens,
                n_embd=_WIDTH,
                n_layer=_LAYERS,
                n_head=_HEADS,
                n_inner=_INNER,
                initializer_range=_RANGE,
            )
            return config, t.GPT2LMHeadModel
        case "gpt_neox":
            config = t.GPTNeoXConfig(**wide, tie_word_embeddings=False)
            return config, t.GPTNeoXForCausalLM
    raise ValueError(f"no tiny decoder of family {family!r}; there are {', '.join(DECODERS)}")
