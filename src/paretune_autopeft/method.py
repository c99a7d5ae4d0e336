"""Auto: a combination of methods that is searched for, as one method of the study.

Source: Zhou et al. 2023 (AutoPEFT), arXiv:2301.12132: layers, methods and sizes by Bayesian
optimisation with several objectives. The search itself is :mod:`paretune_autopeft.search`.
Equation: that of the stack of methods that the search finds.
Example: {name: auto, members: [lora, pfeiffer, ia3], groups: 4, budget: 3}
Start: the base model. Merges, exports: as the stack that was found.
When: it is not known which methods in which layers suit the task, and a search is affordable.

In a study file it says what is searched; ``methods`` is what a search fills in, and makes it a
method that trains. ``budget`` is what the search may take, in what so many methods take for their
trials: 3, so that it takes as long as three methods that are set by hand. ``by`` is the cost over
which the front is drawn. ``pick``: the one of the front that the study goes on with; ``finalists``
so many of them enter the study, each as a row of its own whose ``finalist`` is its place.
``controls``: rows for the best of random configurations and for a tuned LoRA, which take as long
(:mod:`paretune_autopeft.proposer`). ``sampler``: ``random`` is the control; ``tpe`` and ``gp``
are Optuna's.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from paretune.errors import MethodError
from paretune.methods import stack
from paretune.methods.core.method import ConfiguredMethod, Method
from paretune.methods.core.options import MethodList, MethodOptions, Names
from paretune_autopeft import NAME, TITLE

MEMBERS = ("lora", "pfeiffer", "parallel", "ia3", "bitfit")


class FoundStack(stack.StackOptions):
    """A stack that a search has found, of one method too."""

    least: ClassVar[int] = 1


class AutoOptions(MethodOptions):
    """``members``: methods that may stand in a group of layers, ``at_most`` so many in one."""

    members: Names = MEMBERS
    groups: int = Field(default=4, ge=1, le=64)
    at_most: int = Field(default=2, ge=1, le=20)
    budget: float = Field(default=3.0, ge=0.1, le=1000)
    by: Literal["parameters", "memory", "time"] = "parameters"
    pick: Literal["best", "knee", "cheapest"] = "best"
    finalist: int = Field(default=1, ge=1, le=3)
    finalists: int = Field(default=1, ge=1, le=3)
    controls: bool = True
    sampler: Literal["improvement", "random", "tpe", "gp"] = "improvement"
    methods: MethodList = ()

    @property
    def as_stack(self) -> stack.StackOptions:
        """The combination that was found."""
        if not self.methods:
            raise MethodError(
                "its combination has not been found yet.",
                where=f"method {NAME}",
                remedy="Run the study: the search comes before the final runs.",
            )
        return FoundStack(methods=self.methods)


def _configure_members(options: AutoOptions) -> list[ConfiguredMethod]:
    """The members that the search has found, once it has ended."""
    return stack.configure_members(options) if options.methods else []


METHOD = Method(
    name=NAME,
    title=TITLE,
    options=AutoOptions,
    learning_rates=stack.METHOD.learning_rates,
    inject=stack.inject,
    count_parameters=stack.count_parameters,
    merge=stack.merge,
    members_of=_configure_members,
)
