"""Checkpoints of published shapes, by config: random weights, or none (a sparse file of zeros).

    python bench/shapes.py llama-1b FOLDER [--dtype bfloat16] [--shards 3] [--sparse]

The tokenizer is that of the tiny models of the tests, so texts are of few and common words. A
sparse file takes no room on most file systems: enough to plan with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-r-large": (
        "roberta",
        {"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"],
         "vocab_size": 250_002, "hidden_size": 1024, "num_hidden_layers": 24,
         "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 514},
    ),
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
google/gemma-2-2b)."""
BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


def write_shape(
    name: str,
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    shards: int = 1,
    *,
    sparse: bool = False,
) -> Path:
    """A checkpoint of this shape in ``folder``."""
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
    built = AutoConfig.from_pretrained(folder)
    auto = AutoModelForMaskedLM if name.startswith("xlm") else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(built)
    # A tied parameter is listed once, perhaps by the name that a checkpoint does not have.
    tied = dict(model._tied_weights_keys or {}) if built.tie_word_embeddings else {}
    shapes = {tied.get(n, n): p.shape for n, p in model.named_parameters()}
    names, index = list(shapes), {}
    draw = torch.Generator().manual_seed(0)
    for number, own in enumerate(split_evenly(names, shapes, shards, dtype)):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors" if shards > 1 else (
            "model.safetensors")  # fmt: skip
        index |= dict.fromkeys(own, file)
        if sparse:
            write_zeros(folder / file, {n: shapes[n] for n in own}, dtype)
            continue
        tensors = {}
        for one in own:
            tensors[one] = torch.empty(shapes[one], dtype=dtype)
            if len(shapes[one]) > 1:
                tensors[one].normal_(0, 0.02, generator=draw)
            else:
                tensors[one].fill_(0.0 if one.endswith("bias") or "gemma" in name else 1.0)
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if shards > 1:
        text = json.dumps({"metadata": {}, "weight_map": index})
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return folder


def split_evenly(
    names: list[str], shapes: dict[str, torch.Size], shards: int, dtype: torch.dtype
) -> Iterable[list[str]]:
    """The names in as many parts of about equal bytes."""
    total = sum(shapes[n].numel() for n in names)
    parts: list[list[str]] = [[] for _ in range(shards)]
    done = 0
    for name in names:
        parts[min(shards - 1, done * shards // total)].append(name)
        done += shapes[name].numel()
    return parts


def write_zeros(path: Path, shapes: dict[str, torch.Size], dtype: torch.dtype) -> None:
    """A safetensors file whose tensors are a hole."""
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + shape.numel() * BYTES[dtype]
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)


def main() -> None:
    """Write one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--sparse", action="store_true", help="zeros that take no room")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    write_shape(options.shape, options.folder, dtype, options.shards, sparse=options.sparse)


if __name__ == "__main__":
    main()
