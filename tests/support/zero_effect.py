"""How a method that is inside a model is left without effect, tensor by tensor."""

from __future__ import annotations

from paretune.methods.core.injection import Injection
from support.contract_walk import unsettle

VIRTUAL = ("K", "V", "P", "Z")
"""Tensors that are virtual tokens, or make them: without them, a method has none."""
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


def without_effect(injection: Injection, neutral: tuple[str, ...]) -> str:
    """Leave the method no effect, all its other tensors drawn anew; says how."""
    starts = {name: p.detach().clone() for name, p in injection.parameters.items()}
    unsettle(injection.parameters.values())
    still, cut = set(), set()
    for name, parameter in injection.parameters.items():
        own = name.rpartition(".")[2]
        if own in VIRTUAL and own in neutral:
            parameter.data = parameter.data[:, :0]
            cut.add("attention" if own in "KV" else "embeddings")
        elif own in neutral:
            parameter.data.copy_(starts[name])
            still.add(own)
    assert still <= set(neutral) and (still or cut)
    said = [f"no virtual tokens, only the way through our {way} is left" for way in sorted(cut)]
    if still:
        said.append(f"{' and '.join(sorted(still))} as at the start, all other tensors moved")
    return "; ".join(said)
