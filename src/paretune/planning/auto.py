"""The runs of ``method: auto``: trials of configurations, until its search has found one.

A trial is a run of stage ``tune`` with the tuning seed, on the first part of train, for one
configuration at one rate; test labels are never seen. Its cell is one of its own
(``auto.1a2b3c``), so that a report of methods leaves it out, and its run names the configuration
alone: searches of one study share it. What follows from the trials is
:mod:`paretune.autopeft.schedule`; here its results are read from records, and its costs predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

from paretune import methods
from paretune.autopeft import finalists, schedule
from paretune.autopeft.finalists import Candidate
from paretune.autopeft.optuna_sampler import SAMPLERS, require_optuna
from paretune.autopeft.review import read_trial
from paretune.autopeft.schedule import Cost, SearchSettings, SearchState, Trial
from paretune.autopeft.space import RATE_FACTORS, Configuration, Space, make_space
from paretune.errors import MethodError
from paretune.methods import ConfiguredMethod, Method, auto
from paretune.methods.core.layer_subset import LayerOptions
from paretune.planning.limit_check import LimitCheck
from paretune.planning.prepare import PreparedCell, PreparedStudy
from paretune.planning.stored_proposals import StoredProposals
from paretune.store.record import Record
from paretune.study import MethodSpec, OuterFold, Run, Stage, digest

PlannedTrial = tuple[str, Run]
"""A run id and its run."""
WARM = 2
"""Configurations that a search takes over from the one of the task before."""


class MakeRun(Protocol):
    """Makes a run of a cell (``_CellPlanner.make_run``)."""

    def __call__(
        self,
        stage: Stage,
        rate: float | None,
        seed: int,
        *,
        outer: OuterFold | None = None,
        method: MethodSpec | None = None,
    ) -> Run:
        """The run."""


@dataclass(frozen=True)
class KnownSearch:
    """What replays of one search compute again and again, kept by the prepared study."""

    runs: dict[Configuration, Run] = field(default_factory=dict)
    run_ids: dict[Configuration, str] = field(default_factory=dict)
    costs: dict[Configuration, Cost | None] = field(default_factory=dict)
    proposals: dict[schedule.History, Sequence[Configuration]] = field(default_factory=dict)


@dataclass(frozen=True)
class AutoSearch:
    """The search of one cell, or of one of its outer folds.

    Attributes:
        make: makes runs of the cell.
        ended: the records that exist, by run id.
        runs: how many trainings the trials of a method that is set by hand are.
        warm: the configurations that it begins with.
    """

    prepared: PreparedStudy
    cell: PreparedCell
    make: MakeRun
    ended: Mapping[str, Record]
    runs: int
    outer: OuterFold | None = None
    warm: tuple[Configuration, ...] = ()

    @cached_property
    def options(self) -> auto.Options:
        """What the study file says of the search."""
        if self.cell.method.learning_rates is not None:
            raise MethodError(
                "a search chooses its own learning rates.",
                where=f"method {self.cell.method.key}",
                remedy="Remove learning_rates.",
            )
        configured = methods.configure_method(self.cell.method)
        assert isinstance(configured.options, auto.Options)  # noqa: S101  (its own options)
        return configured.options

    @cached_property
    def space(self) -> Space:
        """What this model can have of the members that are named.

        Raises:
            MethodError: a member cannot be part of a search, or none of them suits the model.
        """
        members = [_configure_member(name) for name in self.options.members]
        loaded = self.prepared.predictor.open_outline(self._plain_run()).loaded
        suited = [m for m in members if _suits(m, loaded)]
        if not suited:
            raise MethodError(
                f"none of {', '.join(self.options.members)} suits this model.",
                where=f"method {self.cell.method.key} on model {self.cell.model.key}",
            )
        layers, own = len(loaded.anatomy.layers), self.options
        return make_space(suited, layers, groups=own.groups, at_most=own.at_most)

    @cached_property
    def reference(self) -> PlannedTrial | None:
        """The measurement by which costs are predicted, where a limit needs one: that of LoRA.

        What is predicted changes with it, so a search proposes nothing before it has ended.
        """
        if not self.prepared.study.limits.by_axis.keys() & LimitCheck.MEASURED:
            return None
        of_study = self.prepared.study.methods
        lora = next((m for m in of_study if m.name == "lora" and not m.options), None)
        lora = lora or MethodSpec(name="lora", label=f"{auto.NAME}.unit")
        low_to_high = methods.configure_method(lora).learning_rates(
            self.prepared.topologies[self.cell.model.key]
        )
        assert low_to_high is not None  # noqa: S101  (it trains)
        run = self.make("cost", low_to_high[1], self.prepared.study.protocol.seeds[0], method=lora)
        return self.prepared.caches.identify(run), run

    @property
    def waits_for_reference(self) -> bool:
        """Whether the measurement by which costs are predicted has not ended."""
        return self.reference is not None and self.reference[0] not in self.ended

    @cached_property
    def state(self) -> SearchState:
        """Where the search is."""
        if self.options.sampler in SAMPLERS:
            require_optuna()
        return schedule.continue_search(
            self.space, self.cost_of, _Trials(self), self.settings, self._proposals
        )

    @cached_property
    def settings(self) -> SearchSettings:
        """Its budget in trainings, and what it begins with."""
        own = self.options
        sampler: Any = own.sampler
        return SearchSettings(
            budget=own.budget * self.runs,
            sampler=sampler,
            seed=self.prepared.study.protocol.tuning_seed,
            warm=() if own.sampler == "random" else self.warm,
            weights=self._gradient_weights(),
        )

    @cached_property
    def front(self) -> tuple[Candidate, ...]:
        """The front that it found; () before its end, or where every trial was lost."""
        beliefs = self._beliefs
        return () if beliefs is None else finalists.rank_front(self.cost_of, beliefs)

    @cached_property
    def _beliefs(self) -> schedule.Beliefs | None:
        """What it has learned at its end; None before it, or where every trial was lost."""
        if not self.finished:
            return None
        trials = _Trials(self)
        if all(trials[one].lost for one in self.state.proposed):  # or nothing is within the limits
            return None
        return schedule.believe(self.space, self.state.proposed, trials)

    @property
    def finished(self) -> bool:
        """Whether its budget is spent and all results are there."""
        return not self.waits_for_reference and self.state.finished

    def plan_trials(self) -> list[PlannedTrial]:
        """The trials so far, ended or not, with their identities; first what costs need."""
        first = [] if self.reference is None else [self.reference]
        if self.waits_for_reference:
            return first
        trials = [(self.identify(one), self.make_trial(one)) for one in self.state.proposed]
        return [*first, *trials]

    def choose(self) -> tuple[MethodSpec, float] | None:
        """The method that the search found, and its rate; None before its end."""
        if self._beliefs is None:
            return None
        pick: Any = self.options.pick
        ranked = finalists.rank_finalists(self.cost_of, self._beliefs, pick)
        if len(ranked) < self.options.finalist:
            return None
        one = ranked[self.options.finalist - 1].configuration
        values = {**self.cell.method.options_of_runs, "methods": self.space.to_members(one)}
        spec = MethodSpec.model_validate(
            {"name": self.cell.method.name, "label": self.cell.method.key, **values}
        )
        return spec, self._rate(one)

    def make_trial(self, one: Configuration) -> Run:
        """The run of a configuration."""
        if one not in self._known.runs:
            spec, seed = self._to_spec(one), self.prepared.study.protocol.tuning_seed
            self._known.runs[one] = self.make(
                "tune", self._rate(one), seed, outer=self.outer, method=spec
            )
        return self._known.runs[one]

    def identify(self, one: Configuration) -> str:
        """The run id of a configuration."""
        if one not in self._known.run_ids:
            self._known.run_ids[one] = self.prepared.caches.identify(self.make_trial(one))
        return self._known.run_ids[one]

    def cost_of(self, one: Configuration) -> Cost | None:
        """What a trial costs; None where the model cannot have it."""
        if one not in self._known.costs:
            self._known.costs[one] = self._predict_cost(one)
        return self._known.costs[one]

    def _predict_cost(self, one: Configuration) -> Cost | None:
        run = self.make_trial(one)
        try:
            work = self.prepared.predictor.predict_work(run)
        except MethodError:
            return None
        if self._limit_check.exceeds(run):
            return None
        unit = self.prepared.predictor.predict_work(self._plain_run())
        price = {
            "parameters": float(self.prepared.predictor.count_trained(run)),
            "memory": float(work.held_bytes + work.saved_bytes),
            "time": work.operations,
        }[self.options.by]
        return Cost(price, work.operations / unit.operations)

    @cached_property
    def _limit_check(self) -> LimitCheck:
        measured = None if self.reference is None else self.ended[self.reference[0]]
        return LimitCheck(self.prepared.predictor, self.prepared.study.limits, measured)

    @cached_property
    def _proposals(self) -> schedule.Proposals:
        """The batches of this search, in the store where there is one."""
        return StoredProposals(
            self.prepared.store, digest([self._digest, asdict(self.space)]), self._known.proposals
        )

    @cached_property
    def _known(self) -> KnownSearch:
        """What earlier replays of this search have computed."""
        known: KnownSearch = self.prepared.searches.setdefault(self._digest, KnownSearch())
        return known

    @cached_property
    def _digest(self) -> str:
        """Of all that a proposal follows from beside the trials."""
        plain = self.prepared.caches.identify(self._plain_run())  # of its data, model and settings
        others = ("pick", "finalist", "budget")
        options = {k: v for k, v in self.cell.method.options_of_runs.items() if k not in others}
        limits = self.prepared.study.limits.model_dump(exclude_none=True)
        return digest([plain, options, limits])

    def _to_spec(self, one: Configuration) -> MethodSpec:
        members = self.space.to_members(one)
        label = f"{self.cell.method.name}.{digest(members)[:6]}"
        values = {"name": self.cell.method.name, "label": label, "methods": members}
        return MethodSpec.model_validate(values)

    def _rate(self, one: Configuration) -> float:
        configured = methods.configure_method(self._to_spec(one))
        rates = configured.learning_rates(self.prepared.topologies[self.cell.model.key])
        assert rates is not None  # noqa: S101  (a combination trains something)
        return float(f"{rates[1] * RATE_FACTORS[one.rate]:.3g}")

    def _plain_run(self) -> Run:
        """LoRA in all layers: the unit of the budget."""
        lora = MethodSpec(name="lora")
        return self.make(
            "tune", 1e-3, self.prepared.study.protocol.tuning_seed, outer=self.outer, method=lora
        )

    def _gradient_weights(self) -> tuple[float, ...]:
        """Of each group of layers, its share of the gradients of the first steps of trials.

        Of the trials in all layers, as far as they have ended: they end before a neighbour of any
        configuration is drawn.
        """
        sums = [0.0] * self.space.groups
        for one in self.space.everywhere():
            record = self.ended.get(self.identify(one))
            by_layer: Any = record.measured.get("layer_gradients") if record is not None else None
            if not by_layer:
                continue
            total = sum(by_layer) or 1.0
            for n, layers in enumerate(self.space.boundaries):
                sums[n] += sum(by_layer[layer] for layer in layers) / total
        # Half of the weight is spread evenly: a gradient at the start does not say everything.
        whole = sum(sums)
        even = 1 / len(sums)
        return tuple(0.5 * even + 0.5 * (s / whole if whole else even) for s in sums)


class _Trials(Mapping[Configuration, Trial]):
    """Results of a search by configuration, read from records when they are asked for."""

    def __init__(self, search: AutoSearch) -> None:
        self._search = search

    def __getitem__(self, one: Configuration) -> Trial:
        return read_trial(self._search.ended[self._search.identify(one)])

    def __contains__(self, one: object) -> bool:
        search = self._search
        return isinstance(one, Configuration) and search.identify(one) in search.ended

    def __iter__(self) -> Iterator[Configuration]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _configure_member(name: str) -> ConfiguredMethod:
    """A member in its default size.

    Raises:
        MethodError: it cannot be a part of a search, and why.
    """
    member = methods.get(name)
    where, remedy = f"method {auto.NAME}", "Remove it from members."
    if not isinstance(member, Method):
        raise MethodError(f"{name} trains no model.", where=where, remedy=remedy)
    reason = member.not_in_stack or member.first_in_stack
    if reason or not issubclass(member.options, LayerOptions):
        why = reason or "it does not stand in layers that one could choose"
        raise MethodError(f"{name}: {why}.", where=where, remedy=remedy)
    return methods.configure_method(MethodSpec(name=name))


def _suits(member: ConfiguredMethod, loaded: Any) -> bool:
    """Whether it finds something in the model to train: a model without biases has no BitFit."""
    try:
        return member.count_parameters(loaded.model, loaded.anatomy) > 0
    except MethodError:
        return False


def find_warm_start(before: Sequence[AutoSearch]) -> tuple[Configuration, ...] | None:
    """The best configurations of the searches of earlier tasks; None while one of them goes on.

    Of the last task ``WARM``, of each other one.
    """
    if not all(search.finished for search in before):
        return None
    warm: dict[Configuration, None] = {}
    for age, search in enumerate(reversed(before)):
        ranked = sorted(search.front, key=lambda one: -one.score)
        warm |= dict.fromkeys(one.configuration for one in ranked[: 1 if age else WARM])
    return tuple(warm)
