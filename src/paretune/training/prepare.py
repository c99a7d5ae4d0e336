"""Makes a loaded model ready for a run: head drawn, backbone frozen, method injected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from paretune import methods
from paretune.data.batch import pass_overhead_tokens
from paretune.errors import MethodError
from paretune.methods import ConfiguredMethod, Trains
from paretune.methods.core.injection import Injection
from paretune.models.dropout import restore_dropout, set_dropout
from paretune.models.load import LoadedModel, reset_head
from paretune.models.pass_context import PassContext
from paretune.models.quantised import count_parameters
from paretune.objectives import Objective
from paretune.study import Run


@dataclass(frozen=True)
class PreparedModel:
    """A model with a method inside.

    Attributes:
        max_length: tokens of text in a sequence.
    """

    loaded: LoadedModel
    method: ConfiguredMethod
    injection: Injection
    context: PassContext
    trained: dict[str, nn.Parameter]
    max_length: int

    @property
    def head(self) -> dict[str, nn.Parameter]:
        """The trained parameters of the head, by name."""
        return {n: p for n, p in self.trained.items() if n in self.loaded.head_parameters}

    def num_classes(self, objective: Objective, labels: int) -> int:
        """Number of possible answers of a new head, the labels; or words of the vocabulary."""
        answers = labels if objective.draws_head else 0
        return answers or int(self.loaded.model.config.vocab_size)

    @property
    def pass_tokens(self) -> int:
        """Fixed cost of a forward pass, in tokens."""
        model = self.loaded.model
        everything = count_parameters(model)
        trained = sum(p.numel() for p in self.trained.values())
        return pass_overhead_tokens(trained, everything, model.device.type)

    def undo(self) -> None:
        """Take the method out: the backbone is as it was loaded, in evaluation mode."""
        self.injection.undo()
        # Steps leave it in training mode, and the next run may read it before its first step.
        self.loaded.model.eval()


def prepare(run: Run, loaded: LoadedModel, device: str = "cpu") -> PreparedModel:
    """Draw the head, freeze the rest, inject the method; all from the run's seed.

    Raises:
        MethodError: unknown method or option, a target that matches nothing, or a prompt that
            leaves no room for text.
    """
    method = configure_model(run, loaded, device)
    model: Any = loaded.model
    reset_head(loaded, run.seed)
    context = PassContext()
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    injection = method.inject(model, loaded.anatomy, context, run.seed)
    try:
        length = usable_length(run, loaded, injection.positions_before_text)
    except MethodError:
        injection.undo()
        raise
    trained = injection.parameters
    if method.trains is not Trains.EVERYTHING:  # which names those of the head that it trains
        trained = trained | {name: parameters[name] for name in loaded.head_parameters}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    return PreparedModel(loaded, method, injection, context, trained, length)


def configure_model(run: Run, loaded: LoadedModel, device: str) -> ConfiguredMethod:
    """Set device, dropout, attention and activation checkpointing; returns the run's method.

    A method that trains the head alone reads the features of the frozen model, which are the same
    in every step: the model below the head has no dropout.

    Raises:
        MethodError: the model cannot compute activations again.
    """
    method = methods.configure_method(run.method).with_tokenizer(loaded.tokenizer)
    model: Any = loaded.model
    model.to(device)
    if run.training.dropout is None:
        restore_dropout(model, loaded.dropout_rates)
    else:
        set_dropout(model, run.training.dropout)
    if method.trains is Trains.HEAD:
        set_dropout(model.base_model, 0.0)
    training = run.training
    if getattr(model, "_supports_sdpa", False):
        # Eager attention makes a step on a CPU in bf16 1.2 times as fast as SDPA (dev/log.md). The
        # numbers are the same to rounding; models of one kind, and the plain backend, keep theirs.
        eager = device == "cpu" and training.precision == "bf16" and training.backend == "fast"
        model.set_attn_implementation("eager" if eager else "sdpa")
    # transformers 5.20 gave it another name, and warns where the older one is used.
    name = "activation" if hasattr(type(model), "activation_checkpointing_enable") else "gradient"
    if not training.activation_checkpointing:
        if getattr(model, f"is_{name}_checkpointing", False):
            getattr(model, f"{name}_checkpointing_disable")()
        return method
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise MethodError(
            f"{type(model).__name__} cannot compute activations again.",
            where="training.activation_checkpointing",
            remedy="Leave it out, or set micro_batch.",
        )
    # The re-entrant kind would need an input that is trained, which a frozen embedding is not.
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    # The inputs need no gradient: nothing is computed backwards below the lowest trained layer.
    model.disable_input_require_grads()
    return method


def allows_bf16_weights(run: Run) -> bool:
    """Whether the backbone's matrices can be in bf16 for this run, with the same results."""
    method = methods.configure_method(run.method)
    fast_bf16 = run.training.precision == "bf16" and run.training.backend == "fast"
    return fast_bf16 and not method.reads_base_weights


def usable_length(run: Run, loaded: LoadedModel, virtual_tokens: int) -> int:
    """Tokens of text in a sequence: the study's max_length, or what the model has room for.

    Raises:
        MethodError: the virtual tokens leave no room.
    """
    limit = loaded.anatomy.max_length
    if limit is None:
        return run.training.max_length
    room = limit - virtual_tokens
    if room < 8:
        raise MethodError(
            f"{virtual_tokens} virtual tokens leave {room} of the model's {limit} positions to "
            f"text.",
            where=f"{run.method.key} on {run.model.key}",
            remedy="Use fewer virtual tokens.",
        )
    return min(run.training.max_length, room)
