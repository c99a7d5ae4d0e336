"""A method without effect, whose model is the base."""

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
        symbol = name.rpartition(".")[2]
        if symbol in VIRTUAL and symbol in neutral:
            parameter.data = parameter.data[:0]
            cut.add("attention" if symbol in "KV" else "embeddings")
        elif symbol in neutral:
            parameter.data.copy_(starts[name])
            still.add(symbol)
    assert still <= set(neutral) and (still or cut)
    notes = [f"no virtual tokens, only the way through our {way} is left" for way in sorted(cut)]
    if still:
        notes.append(f"{' and '.join(sorted(still))} as at the start, all other tensors moved")
    return "; ".join(notes)
