"""Checkpoints of published shapes, by config, with random weights.

The tokenizer is that of the tiny models of the tests, so texts are of few and common words.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}
BERT = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "max_position_embeddings": 512}  # fmt: skip
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-r-large": (
        "roberta",
        {"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"],
         "vocab_size": 250_002, "hidden_size": 1024, "num_hidden_layers": 24,
         "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 514},
    ),
    "bert-base": ("bert", {"vocab_size": 30_522, **BERT, "hidden_size": 768,
                           "num_hidden_layers": 12, "intermediate_size": 3072}),
    "e5-small": ("bert", {"vocab_size": 50_000, **BERT, "num_hidden_layers": 12}),
    "minilm-shape": ("bert", {"vocab_size": 30_522, **BERT}),
    "tiny": ("bert", {"vocab_size": 400, "max_position_embeddings": 512}),
    "llama-1b": (
        "llama",
        {"vocab_size": 128_256, "hidden_size": 2048, "num_hidden_layers": 16,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
         "intermediate_size": 8192, "max_position_embeddings": 131_072,
         "tie_word_embeddings": True, **ROPE},
    ),
    "llama-tiny": ("llama", {}),
    "llama-3b": (
        "llama",
        {"vocab_size": 128_256, "hidden_size": 3072, "num_hidden_layers": 28,
         "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
         "intermediate_size": 8192, "max_position_embeddings": 131_072,
         "tie_word_embeddings": True, **ROPE},
    ),
    "llama-8b": (
        "llama",
        {"vocab_size": 128_256, "hidden_size": 4096, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
         "intermediate_size": 14_336, "max_position_embeddings": 131_072,
         "tie_word_embeddings": False, **ROPE},
    ),
    "gemma2-2b": (
        "gemma2",
        {"vocab_size": 256_000, "hidden_size": 2304, "num_hidden_layers": 26,
         "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
         "intermediate_size": 9216, "max_position_embeddings": 8192,
         "layer_types": ["sliding_attention", "full_attention"] * 13},
    ),
}  # fmt: skip
"""By name: the tiny family that it is made of, and its config. Sources: the models' config.json on
the hub (FacebookAI/xlm-roberta-large, meta-llama/Llama-3.2-1B and -3B, meta-llama/Llama-3.1-8B,
google/gemma-2-2b); e5-small has its vocabulary cut to two languages, and ``tiny`` is a toy."""


def write_shape(name: str, folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A checkpoint of this shape, with random weights, in ``folder``."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    from paretune.testing.tiny_models import tiny_model

    family, settings = SHAPES[name]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tiny:
        tiny_model(family, Path(tiny) / family)
        for path in (Path(tiny) / family).iterdir():
            if path.suffix != ".safetensors":
                shutil.copy(path, folder / path.name)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | settings
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    loaded = AutoConfig.from_pretrained(folder)
    auto = AutoModelForMaskedLM if family in ("bert", "roberta") else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(loaded)
    # A tied parameter is listed once, perhaps by the name that a checkpoint does not have.
    tied = dict(model._tied_weights_keys or {}) if loaded.tie_word_embeddings else {}
    shapes = {tied.get(n, n): p.shape for n, p in model.named_parameters()}
    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for weight, shape in shapes.items():
        tensors[weight] = torch.empty(shape, dtype=dtype)
        if len(shape) > 1:
            tensors[weight].normal_(0, 0.02, generator=draw)
        else:
            tensors[weight].fill_(0.0 if weight.endswith("bias") or "gemma" in name else 1.0)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
