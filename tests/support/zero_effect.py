"""Which tensors leave a built-in method without effect."""

from __future__ import annotations

from paretune.testing.two_runs import VIRTUAL

ZERO = {
    "adapterdrop": ("U", "U_bias"),
    "bitfit": ("bias",),
    "dora": ("B", "m"),
    "full": None,
    "head_only": None,
    "houlsby": ("U", "U_bias"),
    "ia3": ("l",),
    "layer_norm": ("gain_bias", "shift_bias"),
    "loha": ("B2",),
    "lokr": ("C",),
    "lora": ("B",),
    "mam": (*VIRTUAL, "U", "U_bias"),
    "p_tuning": VIRTUAL,
    "parallel": ("U", "U_bias"),
    "pfeiffer": ("U", "U_bias"),
    "prefix": VIRTUAL,
    "prompt": VIRTUAL,
    "stack": ("B", "l"),
    "untuned": None,
    "unipelt": (*VIRTUAL, "B", "U", "U_bias"),
}
"""Which tensors make a method be without effect, whatever its others are; None: it has no such."""
