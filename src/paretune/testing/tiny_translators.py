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

_CLASSES = {
    "marian": ("MarianConfig", "MarianMTModel"),
    "t5": ("T5Config", "T5ForConditionalGeneration"),
    "gated-t5": ("T5Config", "T5ForConditionalGeneration"),
    "mt5": ("MT5Config", "MT5ForConditionalGeneration"),
    "mbart": ("MBartConfig", "MBartForConditionalGeneration"),
    "m2m100": ("M2M100Config", "M2M100ForConditionalGeneration"),
    "bart": ("BartConfig", "BartForConditionalGeneration"),
}
TRANSLATORS = tuple(_CLASSES)
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
    relative: dict[str, Any] = start | {
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "num_layers": ENCODER_LAYERS,
        "num_decoder_layers": DECODER_LAYERS,
        "num_heads": HEADS,
        "d_kv": T5_HEAD,
        "d_ff": INNER,
    }
    if family == "gated-t5":
        relative["feed_forward_proj"] = "gated-gelu"
    config_class, model_class = _CLASSES[family]
    settings = relative if "T5" in config_class else wide
    config = getattr(transformers, config_class)(**settings | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRANSLATORS.index(family) + 1)
        model = getattr(transformers, model_class)(config).eval()
        unsettle_vectors(model)
    return model
