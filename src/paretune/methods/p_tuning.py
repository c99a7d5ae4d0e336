"""P-tuning: virtual tokens before the text, made by a small trained network.

Source: Liu et al. 2021 (GPT understands, too), arXiv:2103.10385, section 3.2; the network is the
multi-layer perceptron of PEFT's PROMPT_ENCODER, which took it from NVIDIA NeMo.
Equation: h = f([P; E(x)]), P = W3 relu(W2 relu(W1 Z + b1) + b2) + b3, with f and E frozen; where P
stands, :mod:`paretune.methods.prompt` says.
Shapes: Z (num_virtual_tokens, width), W1 (hidden, width), W2 (hidden, hidden), W3 (width, hidden),
with the width of the word embeddings.
Trained parameters: num_virtual_tokens * width + 2 * width * hidden + hidden^2 + 2 * hidden + width.
Start: not the base model. Z normal(0, 1), W and b uniform on +-1/sqrt(fan in), as PEFT.
Does not merge. PEFT export: P_TUNING (not for multiple choice nor a decoder's classifier), whose
file keeps the virtual tokens and not the network.
When: prompt tuning starts badly: the network makes its training steadier.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paretune.methods import prompt
from paretune.methods.core.initialisation import draw_normal, draw_uniform, init_generator
from paretune.methods.core.injection import Injection, copy_tensor, wrap_in_peft
from paretune.methods.core.method import Method, PeftExport
from paretune.methods.core.options import MethodOptions
from paretune.methods.core.virtual_tokens import TextPositions, prepend_virtual_tokens
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy

NAME = "p_tuning"


class PTuningOptions(MethodOptions):
    """``encoder_hidden_size`` None is the width of the word embeddings.

    ``text_positions``: as of prompt tuning.
    """

    num_virtual_tokens: int = Field(default=20, ge=1, le=512)
    text_positions: TextPositions = "auto"
    encoder_hidden_size: int | None = Field(default=None, ge=1, le=8192)


class PromptEncoder(nn.Module):
    """The network that makes the prompt."""

    def __init__(self, options: PTuningOptions, width: int, generator: torch.Generator) -> None:
        super().__init__()
        tokens, hidden = options.num_virtual_tokens, options.encoder_hidden_size or width
        self.Z = nn.Parameter(draw_normal((tokens, width), 1, generator))
        for i, (n_in, n_out) in enumerate([(width, hidden), (hidden, hidden), (hidden, width)], 1):
            for name, shape in ((f"W{i}", (n_out, n_in)), (f"b{i}_bias", (n_out,))):
                values = draw_uniform(shape, n_in, generator)
                self.register_parameter(name, nn.Parameter(values))

    def forward(self) -> Tensor:
        """(num_virtual_tokens, width)."""
        h: Tensor = self.Z
        for i in (1, 2, 3):
            weight, bias = self.get_parameter(f"W{i}"), self.get_parameter(f"b{i}_bias")
            h = h @ weight.T + bias
            h = F.relu(h) if i < 3 else h
        return h


def inject(
    model: nn.Module, anatomy: Anatomy, options: PTuningOptions, context: PassContext, seed: int
) -> Injection:
    """Prepend the prompt to the input embeddings."""
    encoder = PromptEncoder(options, anatomy.embedding_width, init_generator(seed, NAME))
    encoder.to(next(model.get_submodule(anatomy.word_embeddings).parameters()).device)
    return prepend_virtual_tokens(
        model, anatomy, encoder, options.num_virtual_tokens, context, options.text_positions
    )


def to_peft(
    model: nn.Module, options: PTuningOptions, injection: Injection, common: dict[str, Any]
) -> Any:
    """Make PEFT's p-tuning on a fresh base; ``common`` goes to its config."""
    import peft

    config = peft.PromptEncoderConfig(
        num_virtual_tokens=options.num_virtual_tokens,
        encoder_hidden_size=options.encoder_hidden_size
        or model.get_input_embeddings().embedding_dim,  # type: ignore[operator]
        **prompt.peft_prompt_settings(model, common),
    )
    peft_model = wrap_in_peft(model, config)
    encoder = peft_model.prompt_encoder["default"]
    tensors: dict[str, Tensor] = {
        name.rpartition(".")[2]: p for name, p in injection.parameters.items()
    }
    copy_tensor(encoder.embedding.weight, tensors["Z"])
    # The last layer gives rows of the table, or what its module makes of them.
    tensors["W3"] = prompt.embed_prompt(peft_model, tensors["W3"].T).T
    tensors["b3_bias"] = prompt.embed_prompt(peft_model, tensors["b3_bias"][None])[0]
    for i in (1, 2, 3):
        copy_tensor(encoder.mlp_head[2 * i - 2].weight, tensors[f"W{i}"])
        copy_tensor(encoder.mlp_head[2 * i - 2].bias, tensors[f"b{i}_bias"])
    return peft_model


def count_parameters(model: nn.Module, anatomy: Anatomy, options: PTuningOptions) -> int:
    """The virtual tokens and the three layers behind them."""
    width = anatomy.embedding_width
    hidden = options.encoder_hidden_size or width
    tokens = options.num_virtual_tokens * width
    return tokens + 2 * width * hidden + hidden**2 + 2 * hidden + width


METHOD = Method(
    name=NAME,
    title="P-tuning",
    options=PTuningOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    # PEFT's comparison on MetaMathQA takes 1e-4 and 5e-4.
    decoder_learning_rates=(1e-4, 3e-4, 1e-3),
    inject=inject,
    count_parameters=count_parameters,
    peft_export=PeftExport(to_peft, prompt.cannot_export_to_peft),
    virtual_tokens="text",
    saved_widths=2.4,
)
