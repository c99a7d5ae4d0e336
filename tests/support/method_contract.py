"""The contract of the methods: where it is walked, and what is known of each method."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from paretune import methods, objectives
from paretune.methods import dora
from paretune.methods.core.injection import Injection
from paretune.testing.method_walk import Walk
from paretune.testing.methods import MethodContract
from paretune.testing.tiny_models import DECODERS, FAMILIES
from paretune.testing.tiny_tasks import KINDS
from paretune.testing.translator_folders import TRANSLATORS
from paretune.testing.without_effect import VIRTUAL
from support.guarantees import REAL, REAL_TRANSLATOR

METHODS = tuple(
    n
    for n, method in methods.available().items()
    if isinstance(method, methods.Method) and n != "few_shot"
)
"""All but those that show a model solved examples: that is the untuned model with other prompts."""
PLACES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(FAMILIES, KINDS[:4]),
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
OF_TOKENS = dict.fromkeys((*FAMILIES, *ON_PAGE[:2]), KINDS[4:])
"""Where tags of words are walked; transformers has no such head for Gemma 3 and OPT."""
IN_PEFT = tuple(
    name
    for name, method in methods.available().items()
    if isinstance(method, methods.Method)
    and method.peft_export is not None
    and not method.peft_export.refuse(method.options(), objectives.get("pair"), None)
)
MERGED = tuple(name for name in METHODS if methods.get(name).merge is not None)
"""Methods whose export PEFT opens as a classifier, and those that become a part of the weights."""


def serves(method: str, kind: str) -> bool:
    """Whether a method may stand in a study of such a task."""
    return methods.refusal(methods.get(method), objectives.get(kind), tabular=False) == ""


WITHOUT_BIASES = ("modernbert", "t5", "llama", "qwen3", "gemma2", "gemma3", "mistral", "phi3")
REFUSED = {("bitfit", family): "has no biases" for family in WITHOUT_BIASES}
REFUSED |= {("setfit", family): "is no encoder" for family in DECODERS}
"""Pairs that a method cannot do, and what its refusal says."""


def combinations() -> list[Any]:
    """All that there is to walk, with the marks of what ``make test`` leaves out.

    It walks every method on BERT with pairs, and one method on every other tiny family; ``wide``
    are two methods for each family and kind.
    """
    able: dict[tuple[str, str], list[str]] = {}
    for method, family, kind in _everywhere():
        if serves(method, kind) and (method, family) not in REFUSED:
            able.setdefault((family, kind), []).append(method)
    families = PLACES | WALKED_TOO | DECODER_PLACES
    by_default = {f: kinds[n % len(kinds)] for n, (f, kinds) in enumerate(families.items())}
    places = []
    for number, ((family, kind), names) in enumerate(able.items()):
        first, second = (names[(13 * number + further) % len(names)] for further in (0, 3))
        for name in names:
            marks: Any = pytest.mark.slow
            if family not in (REAL, REAL_TRANSLATOR):
                walked = name == first and kind == by_default[family]
                if walked or (family, kind) == ("bert", "pair"):
                    marks = ()
                elif name in (first, second):
                    marks = pytest.mark.wide
            places.append(_named(name, family, kind, marks))
    return places


def refused() -> list[Any]:
    """Where a method finds nothing in the model to train."""
    return [_named(*place) for place in _everywhere() if place[:2] in REFUSED]


def unserved() -> list[Any]:
    """Where no study can ask for a method."""
    return [_named(*place) for place in _everywhere() if not serves(place[0], place[2])]


def _everywhere() -> list[tuple[str, str, str]]:
    return [
        (method, family, kind)
        for places in (PLACES, DECODER_PLACES, WALKED_TOO, OF_TOKENS)
        for family, kinds in places.items()
        for kind in kinds
        for method in METHODS
    ]


def _named(method: str, family: str, kind: str, marks: Any = ()) -> Any:
    return pytest.param((method, family, kind), id=f"{method}-{family}-{kind}", marks=marks)


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
    "setfit": None,
    "unipelt": (*VIRTUAL, "B", "U", "U_bias"),
}
"""Which tensors make a method be without effect, whatever its others are; None: it has no such."""


NOT_AS_BASE = {"mam", "p_tuning", "prefix", "prompt", "setfit", "unipelt"}
"""Methods whose models answer otherwise than the base from the start."""


class OwnMethodContract(MethodContract):
    """Which tensors are without effect at zero, and which the gradient holds constant."""

    def is_base_at_start(self, walk: Walk) -> bool:
        return walk.method not in NOT_AS_BASE

    def neutral_tensors(self, walk: Walk) -> tuple[str, ...] | None:
        return ZERO[walk.method]

    def hold_constants(self, injection: Injection) -> str:
        updates = [u for u in injection.adapters.values() if isinstance(u, dora.DoraUpdate)]
        for update in updates:
            update.row_norms = partial(torch.Tensor.detach, update.row_norms())
        return "DoRA's norms held constant, as its gradient has them" if updates else ""
