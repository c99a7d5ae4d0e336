"""A method inside a tiny translation model, with a batch to answer: what the tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paretune import methods, objectives
from paretune.methods.core.injection import Injection
from paretune.methods.core.options import parse_options
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy, read_anatomy
from paretune.testing.method_walk import unsettle
from paretune.testing.tiny_translators import WORDS, tiny_translator

SMALL = {"rank": 2, "num_virtual_tokens": 3, "reduction_factor": 8, "encoder_hidden_size": 8}
TRAINED = tuple(
    name
    for name, method in methods.available().items()
    if isinstance(method, methods.Method)
    and not methods.refusal(method, objectives.get("translation"), tabular=False)
)
ROWS, SOURCE, TARGET = 4, 9, 6


@dataclass
class Case:
    """A model and a method's module and options; ``inject`` puts the method in."""

    method: methods.Method
    options: Any
    model: Any
    anatomy: Anatomy

    def inject(self, context: PassContext | None = None) -> Injection:
        """The method inside the model, without a gradient for anything else."""
        context = context or PassContext()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        injection: Injection = self.method.inject(
            self.model, self.anatomy, self.options, context, 1
        )
        for parameter in injection.parameters.values():
            parameter.requires_grad_(True)
        return injection

    def injected(self) -> Injection:
        """The method inside the model, moved from where it starts."""
        injection = self.inject()
        self.unsettle(injection)
        return injection

    def unsettle(self, injection: Injection) -> None:
        """Move what is trained from where it starts."""
        unsettle(injection.parameters.values(), by=0.1)

    def batch(self, rows: int = ROWS, pad: int = 0) -> dict[str, Tensor]:
        """Sources of unlike lengths, ``pad`` more padding than needed, and targets."""
        draw = torch.Generator().manual_seed(5)
        source = torch.randint(4, WORDS, (rows, SOURCE + pad), generator=draw)
        seen = torch.zeros_like(source)
        for row in range(rows):
            seen[row, : SOURCE - 2 * row] = 1
        pad_id = self.anatomy.pad_id
        target = torch.randint(4, WORDS, (rows, TARGET), generator=draw)
        ids = torch.where(seen.bool(), source, torch.tensor(pad_id))
        return {"input_ids": ids, "attention_mask": seen, "labels": target}

    def logits(self, **batch: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.model(**(batch or self.batch())).logits
        return logits

    def translations(self, **batch: Tensor) -> list[list[int]]:
        """By beam search, without what stands behind the end."""
        inputs = batch or self.batch()
        inputs.pop("labels", None)
        tokens = self.model.generate(**inputs, num_beams=3, max_new_tokens=6)
        return [[t for t in row if t != self.anatomy.pad_id] for row in tokens.tolist()]


def case(method: str, family: str, **overrides: Any) -> Case:
    """The method with small options on a fresh model."""
    model = tiny_translator(family)
    return Case(*configure(method, overrides), model, read_anatomy(model))


def configure(method: str, overrides: dict[str, Any]) -> tuple[Any, Any]:
    """The method and its small options."""
    module = methods.get(method)
    known = module.options.model_fields
    options = {name: value for name, value in SMALL.items() if name in known} | overrides
    if method == "stack" and not overrides:
        options = {"methods": [{"name": "lora", "rank": 2}, "ia3"]}
    return module, parse_options(method, module.options, options)


def traces(model: Any) -> list[Any]:
    """Names of all parts, their hooks, what was put on them, and how attention is computed."""
    return [
        (
            name,
            len(module._forward_hooks) + len(module._forward_pre_hooks),
            sorted(vars(module)),
            getattr(getattr(module, "config", None), "_attn_implementation", None),
        )
        for name, module in model.named_modules()
    ] + [name for name, _ in model.named_parameters()]
