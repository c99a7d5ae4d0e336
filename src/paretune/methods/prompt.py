"""Prompt tuning: trained virtual tokens before the text, the model frozen.

Source: Lester et al. 2021, arXiv:2104.08691, section 2.
Equation: h = f([P; E(x)]), with f and E frozen; the mask covers P, token types of P are 0.
Shapes: P (runs, num_virtual_tokens, embedding width), before every sequence; for multiple choice
before every choice, which PEFT cannot do.
Trained parameters: num_virtual_tokens * embedding width.
Start: not the base model: the text is shifted by the prompt, and a head that reads the first
position reads the first virtual token, as in PEFT. ``init`` draws P from normal(0, 1) (``random``,
PEFT's RANDOM) or from the embeddings of random tokens (``vocabulary``, PEFT's SAMPLE_VOCAB).
Does not merge. PEFT export: PROMPT_TUNING (not for multiple choice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paretune.methods.fleet import Fleet
from paretune.methods.injection import Injection, generator
from paretune.methods.options import choice, number
from paretune.models.anatomy import Anatomy
from paretune.study import derive

NAME = "prompt"
TITLE = "prompt tuning"
CODE_EPOCH = 1
LEARNING_RATES = (3e-3, 1e-2, 3e-2)
STARTS_AS_BASE = False
MODULE = "virtual_prompt"


@dataclass(frozen=True)
class Options:
    """Length of the prompt and what it starts from."""

    num_virtual_tokens: int = number(20, 1, 512)
    init: str = choice("vocabulary", "random")


class VirtualPrompt(nn.Module):
    """Puts each run's prompt before its sequences, at the door of the model."""

    def __init__(self, prompts: Tensor, embeddings: nn.Module, fleet: Fleet) -> None:
        super().__init__()
        self.P = nn.Parameter(prompts)
        self.fleet = fleet
        # Held in a tuple, so that the frozen table is not listed as a part of this module.
        self._embeddings = (embeddings,)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (..., tokens) -> embeddings (..., virtual + tokens, embedding width)."""
        text = self._embeddings[0](ids)
        rows = text.reshape(-1, *text.shape[-2:])
        joined = self.fleet.each(
            rows, lambda r, own: torch.cat([self.P[r].to(own).expand(len(own), -1, -1), own], 1)
        )
        return joined.reshape(*text.shape[:-2], *joined.shape[-2:])

    def enter(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook: ids become embeddings with the prompt before them."""
        ids = kwargs.pop("input_ids")
        kwargs["inputs_embeds"] = self(ids)
        lengthened = {"attention_mask": 1, "token_type_ids": 0}
        for name, value in lengthened.items():
            if kwargs.get(name) is not None:
                given = kwargs[name]
                front = given.new_full((*given.shape[:-1], self.P.shape[1]), value)
                kwargs[name] = torch.cat([front, given], dim=-1)
        return args, kwargs


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Add the prompt at the door of the model; ``seeds`` has one seed for each run."""
    embeddings = model.get_submodule(anatomy.embeddings)
    table = next(embeddings.parameters())
    prompts = torch.empty(fleet.runs, options.num_virtual_tokens, anatomy.embedding_width)
    for r, seed in enumerate(seeds):
        draw = generator(derive(seed, "init", NAME))
        if options.init == "random":
            prompts[r].normal_(0, 1, generator=draw)
        else:
            ids = torch.randint(len(table), (options.num_virtual_tokens,), generator=draw)
            prompts[r] = table[ids.to(table.device)].detach().cpu()
    prompt = VirtualPrompt(prompts.to(table.device), embeddings, fleet)
    model.add_module(MODULE, prompt)
    handle = model.register_forward_pre_hook(prompt.enter, with_kwargs=True)

    def undo() -> None:
        handle.remove()
        delattr(model, MODULE)

    return Injection({f"{MODULE}.P": prompt.P}, undo, extra_tokens=options.num_virtual_tokens)


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """num_virtual_tokens * embedding width."""
    return options.num_virtual_tokens * anatomy.embedding_width
