"""Which models and methods the walk takes, and how a model becomes one of fake tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from paretune import methods, objectives
from paretune.methods.core.options import parse_options
from paretune.models.dropout import set_dropout
from paretune.models.load import LoadedModel
from paretune.models.structure.anatomy import read_anatomy
from paretune.objectives.encoding import Encoded
from paretune.testing.tiny_models import encoder_tokenizer, random_model
from paretune.testing.tiny_tasks import small
from paretune.testing.tiny_translators import tiny_translator

DEVICE = "cuda:0"
FAMILIES = ("bert", "roberta", "distilbert", "electra", "modernbert", "deberta-v2", "marian")
PADDED = ("bert", "marian")
"""Families that are packed, walked without packing too."""
IMPOSSIBLE = {("modernbert", "bitfit")}
"""ModernBERT has no biases."""


def method_names(family: str) -> list[str]:
    """Every own method that trains a model and serves such a task, but the stack of others."""
    kind = "translation" if family == "marian" else "classification"
    names = []
    for name in sorted(methods.available()):
        module = methods.get(name)
        serves = isinstance(module, methods.Method) and not methods.refusal(
            module, objectives.get(kind), tabular=False
        )
        if serves and name not in ("stack", "untuned") and (family, name) not in IMPOSSIBLE:
            parse_options(name, module.options, small(name))
            names.append(name)
    return names


def encoded(family: str, count: int = 16) -> Encoded:
    """Texts of many lengths; for Marian with targets."""
    draw = np.random.default_rng(0)

    def text() -> list[int]:
        return [int(i) for i in draw.integers(5, 90, draw.integers(3, 30))]

    ids = [[text()] for _ in range(count)]
    targets = [text() for _ in range(count)] if family == "marian" else None
    types = [[[0] * len(one) for one in choices] for choices in ids]
    own_types = types if family in ("bert", "electra", "deberta-v2") else None
    lengths = [len(choices[0]) for choices in ids]
    if targets is not None:
        lengths = [a + len(b) for a, b in zip(lengths, targets, strict=True)]
    labels = [int(i) for i in draw.integers(0, 2, count)]
    return Encoded(ids, own_types, lengths, labels, [False] * count, targets=targets)


def make_model(family: str) -> Any:
    """A tiny model with dropout everywhere; encoders classify into two."""
    if family == "marian":
        model = tiny_translator(family)
    else:
        config = random_model(family, encoder_tokenizer(family)).config
        config.num_labels = 2
        model = AutoModelForSequenceClassification.from_config(config)
    set_dropout(model, 0.1)
    return model.eval()


def fake_model(family: str, mode: Any) -> LoadedModel:
    """The model with fake tensors on the fake device; its anatomy is that of a real twin."""
    model = make_model(family)
    parts = read_anatomy(model)
    names = [name for name, _ in model.named_parameters()]
    head = tuple(n for n in names if any(n.startswith(f"{h}.") for h in parts.head_modules))
    with mode:
        known: dict[int, Any] = {}
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    fake = nn.Parameter(torch.empty_like(parameter, device=DEVICE))
                    module._parameters[name] = known.setdefault(id(parameter), fake)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty_like(buffer, device=DEVICE)
    return LoadedModel(model, None, parts, head)


def every_case(family: str) -> list[str]:
    """Each method in both precisions, by the fast path, and padded where told."""
    cases = []
    for method in method_names(family):
        hows = ["fast", *(["padded"] if family in PADDED else [])]
        cases += [f"{family}/{method}/{p}/{how}" for p in ("fp32", "bf16") for how in hows]
    return cases


def few_cases() -> list[str]:
    """BERT with each method in bf16, and of each other family and way one."""
    lora_cases = [f"{family}/lora/bf16/fast" for family in FAMILIES if family != "bert"]
    padded = ["bert/lora/fp32/padded", "marian/lora/bf16/padded"]
    return [f"bert/{method}/bf16/fast" for method in method_names("bert")] + lora_cases + padded
