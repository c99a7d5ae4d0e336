"""Tensors that PEFT's tuners share with ours, and options that fit tiny models."""

from __future__ import annotations

from typing import Any

import peft
import torch
from torch import Tensor, nn

from paretune.methods.core import virtual_tokens
from paretune.training.prepare import PreparedModel

TENSORS = {
    "lora": {"A": "lora_A", "B": "lora_B"},
    "dora": {"A": "lora_A", "B": "lora_B", "m": "lora_magnitude_vector"},
    "loha": {"A1": "hada_w1_a", "B1": "hada_w1_b", "A2": "hada_w2_a", "B2": "hada_w2_b"},
    "lokr": {"C": "lokr_w1", "A": "lokr_w2_a", "B": "lokr_w2_b", "D": "lokr_w2"},
    "ia3": {"l": "ia3_l"},
    "layer_norm": {"gain_bias": "weight", "shift_bias": "bias"},
}


def tensors(ours: PreparedModel, theirs: Any) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each tensor of our method with PEFT's of the same place."""
    return [(p, _theirs(name, ours, theirs)) for name, p in ours.injection.parameters.items()]


def _theirs(name: str, ours: PreparedModel, theirs: Any) -> Any:
    method = ours.method.name
    for module in ours.injection.modules_to_save:
        if name.startswith(f"{module}."):
            saved = theirs.base_model.model.get_submodule(module).modules_to_save["default"]
            return saved.get_parameter(name.removeprefix(f"{module}."))
    if method in ("prompt", "p_tuning"):
        encoder, own = theirs.prompt_encoder["default"], name.rpartition(".")[2]
        if own in "PZ":
            return encoder.embedding.weight
        layer = encoder.mlp_head[2 * int(own[1]) - 2]
        return layer.bias if own.endswith("bias") else layer.weight
    place, _, own = name.rpartition(f".{method}.")
    layer = theirs.base_model.model.get_submodule(place)
    if method == "layer_norm":
        return getattr(layer.ln_tuning_layers["default"], TENSORS[method][own])
    adapter = getattr(layer, TENSORS[method][own])["default"]
    return getattr(adapter, "weight", adapter)


def into_ours(ours: PreparedModel, theirs: Any) -> None:
    """Copy what PEFT's model has trained, head included, into ours."""
    state = peft.get_peft_model_state_dict(theirs)
    with torch.no_grad():
        for name, parameter in ours.head.items():
            (value,) = (t for key, t in state.items() if key.endswith(f".{name}"))
            parameter.copy_(value)
        for (name, parameter), (_, value) in zip(
            ours.injection.parameters.items(), tensors(ours, theirs), strict=True
        ):
            parameter.copy_(_as_ours(name, parameter, value, ours))


def _as_ours(name: str, parameter: Tensor, value: Tensor, ours: PreparedModel) -> Tensor:
    if ours.method.name == "layer_norm":  # PEFT trains the norm itself, we train a change of it
        place, _, own = name.rpartition(".layer_norm.")
        norm = ours.loaded.model.get_submodule(place)
        value = value - norm.get_parameter(TENSORS["layer_norm"][own])
    if ours.method.name == "prompt":  # PEFT keeps what the table's module would give
        words = ours.loaded.model.get_submodule(ours.loaded.anatomy.word_embeddings)
        value = value / virtual_tokens.embed_rows(words, torch.ones_like(value))
    if ours.method.name == "ia3":  # in a projection that makes query, key and value, the latter two
        scale: Any = ours.loaded.model.get_submodule(name.rpartition(".")[0])
        value = value if scale.places is None else value.reshape(-1)[scale.places]
    return value.reshape(parameter.shape)


NOT_AS_BASE = {"c3a", "fourierft", "unilora", "vblora"}
"""Tuners with which a model answers otherwise than the base from the start."""
SMALL: dict[str, dict[str, Any]] = {
    "adamss": {"r": 8, "num_subspaces": 2},
    "c3a": {"block_size": 8},
    "fourierft": {"n_frequency": 50},
    "gralora": {"r": 4},
    "hira": {"r": 4},
    "miss": {"r": 4},
    "oft": {"oft_block_size": 8},
    "osf": {"effective_rank": 4},
    "peanut": {"r": 4},
    "psoft": {"r": 4},
    "pvera": {"r": 8},
    "randlora": {"r": 4},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "supertuning": {"sparsity": 0.9},
    "trainable_tokens": {"token_indices": [2, 3, 50]},
    "tinylora": {"u": 8},
    "unilora": {"theta_d_length": 32},
    "vblora": {"num_vectors": 8, "vector_length": 16},
    "vera": {"r": 8},
    "waveft": {"n_frequency": 50},
}
"""Options that fit into a width of 32, or keep a tuner small."""
