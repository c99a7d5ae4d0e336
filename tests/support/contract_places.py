"""Where the contract is walked: every method on every family and kind, by default some of them."""

from __future__ import annotations

from typing import Any

import pytest

from paretune import methods, objectives
from paretune.methods.core.method import no_shots
from paretune.testing.tiny_models import DECODERS, FAMILIES
from paretune.testing.tiny_tasks import KINDS
from paretune.testing.translator_folders import TRANSLATORS
from support.guarantees import REAL, REAL_TRANSLATOR
from support.rotation import TODAY

METHODS = tuple(
    n
    for n, method in methods.available().items()
    if isinstance(method, methods.Method) and method.shots is no_shots
)
"""All but those that show a model solved examples: that is the untuned model with other prompts."""
PLACES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(FAMILIES, KINDS),
    REAL: KINDS[:1],
    **dict.fromkeys((*TRANSLATORS, REAL_TRANSLATOR), ("translation",)),
}
"""The kinds of task of each family, and of the real models."""
ON_PAGE = ("llama", "qwen3", "gemma3", "opt")
DECODER_PLACES: dict[str, tuple[str, ...]] = dict.fromkeys(ON_PAGE, ("pair",))
"""Decoders that have a column, with a classifier in place of the LM head."""
WALKED_TOO: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ON_PAGE, ("multiple_choice", "regression")),
    **dict.fromkeys((family for family in DECODERS if family not in ON_PAGE), ("pair",)),
}
"""What is walked beside them, and is on no page."""
IN_PEFT = tuple(
    name
    for name, method in methods.available().items()
    if isinstance(method, methods.Method)
    and method.to_peft is not None
    and not method.cannot_export_to_peft(method.options(), objectives.get("pair"), None)
)
MERGED = tuple(name for name in METHODS if methods.get(name).merge is not None)
"""Methods whose export PEFT opens as a classifier, and those that become a part of the weights."""


def serves(method: str, kind: str) -> bool:
    """Whether a method may stand in a study of such a task."""
    return methods.refusal(methods.get(method), objectives.get(kind), tabular=False) == ""


ROTATING = FAMILIES[1:][TODAY % (len(FAMILIES) - 1)], KINDS[TODAY % len(KINDS)]
WITHOUT_BIASES = ("modernbert", "t5", "llama", "qwen3", "gemma2", "gemma3", "mistral", "phi3")
EVERY_DAY = ("lora", "full", "prompt")
"""Methods that walk on BERT every day; the others every second."""
REFUSED = {("bitfit", family): "has no biases" for family in WITHOUT_BIASES}
"""Pairs that a method cannot do, and what its refusal says."""


def combinations() -> list[Any]:
    """All that there is to walk; what is not walked by default is marked as slow."""
    return [
        _named(*place, () if _always(*place) else pytest.mark.slow)
        for place in _everywhere()
        if serves(place[0], place[2]) and place[:2] not in REFUSED
    ]


def refused() -> list[Any]:
    """Where a method finds nothing in the model to train."""
    return [_named(*place) for place in _everywhere() if place[:2] in REFUSED]


def unserved() -> list[Any]:
    """Where no study can ask for a method."""
    return [_named(*place) for place in _everywhere() if not serves(place[0], place[2])]


def _everywhere() -> list[tuple[str, str, str]]:
    return [
        (method, family, kind)
        for places in (PLACES, DECODER_PLACES, WALKED_TOO)
        for family, kinds in places.items()
        for kind in kinds
        for method in METHODS
    ]


def _always(method: str, family: str, kind: str) -> bool:
    if family in DECODERS:  # in sixteen days every method is on each of the four
        turn = METHODS.index(method) + 2 * DECODERS.index(family) + TODAY
        return family in ON_PAGE and kind == "pair" and turn % 16 == 0
    index = METHODS.index(method)
    if family not in FAMILIES:
        return family == "marian" and (index + TODAY) % 4 == 0
    if (family, kind) == ("bert", "pair"):
        return method in EVERY_DAY or (index + TODAY) % 4 in (1, 3)
    if (family, kind) == ROTATING:
        return (index + TODAY // len(KINDS)) % 4 == 0
    # One segment or two makes no difference to a model's classes. The rest takes turns: within
    # eight days every method is on BERT with every kind, LoRA and prompt tuning on every family.
    turn = index + FAMILIES.index(family) + KINDS.index(kind) + TODAY
    common = (family == "bert" or method in ("lora", "prompt")) and kind != "classification"
    return common and turn % 8 == 0


def _named(method: str, family: str, kind: str, marks: Any = ()) -> Any:
    return pytest.param((method, family, kind), id=f"{method}-{family}-{kind}", marks=marks)
