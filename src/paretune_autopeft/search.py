"""The runs of ``method: auto``: trials of configurations, until its search has found one.

A trial is a run of stage ``tune`` with the tuning seed, on the first part of train, for one
configuration at one rate; test labels are never seen. Its cell is one of its own
(``auto.1a2b3c``), so that a report of methods leaves it out, and its run names the configuration
alone: searches of one study share it. :mod:`paretune_autopeft.schedule` chooses the trials; here
its results are read from records, and its costs predicted.

A search is replayed from its results whenever it goes on. Its arithmetic may round otherwise on
another processor or with other libraries, and propose other configurations there: trials that have
ended would no longer be its own. It would also be repeated by each command, and a proposal of
Optuna's Gaussian process takes seconds. So each batch is a setting of the store, by the digest of
everything that it depends on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from paretune import methods
from paretune.data.split import labelled_rows
from paretune.errors import MethodError, StudyError, spell_option
from paretune.methods import Method
from paretune.methods.core.options import LayerOptions
from paretune.planning.expand import count_folds
from paretune.planning.prepare import PlannedRun, PreparedCell, PreparedStudy
from paretune.store import Record, Store
from paretune.study import MethodSpec, OuterFold, Run, digest
from paretune.study.protocol import NUM_FOLDS
from paretune.study.run import is_trial
from paretune_autopeft import NAME
from paretune_autopeft.limit_check import MEASURED_LIMITS, LimitCheck
from paretune_autopeft.method import AutoOptions
from paretune_autopeft.optuna_sampler import SAMPLERS, require_optuna
from paretune_autopeft.review import read_trial
from paretune_autopeft.schedule import (
    Batch,
    Beliefs,
    Cost,
    History,
    RatedConfiguration,
    Schedule,
    SearchState,
    TrialScore,
    believe,
)
from paretune_autopeft.space import Configuration, Space, make_space
from paretune_autopeft.surrogate import expected_optimism
from paretune_autopeft.trials import RATE_FACTORS

PROPOSALS_PREFIX = "proposals/"
"""A setting of the store for each batch that a search has proposed."""
WARM = 2
"""Configurations that a search takes over from the one of the task before."""
SEED_DEVIATION = 0.02
"""Deviation between seeds of a score between 0 and 1, where no runs tell it."""
TELLS_APART = 0.03
"""A selection part on which equal configurations differ by more than this tells few apart."""


@dataclass(frozen=True)
class SearchMemory:
    """Values that replays of one search would compute again; the prepared study holds them."""

    trials: dict[Configuration, PlannedRun] = field(default_factory=dict)
    costs: dict[Configuration, Cost | None] = field(default_factory=dict)
    batches: dict[History, Batch] = field(default_factory=dict)


@dataclass(frozen=True)
class AutoSearch:
    """The search of one cell, or of one of its outer folds.

    Attributes:
        ended: the records that exist, by run id.
        trainings: how many the trials of a method that is set by hand are.
        warm: the configurations that it begins with.
    """

    prepared: PreparedStudy
    cell: PreparedCell
    ended: Mapping[str, Record]
    trainings: int
    outer: OuterFold | None = None
    warm: tuple[Configuration, ...] = ()

    @cached_property
    def options(self) -> AutoOptions:
        """The options of the search in the study file."""
        options = methods.configure_method(self.cell.method).options
        assert isinstance(options, AutoOptions)  # noqa: S101  (of this method)
        return options

    @cached_property
    def space(self) -> Space:
        """The configurations of the named members that this model can have.

        Raises:
            MethodError: a member cannot be part of a search, or none of them suits the model.
        """
        options, suited = self.options, []
        loaded, _ = self.prepared.predictor.open_outline(self._unit)
        for name in options.members:
            member = methods.get(name)
            if not isinstance(member, Method):
                why = " trains no model."
            elif reason := member.not_in_stack or member.first_in_stack:
                why = f": {reason}."
            elif not issubclass(member.options, LayerOptions):
                why = ": it does not stand in layers that one could choose."
            else:
                configured = methods.configure_method(MethodSpec(name=name))
                # A model without biases has no BitFit.
                with suppress(MethodError):
                    if configured.count_parameters(loaded.model, loaded.anatomy) > 0:
                        suited.append(configured)
                continue
            raise MethodError(
                f"{name}{why}", where=f"method {NAME}", remedy="Remove it from members."
            )
        if not suited:
            raise MethodError(
                f"none of {', '.join(options.members)} suits this model.",
                where=f"method {self.cell.method.key} on model {self.cell.model.key}",
            )
        layers = len(loaded.anatomy.layers)
        return make_space(suited, layers, groups=options.groups, at_most=options.at_most)

    @cached_property
    def reference(self) -> PlannedRun | None:
        """The measurement by which costs are predicted, where a limit needs one: that of LoRA.

        Predictions change with it, so a search proposes nothing before it has ended.
        """
        study = self.prepared.study
        if not study.limits.by_axis.keys() & MEASURED_LIMITS:
            return None
        lora = next((m for m in study.methods if m.name == "lora" and not m.options), None)
        lora = lora or MethodSpec(name="lora", label=f"{NAME}.unit")
        rate, seed = self._middle_rate(lora), study.protocol.seeds[0]
        return self.prepared.plan_run(self.cell, "cost", rate, seed, method=lora)

    @property
    def waits_for_reference(self) -> bool:
        """Whether the measurement by which costs are predicted has not ended."""
        return self.reference is not None and self.reference.run_id not in self.ended

    @cached_property
    def state(self) -> SearchState:
        """Where the search is."""
        sampler: Any = self.options.sampler
        if sampler in SAMPLERS:
            require_optuna()
        schedule = Schedule(
            self.space,
            self.cost_of,
            budget=self.options.budget * self.trainings,
            sampler=sampler,
            seed=self.prepared.study.protocol.tuning_seed,
            warm=() if sampler == "random" else self.warm,
            weights=self._weigh_groups(),
        )

        def read_result(point: Configuration) -> TrialScore | None:
            record, cost = self.ended.get(self._trial_of(point).run_id), self.cost_of(point)
            return None if record is None or cost is None else read_trial(record, cost.price)

        search = digest([self._digest, asdict(self.space)])
        batches = self._memory.batches
        recall = partial(recall_batch, self.prepared.store, search, batches)
        return schedule.replay(read_result, recall)

    @property
    def finished(self) -> bool:
        """Whether its budget is spent and all results are there."""
        return not self.waits_for_reference and self.state.finished

    @cached_property
    def front(self) -> tuple[RatedConfiguration, ...]:
        """The front that it found; () before its end, or where every trial was lost."""
        return () if self._beliefs is None else self._beliefs.rank_front()

    def plan_trials(self) -> list[PlannedRun]:
        """The trials so far, ended or not; first what costs need."""
        first = [] if self.reference is None else [self.reference]
        if self.waits_for_reference:
            return first
        return [*first, *(self._trial_of(point) for point in self.state.proposed)]

    def choose(self) -> tuple[MethodSpec, float] | None:
        """The method that the search found, and its rate; None before its end."""
        if self._beliefs is None:
            return None
        pick: Any = self.options.pick
        ranked = self._beliefs.rank_finalists(pick)
        if len(ranked) < self.options.finalist:
            return None
        point = ranked[self.options.finalist - 1].configuration
        method, members = self.cell.method, self.space.to_members(point)
        values = {**method.options_of_runs, "methods": members}
        spec = MethodSpec.model_validate({"name": method.name, "label": method.key, **values})
        return spec, self._rate_of(point)

    def cost_of(self, point: Configuration) -> Cost | None:
        """The cost of a trial; None where the model cannot have it, or it exceeds a limit."""
        costs, predictor = self._memory.costs, self.prepared.predictor
        if point not in costs:
            run, costs[point] = self._trial_of(point).run, None
            with suppress(MethodError):
                work = predictor.predict_work(run)
                if not self._limit_check.exceeds(run):
                    price = {
                        "parameters": float(predictor.count_trained(run)),
                        "memory": float(work.held_bytes + work.saved_bytes),
                        "time": work.operations,
                    }[self.options.by]
                    unit = predictor.predict_work(self._unit)
                    costs[point] = Cost(price, work.operations / unit.operations)
        return costs[point]

    @cached_property
    def _limit_check(self) -> LimitCheck:
        measured = None if self.reference is None else self.ended[self.reference.run_id]
        return LimitCheck(self.prepared.predictor, self.prepared.study.limits, measured)

    @cached_property
    def _beliefs(self) -> Beliefs | None:
        """Its estimates at its end; None before it, or where every trial was lost."""
        if not self.finished:
            return None
        tried, trials = self.state.proposed, self.state.trials
        if all(trial.lost for trial in trials):  # or nothing is within the limits
            return None
        return believe(self.space, tried, trials)

    def _trial_of(self, point: Configuration) -> PlannedRun:
        """The run of a configuration; searches of one study and model share it."""
        trials = self._memory.trials
        if point not in trials:
            seed, rate = self.prepared.study.protocol.tuning_seed, self._rate_of(point)
            options: Any = {"outer": self.outer, "method": self._to_spec(point)}
            trials[point] = self.prepared.plan_run(self.cell, "tune", rate, seed, **options)
        return replace(trials[point], proposed_by=self.cell.key[1:])

    @cached_property
    def _memory(self) -> SearchMemory:
        memory: SearchMemory = self.prepared.memory.setdefault(self._digest, SearchMemory())
        return memory

    @cached_property
    def _digest(self) -> str:
        """The digest of everything that a proposal depends on beside the trials."""
        unit = self.prepared.caches.identify(self._unit)  # of its data, model and settings
        later = ("pick", "finalist", "budget")
        options = {k: v for k, v in self.cell.method.options_of_runs.items() if k not in later}
        limits = self.prepared.study.limits.model_dump(exclude_none=True)
        return digest([unit, options, limits])

    @cached_property
    def _unit(self) -> Run:
        """A trial of LoRA in all layers: the unit of the budget."""
        seed = self.prepared.study.protocol.tuning_seed
        options: Any = {"outer": self.outer, "method": MethodSpec(name="lora")}
        return self.prepared.make_run(self.cell, "tune", 1e-3, seed, **options)

    def _to_spec(self, point: Configuration) -> MethodSpec:
        members, name = self.space.to_members(point), self.cell.method.name
        values = {"name": name, "label": f"{name}.{digest(members)[:6]}", "methods": members}
        return MethodSpec.model_validate(values)

    def _rate_of(self, point: Configuration) -> float:
        factor = RATE_FACTORS[point.rate]
        return float(f"{self._middle_rate(self._to_spec(point)) * factor:.3g}")

    def _middle_rate(self, spec: MethodSpec) -> float:
        topology = self.prepared.topologies[self.cell.model.key]
        rates = methods.configure_method(spec).learning_rates(topology)
        assert rates is not None  # noqa: S101  (it trains something)
        return rates[1]

    def _weigh_groups(self) -> tuple[float, ...]:
        """The share of each group of layers in the gradients of the first steps of trials.

        Trials in all layers count, as far as they have ended: they end before a neighbour of any
        configuration is drawn.
        """
        sums = [0.0] * self.space.groups
        for point in self.space.everywhere():
            record = self.ended.get(self._trial_of(point).run_id)
            measured: Any = {} if record is None else record.measured
            by_layer = measured.get("layer_gradients")
            if not by_layer:
                continue
            total = sum(by_layer) or 1.0
            for n, layers in enumerate(self.space.boundaries):
                sums[n] += sum(by_layer[layer] for layer in layers) / total
        # Half of the weight is spread evenly: a gradient at the start does not say everything.
        whole = sum(sums)
        even = 1 / len(sums)
        return tuple(0.5 * even + 0.5 * (s / whole if whole else even) for s in sums)


def recall_batch(
    store: Store | None,
    search: str,
    batches: dict[History, Batch],
    history: History,
    propose: Callable[[], Batch],
) -> Batch:
    """The batch that followed a history, from this process or the store; else a new one, kept.

    Args:
        store: holds batches beyond this process; None: nothing does.
        search: digest of everything that its proposals depend on beside its trials.
        batches: batches of this process.
    """
    if history not in batches:
        # Scores are in the records to the bit; their variances are computed, and may round.
        tried = zip(*history, strict=True)
        trials = [[asdict(point), trial.score, trial.lost] for point, trial in tried]
        name = f"{PROPOSALS_PREFIX}{digest([search, trials])}"
        text = None if store is None else store.get_setting(name)
        if text is None:
            text = json.dumps([asdict(point) for point in propose()])
            if store is not None and store.is_writable:
                text = store.set_default_setting(name, text)
        batches[history] = tuple(
            Configuration(tuple(map(tuple, values["groups"])), values["rate"])
            for values in json.loads(text)
        )
    return batches[history]


def plan_searches(
    prepared: PreparedStudy, cells: Sequence[PreparedCell], ended: Mapping[str, Record]
) -> Iterable[list[PlannedRun]]:
    """Plan for each cell the trials of its search, and the final runs of the method it has found.

    A search begins when those of earlier tasks, of its model and method, have ended. In
    cross-validation each outer fold has its own, and begins anew, since its rows may have been in
    the other task's trials.

    Raises:
        MethodError: a member cannot be part of a search, or none of them suits the model.
        StudyError: a share of a study would have to measure costs.
    """
    protocol, shard = prepared.study.protocol, prepared.shard
    searches: dict[tuple[str, ...], list[AutoSearch]] = {}
    for cell in cells:
        before = searches.setdefault(cell.key[1:], [])
        trials: list[PlannedRun] = []
        finals: list[PlannedRun] = []
        warm = find_warm_start(before)
        places = [] if warm is None else prepared.designs[cell.task.key].place_seeds(protocol.seeds)
        for outer, seeds in places:
            rows = len(prepared.datasets[cell.task.key].train)
            folds = count_folds(prepared.study, rows) if outer is None else 1
            search = AutoSearch(prepared, cell, ended, protocol.trials * folds, outer, warm or ())
            if shard is not None and search.waits_for_reference:
                raise StudyError(
                    "begins with a measured cost under these limits, and a share of a study has "
                    "none.",
                    where=f"method {cell.method.key}",
                    remedy=f"Run the study whole: leave out {spell_option('shard')}.",
                )
            if outer is None:
                before.append(search)
            trials += search.plan_trials()
            if (choice := search.choose()) is not None:
                spec, rate = choice
                make = partial(prepared.plan_run, cell, outer=outer, method=spec)
                finals += [make("final", rate, seed) for seed in seeds]
                if outer is None or outer.position == 0:  # one cost for all folds
                    finals.append(
                        prepared.plan_run(cell, "cost", rate, protocol.seeds[0], method=spec)
                    )
        yield [*trials, *finals]


def find_warm_start(before: Sequence[AutoSearch]) -> tuple[Configuration, ...] | None:
    """The best configurations of the searches of earlier tasks; None while one of them goes on.

    The last task gives ``WARM`` of them, each other task gives one.
    """
    if not all(search.finished for search in before):
        return None
    warm: dict[Configuration, None] = {}
    for age, search in enumerate(reversed(before)):
        ranked = sorted(search.front, key=lambda candidate: -candidate.score)
        warm |= dict.fromkeys(best.configuration for best in ranked[: 1 if age else WARM])
    return tuple(warm)


def describe_searches(prepared: PreparedStudy, runs: Sequence[Run]) -> Iterator[str]:
    """Say for each task with searches how well its selection part tells trials apart.

    The optimism is that of equal configurations of which 80 % of the answers are right. Before
    there are results, their number is unknown: it is at least the number of the budget's trainings.

    Args:
        runs: the planned runs.
    """
    study = prepared.study
    searched = [m for m in study.all_methods if m.name == NAME]
    budget = max(float(m.options.get("budget", AutoOptions().budget)) for m in searched)
    for task in study.tasks:
        trials = [run for run in runs if is_trial(run) and run.task.key == task.key]
        planned = len({(run.method.key, run.learning_rate) for run in trials})
        dataset = prepared.datasets[task.key]
        rows = len(dataset.train)
        crossed = next((run.outer for run in trials if run.outer is not None), None)
        if crossed is not None:
            rows = len(labelled_rows(dataset)) * (crossed.folds - 1) // crossed.folds
        rows = max(1, rows // NUM_FOLDS)
        count = max(planned, round(budget * study.protocol.trials))
        variance = 0.8 * 0.2 / rows + SEED_DEVIATION**2
        optimism = expected_optimism(count, variance)
        few = optimism > TELLS_APART
        yield (
            f"{task.key}: a score of a trial has a standard error of {100 * variance**0.5:.1f} "
            f"points ({rows} selection rows). Of {count} equal combinations the best would seem "
            f"{100 * optimism:.1f} points too good"
            f"{'; a search can hardly tell combinations apart here' if few else ''}. What it "
            "finds is judged by fresh seeds on the test."
        )
        if not trials and task == study.tasks[0] and study.limits.by_axis:
            yield "Trials follow when LoRA has been measured, by which the limits are checked."
