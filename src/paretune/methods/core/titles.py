"""Titles of methods for people; no import of torch is needed."""

from __future__ import annotations

from collections.abc import Mapping

from paretune import plugins
from paretune.errors import PluginError
from paretune.methods import baselines
from paretune.methods.core.method import Method
from paretune.methods.peft.supported import PEFT_PREFIX, SUPPORTED
from paretune.study.specs import find_proposer

TITLES: Mapping[str, str] = {
    "adapterdrop": "AdapterDrop",
    "bitfit": "BitFit",
    "command": "command",
    "dora": "DoRA",
    "full": "full fine-tuning",
    "houlsby": "Houlsby adapters",
    "ia3": "IA3",
    "layer_norm": "LayerNorm tuning",
    "loha": "LoHa",
    "lokr": "LoKr",
    "lora": "LoRA",
    "mam": "MAM adapter",
    "p_tuning": "P-tuning",
    "parallel": "parallel adapter",
    "pfeiffer": "Pfeiffer adapters",
    "prefix": "prefix tuning",
    "prompt": "prompt tuning",
    "setfit": "SetFit",
    "stack": "stack of methods",
    "unipelt": "UniPELT",
}
"""The methods that have a file of this package, most of which import torch."""


def title_of(key: str) -> str:
    """The title of a method for people: ``LoRA`` for ``lora``; a label as it is."""
    tuner = key.removeprefix(PEFT_PREFIX)
    if tuner != key and tuner in SUPPORTED:
        return f"{SUPPORTED[tuner].title} (peft)"
    if key in baselines.METHODS:
        return baselines.METHODS[key].title
    if (proposer := find_proposer(key)) is not None:
        return proposer.title
    if key not in TITLES and key in plugins.names(plugins.METHODS):
        try:
            return plugins.load(plugins.METHODS, key, Method).title
        except PluginError:
            return key  # its results can be read all the same; doctor says what is wrong with it
    return TITLES.get(key, key)
