"""Full fine-tuning: every parameter of the model is trained.

Source: Devlin et al. 2019, arXiv:1810.04805, section 3.2.
Equation: W <- W - step(dL/dW) for all W.
Trained parameters: all of them, but what the architecture itself fixes (Marian's positions).
Start: the base model. Nothing to merge: a plain ``transformers`` checkpoint.
When: memory and disk allow it, and the task is far from what the model was trained on; also as the
measure of what the cheaper methods give up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretune.methods.core.method import Method, Trains, always
from paretune.methods.core.options import MethodOptions

if TYPE_CHECKING:  # reports ask for its name, without torch
    from torch import nn

    from paretune.methods.core.injection import Injection
    from paretune.models.pass_context import PassContext
    from paretune.models.structure.anatomy import Anatomy

NAME = "full"


def inject(
    model: nn.Module, anatomy: Anatomy, options: MethodOptions, context: PassContext, seed: int
) -> Injection:
    """Declare every parameter trained. ``undo`` cannot bring the old values back: reload."""
    from paretune.methods.core.injection import Injection

    trained = {n: p for n, p in model.named_parameters() if n not in anatomy.untrainable}
    return Injection(trained)


def count_parameters(model: nn.Module, anatomy: Anatomy, options: MethodOptions) -> int:
    """All parameters, the head included."""
    return sum(p.numel() for n, p in model.named_parameters() if n not in anatomy.untrainable)


METHOD = Method(
    name=NAME,
    title="full fine-tuning",
    options=MethodOptions,
    learning_rates=(3e-5, 1e-4, 3e-4),
    # LLaMA-Factory and PEFT's comparison on MetaMathQA take 1e-5, TRL 2e-5, GaMS3
    # (arXiv:2603.01691) 5e-6; 2e-4 ruins a decoder.
    decoder_learning_rates=(1e-5, 3e-5, 1e-4),
    inject=inject,
    count_parameters=count_parameters,
    trains=Trains.EVERYTHING,
    reads_base_weights=always,
)
