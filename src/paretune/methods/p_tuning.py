"""P-tuning: virtual tokens before the text, made by a small trained network.

Source: Liu et al. 2021 (GPT understands, too), arXiv:2103.10385, section 3.2; the network is the
multi-layer perceptron of PEFT's PROMPT_ENCODER, which took it from NVIDIA NeMo.
Equation: h = f([P; E(x)]), P = W3 relu(W2 relu(W1 Z + b1) + b2) + b3, with f and E frozen; where P
stands, :mod:`paretune.methods.prompt` says.
Shapes: Z (runs, num_virtual_tokens, width), W1 (runs, hidden, width), W2 (runs, hidden, hidden),
W3 (runs, width, hidden), with the width of the word embeddings.
Trained parameters: num_virtual_tokens * width + 2 * width * hidden + hidden^2 + 2 * hidden + width.
Start: not the base model. Z normal(0, 1), W and b uniform on +-1/sqrt(fan in), as PEFT.
Does not merge. PEFT export: P_TUNING (not for multiple choice), whose file keeps the virtual tokens
and not the network.
When: prompt tuning starts badly: the network makes its training steadier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.methods import door, prompt
from paretune.methods.exporting import fill, in_peft
from paretune.methods.fleet import Fleet
from paretune.methods.injection import Injection, generator
from paretune.methods.options import EVERY_KIND, choice, number
from paretune.models.anatomy import Anatomy
from paretune.study import derive

NAME = "p_tuning"
TITLE = "P-tuning"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = False


@dataclass(frozen=True)
class Options:
    """``encoder_hidden_size`` None is the width of the word embeddings.

    ``text_positions``: as of prompt tuning.
    """

    num_virtual_tokens: int = number(20, 1, 512)
    text_positions: str = choice("auto", "kept", "shifted")
    encoder_hidden_size: int | None = number(None, 1, 8192)


class Encoder(nn.Module):
    """The network that makes the prompt of each run."""

    def __init__(
        self, options: Options, width: int, fleet: Fleet, generators: list[torch.Generator]
    ) -> None:
        super().__init__()
        tokens, hidden = options.num_virtual_tokens, options.encoder_hidden_size or width
        self.Z = nn.Parameter(torch.empty(fleet.runs, tokens, width))
        for r, draw in enumerate(generators):
            self.Z.data[r].normal_(0, 1, generator=draw)
        for i, (into, out) in enumerate([(width, hidden), (hidden, hidden), (hidden, width)], 1):
            bound = 1 / math.sqrt(into)
            for name, shape in ((f"W{i}", (out, into)), (f"b{i}_bias", (1, out))):
                values = torch.empty(fleet.runs, *shape)
                for r, draw in enumerate(generators):
                    values[r].uniform_(-bound, bound, generator=draw)
                self.register_parameter(name, nn.Parameter(values))

    def forward(self) -> Tensor:
        """(runs, num_virtual_tokens, width)."""
        h: Tensor = self.Z
        for i in (1, 2, 3):
            weight, bias = self.get_parameter(f"W{i}"), self.get_parameter(f"b{i}_bias")
            h = h @ weight.transpose(1, 2) + bias
            h = F.relu(h) if i < 3 else h
        return h


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Add the prompt at the door of the model; ``seeds`` has one seed for each run."""
    draws = [generator(derive(seed, "init", NAME)) for seed in seeds]
    encoder = Encoder(options, anatomy.embedding_width, fleet, draws)
    encoder.to(next(model.get_submodule(anatomy.embeddings).parameters()).device)
    return door.enter(
        model, anatomy, encoder, options.num_virtual_tokens, fleet, options.text_positions
    )


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """The same by PEFT, on a fresh base; ``common`` goes to its config."""
    import peft

    config = peft.PromptEncoderConfig(
        num_virtual_tokens=options.num_virtual_tokens,
        encoder_hidden_size=options.encoder_hidden_size
        or model.get_input_embeddings().embedding_dim,  # type: ignore[operator]
        **prompt.prompt_common(model, common, options),
    )
    theirs = in_peft(model, config)
    encoder = theirs.prompt_encoder["default"]
    ours: dict[str, Tensor] = {
        name.rpartition(".")[2]: p for name, p in injection.parameters.items()
    }
    fill(encoder.embedding.weight, ours["Z"])
    # The last layer gives rows of the table, or what its module makes of them.
    ours["W3"] = prompt.as_words(theirs, ours["W3"].transpose(1, 2)).transpose(1, 2)
    ours["b3_bias"] = prompt.as_words(theirs, ours["b3_bias"])
    for i in (1, 2, 3):
        fill(encoder.mlp_head[2 * i - 2].weight, ours[f"W{i}"])
        fill(encoder.mlp_head[2 * i - 2].bias, ours[f"b{i}_bias"])
    return theirs


def not_in_peft(kind: str) -> str:
    """Why PEFT cannot represent this method on a task of this kind, or ""."""
    return prompt.not_in_peft(kind)


def not_in_peft_on(model: Any, options: Any) -> str:
    """Why PEFT cannot put this method before the texts of this model, or ""."""
    return prompt.not_in_peft_on(model, options)


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """The virtual tokens and the three layers behind them."""
    width = anatomy.embedding_width
    hidden = options.encoder_hidden_size or width
    tokens = options.num_virtual_tokens * width
    return tokens + 2 * width * hidden + hidden**2 + 2 * hidden + width
