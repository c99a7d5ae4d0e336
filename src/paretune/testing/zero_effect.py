"""How a method that is inside a model is left without effect, tensor by tensor."""

from __future__ import annotations

from paretune.methods.core.injection import Injection
from paretune.testing.method_walk import unsettle

VIRTUAL = ("K", "V", "P", "Z")
"""Tensors that are virtual tokens, or make them: without them, a method has none."""


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
    notes = [f"no virtual tokens, only the way through our {way} is left" for way in sorted(cut)]
    if still:
        notes.append(f"{' and '.join(sorted(still))} as at the start, all other tensors moved")
    return "; ".join(notes)
