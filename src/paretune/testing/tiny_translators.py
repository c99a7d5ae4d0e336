"""Tiny translation models with random weights, made in memory: encoder, decoder and no tokenizer.

The shapes are unlike one another on purpose: fewer layers in the decoder than in the encoder (the
other way round, ``transformers`` makes T5 too small a cache), and in T5 attention heads that
together are narrower than the model. Every model scales its embeddings where its family can:
Marian between table and first layer, mBART, M2M100 and BART in the table.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

from paretune.testing.tiny_models import unsettle_vectors

TRANSLATORS = ("marian", "t5", "gated-t5", "mt5", "mbart", "m2m100", "bart")
WORDS = 60
"""Entries of a vocabulary; those under 4 are special."""
POSITIONS = 48
WIDTH, HEADS, INNER = 32, 4, 48
ENCODER_LAYERS, DECODER_LAYERS = 3, 2
T5_HEAD = 6
"""Width of a head of T5: four of them are 24, and the model is 32 wide."""


def tiny_translator(family: str, **changes: Any) -> Any:
    """A model of ``family`` in evaluation mode, the same bits every time.

    ``changes`` are made to its config.
    """
    config, kind = _config(family, changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRANSLATORS.index(family) + 1)
        model = kind(config).eval()
        unsettle_vectors(model)
    return model


def _config(family: str, changes: dict[str, Any]) -> tuple[Any, Any]:
    t = transformers
    start = {"vocab_size": WORDS, "d_model": WIDTH, "eos_token_id": 2, "forced_eos_token_id": None}
    wide = start | {
        "pad_token_id": 1,
        "bos_token_id": 0,
        "decoder_start_token_id": 1 if family == "marian" else 2,
        "encoder_layers": ENCODER_LAYERS,
        "decoder_layers": DECODER_LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": INNER,
        "decoder_ffn_dim": INNER,
        "max_position_embeddings": POSITIONS,
        "init_std": 0.2,
        "scale_embedding": True,
    }
    relative = start | {
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "num_layers": ENCODER_LAYERS,
        "num_decoder_layers": DECODER_LAYERS,
        "num_heads": HEADS,
        "d_kv": T5_HEAD,
        "d_ff": INNER,
    }
    match family:
        case "marian":
            return t.MarianConfig(**wide | changes), t.MarianMTModel
        case "t5":
            return t.T5Config(**relative | changes), t.T5ForConditionalGeneration
        case "gated-t5":
            gated = {"feed_forward_proj": "gated-gelu"}
            return t.T5Config(**relative | gated | changes), t.T5ForConditionalGeneration
        case "mt5":
            return t.MT5Config(**relative | changes), t.MT5ForConditionalGeneration
        case "mbart":
            return t.MBartConfig(**wide | changes), t.MBartForConditionalGeneration
        case "m2m100":
            return t.M2M100Config(**wide | changes), t.M2M100ForConditionalGeneration
        case "bart":
            return t.BartConfig(**wide | changes), t.BartForConditionalGeneration
    raise ValueError(f"no tiny translator {family!r}; there are {', '.join(TRANSLATORS)}")
