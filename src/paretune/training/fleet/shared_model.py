"""Several runs in one model: each with its own tensors, all on the same backbone.

The method's tensors have the runs as their first axis. A member's own tensors are views of its
place there, so its optimiser, its checkpoint and its best weights see what they see alone. When one
leaves or comes, the formation is made anew; those who stay keep what they have.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from paretune.data.batch import stack_passes
from paretune.methods.core.injection import Injection, add_undo_steps
from paretune.methods.core.run_axis import Fleet, PerRunModule
from paretune.models.load import LoadedModel, reset_head
from paretune.models.packing.encoder_decoder import lm_head
from paretune.objectives.encoding import Encoded
from paretune.objectives.losses.chunked_cross_entropy import chunked_cross_entropy
from paretune.study import Run
from paretune.training.forward.activation_cache import enable_activation_cache
from paretune.training.forward.packed import MicroBatch, packed_outputs, tokens_of
from paretune.training.forward.padded import (
    MAX_STACK_PADDING,
    enable_sharing,
    overhead_tokens,
    padded_outputs,
    rows_and_lengths,
)
from paretune.training.forward.seq2seq import packed_states
from paretune.training.prepare import (
    PreparedModel,
    configure_model,
    parse_method,
    pass_tokens,
    usable_length,
)
from paretune.training.run_config import RunConfig


@dataclass
class RunParameters:
    """A run's own tensors: ``method``, (1, ...) each, and its copies of the head's modules.

    Empty until it has been in a formation. ``rate_factors`` are its method's.
    """

    run: Run
    method: dict[str, nn.Parameter] = field(default_factory=dict)
    heads: dict[str, nn.Module] = field(default_factory=dict)
    rate_factors: dict[str, float] = field(default_factory=dict)

    def head(self, names: Sequence[str]) -> dict[str, nn.Parameter]:
        """The head's tensors by their names in the model, in this order."""
        found = {}
        for name in names:
            module, _, own = name.rpartition(".")
            found[name] = self.heads[module].get_parameter(own)
        return found


@dataclass(frozen=True)
class MethodGroup:
    """Members of one method with the same options, next to one another."""

    members: Sequence[RunParameters]
    injection: Injection


class SharedModel:
    """Members on one backbone, in the order of the run axis.

    Args:
        run: any of the runs: what they share is read from it.
        loaded: the model, as it was loaded.
        device: where to compute.

    ``overhead_tokens`` is what each text holds in a pass beside its tokens, in tokens.

    Raises:
        MethodError: the method or its options cannot be used.
    """

    def __init__(self, run: Run, loaded: LoadedModel, device: str) -> None:
        self.loaded, self.device = loaded, device
        configure_model(run, loaded, device)
        self.beside = overhead_tokens(loaded.model)
        self._numbers = sum(p.numel() for p in loaded.model.parameters())
        self.fleet = Fleet()
        self._groups: list[MethodGroup] = []
        self._prepared: PreparedModel | None = None

    @property
    def prepared(self) -> PreparedModel:
        """The model with the members in it."""
        assert self._prepared is not None  # noqa: S101  (formed first)
        return self._prepared

    def form(self, members: Sequence[RunParameters]) -> bool:
        """Put these members in the place of those before; whether they can share batches.

        Those of one method stand next to one another. A new member draws its tensors from its
        seed alone, as it would alone.
        """
        self.dissolve()
        model, head = self.loaded.model, self.loaded.head_parameters
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in head))
        for member in members:
            if not member.heads:
                reset_head(self.loaded, member.run.seed)
                for name in modules:
                    member.heads[name] = copy.deepcopy(model.get_submodule(name))
                    member.heads[name].requires_grad_(True)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        self.fleet = Fleet(runs=len(members))
        whole = Injection({}, self._remove_groups)
        alike = [list(own) for _, own in groupby(members, lambda m: method_key(m.run))]
        first = 0
        for own in alike:
            fleet = self.fleet if len(alike) == 1 else self.fleet.make_subfleet(first, len(own))
            first += len(own)
            injection = self._inject(own, fleet)
            whole.parameters |= injection.parameters
            whole.adapters |= injection.adapters
            whole.supports_packing &= injection.supports_packing
            whole.virtual_tokens = injection.virtual_tokens
            whole.placeholder_id = injection.placeholder_id
        for name in modules:
            plain = model.get_submodule(name)
            add_undo_steps(whole, partial(_replace_module, model, name, plain))
            _replace_module(model, name, PerRunModule([m.heads[name] for m in members], self.fleet))
        heads = members[0].head(head)  # all have the same names and shapes
        run = members[0].run
        self._prepared = PreparedModel(
            self.loaded,
            parse_method(run, self.loaded),
            whole,
            self.fleet,
            heads,
            {**whole.parameters, **heads},
            usable_length(run, self.loaded, whole.virtual_tokens),
            self.loaded.anatomy.pad_id or 0,
        )
        return enable_sharing(self.prepared)

    def _inject(self, members: Sequence[RunParameters], fleet: Fleet) -> Injection:
        """Put the method of these members in, with what they have or draw."""
        model, anatomy = self.loaded.model, self.loaded.anatomy
        method = parse_method(members[0].run, self.loaded)
        seeds = [member.run.seed for member in members]
        injection: Injection = method.inject(model, anatomy, fleet, seeds)
        self._groups.append(MethodGroup(members, injection))
        for name, parameter in injection.parameters.items():
            parameter.requires_grad_(True)
            for r, member in enumerate(members):
                place = parameter.data[r : r + 1]
                if name in member.method:
                    place.copy_(member.method[name].data)
                    member.method[name].data = place
                else:
                    member.method[name] = nn.Parameter(place)
        for member in members:
            member.rate_factors = injection.learning_rate_factors
        return injection

    def _remove_groups(self) -> None:
        while self._groups:
            self._groups.pop().injection.undo()

    def dissolve(self) -> None:
        """Take everybody out: the model is as it was loaded."""
        if self._prepared is not None:
            self._prepared.undo()
            self._prepared = None

    def trained(self, member: RunParameters) -> dict[str, nn.Parameter]:
        """What a member trains, by the names and in the order that it has alone."""
        return {**member.method, **member.head(self.loaded.head_parameters)}

    def keep_trunk(
        self, parts: Sequence[tuple[str, Encoded]], weights_hash: str, precision: str
    ) -> list[str]:
        """Let all go on from kept activations where that is the same (training.trunk)."""
        return enable_activation_cache(self.prepared, parts, weights_hash, precision, self.device)

    def pass_tokens(self, member: RunParameters) -> int:
        """What a pass costs a member alone (:class:`~paretune.training.prepare.PreparedModel`)."""
        own = sum(p.numel() for p in self.trained(member).values())
        everything = self._numbers + sum(p.numel() for p in member.method.values())
        return pass_tokens(own, everything, self.device)

    def sides(self, encoded: Encoded, cut: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """Rows of each pass of a member's examples, and tokens of a row."""
        if self.fleet.packing is None:
            return rows_and_lengths(encoded, cut, self.prepared.injection.virtual_tokens)
        sizes = tokens_of(encoded, self.fleet.packing)
        return [(sum(sizes[i] for i in part), 1) for part in cut]

    def stacks(
        self, sides: Sequence[Sequence[tuple[int, int]]], tokens: int
    ) -> list[dict[int, int]]:
        """Which passes of the members go together (:func:`paretune.data.batch.stack_passes`)."""
        padding = MAX_STACK_PADDING["cpu" if self.device == "cpu" else "cuda"]
        return stack_passes(sides, tokens, padding, self.beside)

    def outputs(self, shares: Sequence[MicroBatch]) -> list[Tensor]:
        """Logits of each member's examples, of which some may have none."""
        model, fleet = self.loaded.model, self.fleet
        if fleet.packing is None:
            return padded_outputs(model, shares, fleet, self.prepared.pad_id, self.device)
        return packed_outputs(model, shares, fleet, self.device)

    def losses(self, shares: Sequence[MicroBatch], plans: Sequence[RunConfig]) -> dict[int, Tensor]:
        """What members with examples in this pass make small, by their place: summed, nats."""
        if shares[0][0].targets is not None:
            smoothing = [p.smoothing(data) for p, (data, _) in zip(plans, shares, strict=True)]
            return self.word_losses(shares, smoothing)
        outputs = self.outputs(shares)
        return {
            r: plans[r].loss_of(outputs[r], data, list(indices))
            for r, (data, indices) in enumerate(shares)
            if indices
        }

    def word_losses(
        self, shares: Sequence[MicroBatch], smoothing: Sequence[float]
    ) -> dict[int, Tensor]:
        """The same of translations, each member with its own label smoothing."""
        words = lm_head(self.loaded.model)
        states = packed_states(self.loaded.model, shares, self.fleet, self.device)
        return {
            r: chunked_cross_entropy(hidden, *words, tokens, smoothing[r])
            for r, (hidden, tokens) in enumerate(states)
            if len(tokens)
        }

    def hand_out(self) -> None:
        """Give every member its part of the gradients, after a backward pass."""
        for group in self._groups:
            for name, parameter in group.injection.parameters.items():
                gradient, parameter.grad = parameter.grad, None
                for r, member in enumerate(group.members):
                    own = None if gradient is None else gradient[r : r + 1]
                    member.method[name].grad = own


def method_key(run: Run) -> str:
    """Name and options of the run's method: what it has in common with its group."""
    return json.dumps([run.method.name, run.method.options], sort_keys=True)


def _replace_module(model: Any, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
