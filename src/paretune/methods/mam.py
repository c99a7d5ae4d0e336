"""MAM (mix-and-match) adapter: prefix tuning in the attention, a parallel adapter in the FFN.

Source: He et al. 2021 (Towards a unified view), arXiv:2110.04366, section 4.6.
Equation: those of :mod:`paretune.methods.prefix` and :mod:`paretune.methods.parallel`.
Trained parameters: the sum of both.
Start: not the base model (the prefix). Does not merge. PEFT export: none.
When: the budget of parameters is that of a large adapter and no part of the model is to be left
out.
"""

from __future__ import annotations

from pydantic import Field

from paretune.methods import parallel, stack
from paretune.methods.core.method import Method
from paretune.methods.core.options import LayerOptions


class MamOptions(LayerOptions):
    """Options of the prefix and of the parallel adapter; the rate is the adapter's."""

    num_virtual_tokens: int = Field(default=30, ge=1, le=512)
    prefix_projection: bool = False
    encoder_hidden_size: int = Field(default=512, ge=1, le=8192)
    reduction_factor: int = Field(default=2, ge=1, le=4096)
    scaling: float = Field(default=4.0, ge=0.01, le=1024)

    @property
    def as_stack(self) -> stack.StackOptions:
        """The stack that this method is."""
        prefix = {
            "name": "prefix",
            "num_virtual_tokens": self.num_virtual_tokens,
            "prefix_projection": self.prefix_projection,
            "encoder_hidden_size": self.encoder_hidden_size,
        }
        adapter = {
            "name": "parallel",
            "reduction_factor": self.reduction_factor,
            "scaling": self.scaling,
        }
        return stack.StackOptions(methods=(adapter, prefix))


METHOD = Method(
    name="mam",
    title="MAM adapter",
    options=MamOptions,
    learning_rates=parallel.METHOD.learning_rates,
    decoder_learning_rates=parallel.METHOD.decoder_learning_rates,
    inject=stack.inject,
    count_parameters=stack.count_parameters,
    members_of=stack.configure_members,
)
