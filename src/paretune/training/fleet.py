"""Several runs on one backbone: which may train together, and their parameters.

The parameters of a run alone are the model's own: any method on any model. With several runs, each
parameter of a method has the runs as its first axis, and those of one run are views of it: its
optimizer, checkpoint and best weights are as alone. When a run leaves or comes, the methods are
injected anew; runs that stay keep their values.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from torch import nn

from paretune import methods
from paretune.data.batch import pass_overhead_tokens
from paretune.methods.core.injection import Injection
from paretune.methods.core.run_axis import Fleet, PerRunModule
from paretune.models.load import LoadedModel, reset_head
from paretune.models.quantised import count_parameters
from paretune.objectives import Objective
from paretune.objectives.encoding import Encoded
from paretune.objectives.objective import Collector
from paretune.study import MethodSpec, Run
from paretune.training.evaluation.predict import evaluate
from paretune.training.forward.passes import Compute, Forward
from paretune.training.forward.select import make_forward, make_shared_forward
from paretune.training.prepare import (
    PreparedModel,
    configure_model,
    parse_method,
    prepare,
    usable_length,
)


def fleet_key(run: Run) -> str:
    """Runs with the same key may train together: all but learning rate, seed, folds, stage, and
    what is measured after training.

    Methods that mix have the same key.
    """
    configured = methods.configure(run.method)
    mixes = isinstance(configured, methods.ConfiguredMethod) and configured.mixes
    method = MethodSpec(name="any") if mixes else run.method
    free = {
        "learning_rate": None,
        "seed": 0,
        "fold": 0,
        "outer": None,
        "stage": "final",
        "forgetting": None,
    }
    return run.model_copy(update={**free, "method": method}).model_dump_json()


def can_join_fleet(run: Run) -> bool:
    """Whether the run may share a backbone, by its description; the model may still refuse."""
    plain = run.training.backend == "plain"
    if run.stage == "cost" or plain or run.learning_rate is None:
        return False
    method = methods.configure(run.method)
    return isinstance(method, methods.ConfiguredMethod) and not method.trains_alone


@dataclass(eq=False)
class RunParameters:
    """The trained parameters of one run; empty until it is placed in a model.

    Attributes:
        method: the method's parameters by name, (1, ...) each.
        heads: with several runs, its copies of the head's modules.
        trained: all of them by their names in the model, the method's first.
        learning_rate_factors: by name, where a parameter's learning rate differs.
    """

    run: Run
    method: dict[str, nn.Parameter] = field(default_factory=dict)
    heads: dict[str, nn.Module] = field(default_factory=dict)
    trained: dict[str, nn.Parameter] = field(default_factory=dict)
    learning_rate_factors: dict[str, float] = field(default_factory=dict)


class SharedModel:
    """A backbone with the methods of one or several runs, in the order of the run axis.

    Args:
        alone: one run, whose parameters are the model's own.

    Raises:
        MethodError: the method or its options cannot be used.
    """

    def __init__(
        self,
        run: Run,
        loaded: LoadedModel,
        device: str,
        objective: Objective,
        *,
        alone: bool = False,
    ) -> None:
        self.loaded, self.alone, self.compute = loaded, alone, Compute.of(run, device)
        self.objective = objective
        if not alone:
            configure_model(run, loaded, device)
        self._total_parameters = count_parameters(loaded.model)
        self._runs: Sequence[RunParameters] = ()
        # Neighbouring runs of one method with the same options, and its injection for them.
        self._groups: list[tuple[Sequence[RunParameters], Injection]] = []
        self._outputs: dict[tuple[RunParameters, str], Any] = {}
        self._prepared: PreparedModel | None = None
        self._forward: Forward | None = None

    @property
    def prepared(self) -> PreparedModel:
        """The model with the runs in it."""
        assert self._prepared is not None  # noqa: S101  (placed first)
        return self._prepared

    @property
    def forward(self) -> Forward:
        """The forward path of these runs."""
        assert self._forward is not None  # noqa: S101  (placed first)
        return self._forward

    def place(self, runs: Sequence[RunParameters]) -> bool:
        """Replace the runs in the model by these; whether they can share batches.

        Runs of one method are neighbours. A new run draws its parameters from its seed, as alone.
        """
        self.remove_all()
        self._runs = runs
        if self.alone:
            (run,) = runs
            self._prepared = prepare(run.run, self.loaded, self.compute.device)
            run.method = self._prepared.injection.parameters
            run.trained = self._prepared.trained
            run.learning_rate_factors = self._prepared.injection.learning_rate_factors
            backend = run.run.training.backend
            self._forward = make_forward(self._prepared, self.compute, backend)
        else:
            self._place_together(runs)
            self._forward = make_shared_forward(self.prepared, self.compute)
        return self._forward is not None

    def place_alone(self, run: RunParameters) -> PreparedModel:
        """The model with this run and no other in it."""
        if not self.alone:
            self.place([run])
        return self.prepared

    def remove_all(self) -> None:
        """Take all runs out: the backbone is as it was loaded, in evaluation mode."""
        if self._prepared is not None:
            self._prepared.undo()
            self._prepared = None
            self.loaded.model.eval()

    def pass_overhead_tokens(self, run: RunParameters) -> int:
        """Fixed cost of a forward pass to a run alone, in tokens."""
        trained = sum(p.numel() for p in run.trained.values())
        everything = self._total_parameters + sum(p.numel() for p in run.method.values())
        return pass_overhead_tokens(trained, everything, self.compute.device)

    def evaluate(
        self,
        data: Mapping[RunParameters, Encoded],
        collector: Callable[[Encoded], Collector] | None = None,
    ) -> dict[RunParameters, Any]:
        """Outputs of some runs (:func:`paretune.training.evaluation.predict.evaluate`).

        Args:
            collector: of the outputs; the objective's own by default.
        """
        examples = [data.get(run) for run in self._runs]
        outputs = evaluate(self.forward, examples, collector or self.objective.collector)
        return {run: output for run, output in zip(self._runs, outputs, strict=True) if run in data}

    def add_reference(self, parts: Sequence[Encoded]) -> list[Encoded]:
        """The parts with what rewards are counted from; the model is without its runs meanwhile."""
        runs, beta = self._runs, self._runs[0].run.training.preference_beta
        self.remove_all()
        base = RunParameters(runs[0].run.model_copy(update={"method": MethodSpec(name="untuned")}))
        model = SharedModel(base.run, self.loaded, self.compute.device, self.objective, alone=True)
        model.place([base])

        def score(data: Encoded) -> Encoded:
            rows = model.evaluate({base: data})[base].tolist()
            divisors = [[1 / beta] * len(row) for row in rows]
            mismatched = data.mismatched and score(data.mismatched)
            return replace(data, reference=rows, divisors=divisors, mismatched=mismatched)

        scored = [*map(score, parts)]
        model.remove_all()
        self.place(runs)
        return scored

    def precompute(self, encoded: Mapping[RunParameters, Mapping[str, Encoded]], part: str) -> None:
        """Evaluate a part of several runs in the same passes, before their evaluators need it.

        ``encoded``: all parts of each run, by name.
        """
        data = {run: parts[part] for run, parts in encoded.items() if part in parts}
        if data and not self.alone:
            for run, outputs in self.evaluate(data).items():
                self._outputs[run, part] = outputs

    def outputs(self, run: RunParameters, part: str, data: Encoded) -> Any:
        """Outputs of a run for a part of its data."""
        if (run, part) in self._outputs:
            return self._outputs.pop((run, part))
        return self.evaluate({run: data})[run]

    def distribute_gradients(self) -> None:
        """Give every run its slice of the gradients, after the backward passes."""
        for runs, injection in self._groups:
            for name, parameter in injection.parameters.items():
                gradient, parameter.grad = parameter.grad, None
                for r, run in enumerate(runs):
                    of_run = None if gradient is None else gradient[r : r + 1]
                    run.method[name].grad = of_run

    def _place_together(self, runs: Sequence[RunParameters]) -> None:
        model, head = self.loaded.model, self.loaded.head_parameters
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in head))
        for run in runs:
            if not run.heads:
                reset_head(self.loaded, run.run.seed)
                for name in modules:
                    run.heads[name] = copy.deepcopy(model.get_submodule(name))
                    run.heads[name].requires_grad_(True)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        fleet = Fleet(runs=len(runs))
        whole = self._inject(runs, fleet)
        for name in modules:
            heads_of_runs = PerRunModule([run.heads[name] for run in runs], fleet)
            whole.changes.replace_module(model, name, heads_of_runs)
        for run in runs:
            run.trained = dict(run.method)
            for name in head:
                module, _, parameter = name.rpartition(".")
                run.trained[name] = run.heads[module].get_parameter(parameter)
        # The heads of all runs have the same names and shapes.
        heads = {name: runs[0].trained[name] for name in head}
        first = runs[0].run
        self._prepared = PreparedModel(
            self.loaded,
            parse_method(first, self.loaded),
            whole,
            fleet,
            {**whole.parameters, **heads},
            usable_length(first, self.loaded, whole.positions_before_text),
        )

    def _inject(self, runs: Sequence[RunParameters], fleet: Fleet) -> Injection:
        """Inject the methods of all runs, with the parameters that they have or draw.

        Returns one injection for all of them.
        """
        model, anatomy = self.loaded.model, self.loaded.anatomy
        whole, first = Injection({}), 0
        whole.changes.callback(self._groups.clear)
        alike = [list(group) for _, group in groupby(runs, lambda run: method_key(run.run))]
        for group in alike:
            part = fleet if len(alike) == 1 else fleet.make_subfleet(first, len(group))
            first += len(group)
            method = parse_method(group[0].run, self.loaded)
            seeds = [run.run.seed for run in group]
            injection: Injection = method.inject(model, anatomy, part, seeds)
            self._groups.append((group, injection))
            for name, parameter in injection.parameters.items():
                parameter.requires_grad_(True)
                for r, run in enumerate(group):
                    place = parameter.data[r : r + 1]
                    if name in run.method:
                        place.copy_(run.method[name].data)
                        run.method[name].data = place
                    else:
                        run.method[name] = nn.Parameter(place)
            for run in group:
                run.learning_rate_factors = injection.learning_rate_factors
            whole.absorb(injection)
        return whole


def method_key(run: Run) -> str:
    """Name and options of the run's method, equal for runs that share an injection."""
    return json.dumps([run.method.name, run.method.options], sort_keys=True)
