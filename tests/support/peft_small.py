"""Options with which the tuners of ``peft`` fit into tiny models."""

from __future__ import annotations

from typing import Any

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
