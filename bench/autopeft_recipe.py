"""AutoPEFT's own recipe as an arm beside the searches of ``bench/search.py``, on the same engine.

Zhou et al. 2023 (arXiv:2301.12132), as its published settings have it: one size each for serial
adapters, parallel adapters and prefixes (the width over 1, 2, 4 ... 512, or none), one bit for each
layer, one learning rate. Half of the trainings are random; the others come in batches of four from
:mod:`saas`, each found by local search from ten neighbours of the front. What enters the final
stage is of the front by raw scores. Trials are those of any search: the tuning seed, the first
selection part, the study's own schedule.

What differs: the study's batches, epochs and model in place of its own; costs are known and not
modelled; the reference point is the worst trial. The rate is that of serial
adapters: a stack lets each other method learn at the same multiple of its own middle rate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from autopeft_space import MEMBERS, SERIAL, OwnSpace, Setting
from saas import SAMPLES, WARMUP, Array, NoisyImprovement, fit_saas, transform_to_normal

from paretune import methods
from paretune.autopeft.finalists import Pick, pick_candidate
from paretune.autopeft.review import read_trial
from paretune.autopeft.schedule import Trial
from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.progress.observer import LineObserver
from paretune.planning import preflight
from paretune.planning.expand import PlannedRun
from paretune.planning.predicted_cost import CostPredictor
from paretune.planning.prepare import PreparedStudy, prepare_study
from paretune.store import RunStatus, Store
from paretune.store.record import Record
from paretune.study import (
    MethodSpec,
    ModelSpec,
    Run,
    Stage,
    Study,
    TaskSpec,
    derive_seed,
    digest,
)
from paretune.verbs.executors import ExecutorChoice
from paretune.verbs.workers import Workers

TRAININGS, BATCH, RATE = 200, 4, 1e-4
EVALUATIONS, RESTARTS = 2000, 10
"""Of the local search for each proposal."""


def make_study(study: Study, trainings: int = TRAININGS, rate: float = RATE) -> Study:
    """The study of the arm alone, with three finalists as each search has."""
    label = "autopeft" if rate == RATE else f"autopeft-{rate:g}"
    spec = MethodSpec.model_validate(
        {"name": "auto", "label": label, "members": MEMBERS, "groups": 1, "at_most": 3}
        | {"budget": float(trainings), "finalists": 3, "controls": False}
    )
    if study.protocol.outer != "split":
        raise SystemExit(f"{study.study}: the recipe is of a published split (protocol.outer).")
    return study.model_copy(update={"study": f"{study.study}-{label}", "methods": (spec,)})


@dataclass(frozen=True)
class Recipe:
    """The runs of the arm, as an executor asks for them.

    Attributes:
        load_statuses: of the runs that the store has.
        samples: of the sampler, and how many before them; fewer in tests.
    """

    trainings: int
    rate: float
    load_statuses: Callable[[], Sequence[RunStatus]]
    samples: tuple[int, int] = (SAMPLES, WARMUP)

    def __call__(self, prepared: PreparedStudy, records: Sequence[Record]) -> list[PlannedRun]:
        """Those that exist, and the next ones."""
        planned: list[PlannedRun] = []
        for task in prepared.tasks:
            for model in prepared.models:
                planned += Arm(self, prepared, task, model).plan(records)
        return planned


@dataclass(frozen=True)
class Arm:
    """The recipe on one task and model."""

    recipe: Recipe
    prepared: PreparedStudy
    task: TaskSpec
    model: ModelSpec

    def plan(self, records: Sequence[Record]) -> list[PlannedRun]:
        """Its trials and, when all have ended, the final runs of three of its front."""
        dataset = self.prepared.datasets[self.task.key]
        anatomy = self.prepared.caches.outline(self.model, dataset, readout="head").anatomy
        space = OwnSpace(anatomy.width, len(anatomy.layers))
        results = {
            space.read(r.run.method.options["methods"]): read_trial(r)
            for r in records
            if self._has(r.run, "tune")
        }
        known = [s.run for s in self.recipe.load_statuses() if self._has(s.run, "tune")]
        settings = self._draw_first(space)
        settings |= dict.fromkeys(space.read(run.method.options["methods"]) for run in known)
        missing = self.recipe.trainings - len(settings)
        if missing > 0 and all(one in results for one in settings):
            proposed = self._propose(space, [*settings], results, min(BATCH, missing))
            settings |= dict.fromkeys(proposed)
        trials = [self._make_trial(space.to_members(one)) for one in settings]
        finals: list[Run] = []
        if all(one in results for one in settings):
            finals = self._plan_finals(space, results)
        return [PlannedRun(self.prepared.caches.identify(run), run) for run in (*trials, *finals)]

    def _has(self, run: Run, stage: Stage) -> bool:
        return run.stage == stage and run.cell[:2] == (self.task.key, self.model.key)

    def _draw_first(self, space: OwnSpace) -> dict[Setting, None]:
        rng = np.random.default_rng(
            derive_seed(self.prepared.study.protocol.tuning_seed, "autopeft")
        )
        drawn: dict[Setting, None] = {}
        while len(drawn) < max(2, self.recipe.trainings // 2):
            drawn[space.draw(rng)] = None
        return drawn

    def _make_run(
        self,
        members: Sequence[Mapping[str, Any]],
        stage: Stage,
        seed: int,
        method: MethodSpec | None = None,
    ) -> Run:
        """``method``: the row that it is of; None of a trial."""
        own = {"name": "auto", "label": f"auto.{digest(members)[:6]}", "methods": members}
        if method is not None:
            own = {**own, "label": method.key, **method.options_of_runs}
        topology = self.prepared.topologies[self.model.key]
        first, serial = (
            methods.configure_method(MethodSpec(name=name)).learning_rates(topology)
            for name in (members[0]["name"], SERIAL)
        )
        assert first is not None and serial is not None
        training = self.prepared.study.training
        precision = self.prepared.precisions[self.model.key]
        return Run(
            stage=stage,
            task=self.task,
            model=self.model,
            method=MethodSpec.model_validate(own),
            learning_rate=float(f"{self.recipe.rate * first[1] / serial[1]:.3g}"),
            seed=seed,
            split_seed=self.prepared.study.protocol.split_seed,
            training=training.model_copy(update={"precision": precision}),
        )

    def _make_trial(self, members: Sequence[Mapping[str, Any]]) -> Run:
        return self._make_run(members, "tune", self.prepared.study.protocol.tuning_seed)

    def _propose(
        self,
        space: OwnSpace,
        tried: Sequence[Setting],
        results: Mapping[Setting, Trial],
        count: int,
    ) -> list[Setting]:
        """The next batch, one after another, each with the ones before as tried."""
        seed = derive_seed(self.prepared.study.protocol.tuning_seed, "batch", len(tried))
        rng = np.random.default_rng(seed)
        scores = transform_to_normal(np.array([results[one].score for one in tried]))
        counts = np.log([space.count_parameters(one) for one in tried])
        order = np.sort(counts)
        levels = np.sort(transform_to_normal(counts))

        def price(settings: Sequence[Setting]) -> Array:
            own = np.log([space.count_parameters(one) for one in settings])
            return np.interp(own, order, levels)

        samples, warmup = self.recipe.samples
        hyperparameters = fit_saas(
            space.to_features(tried), scores, seed, warmup=warmup, samples=samples
        )
        front = find_raw_front(score_settings(space, results))
        chosen: list[Setting] = []
        for _ in range(count):
            every = [*tried, *chosen]
            improvement = NoisyImprovement(
                hyperparameters,
                space.to_features(every),
                scores,
                price(every),
                float(scores.min()),
                float(levels.max()) + 0.1,
                rng,
            )

            def gain(some: Sequence[Setting], own: NoisyImprovement = improvement) -> Array:
                return own(space.to_features(some), price(some))

            chosen.append(climb(space, [one.setting for one in front], every, gain, rng))
        return chosen

    def _plan_finals(self, space: OwnSpace, results: Mapping[Setting, Trial]) -> list[Run]:
        """Best, knee and cheapest of the front by raw scores, then what scored best."""
        scored = score_settings(space, results)
        if not scored:
            return []
        front: Any = find_raw_front(scored)
        picks: tuple[Pick, ...] = ("best", "knee", "cheapest")
        ranked: list[Any] = [pick_candidate(front, pick) for pick in picks]
        ranked += sorted(front, key=lambda one: -one.score)
        ranked += sorted(scored, key=lambda one: -one.score)
        chosen = dict.fromkeys(one.setting for one in ranked)
        return [
            self._make_run(space.to_members(one), "final", seed, method)
            for one, method in zip(chosen, self.prepared.study.all_methods, strict=False)
            for seed in self.prepared.study.protocol.seeds
        ]


@dataclass(frozen=True)
class Scored:
    """A setting with its trained parameters and its raw score."""

    setting: Setting
    price: int
    score: float


def score_settings(space: OwnSpace, results: Mapping[Setting, Trial]) -> list[Scored]:
    """Those that were not lost."""
    return [
        Scored(one, space.count_parameters(one), trial.score)
        for one, trial in results.items()
        if not trial.lost
    ]


def find_raw_front(scored: Sequence[Scored]) -> list[Scored]:
    """Those than which none is both cheaper and better, the cheapest first."""
    front: list[Scored] = []
    for one in sorted(scored, key=lambda one: (one.price, -one.score)):
        if not front or one.score > front[-1].score:
            front.append(one)
    return front


def climb(
    space: OwnSpace,
    points: Sequence[Setting],
    known: Collection[Setting],
    gain: Callable[[Sequence[Setting]], Array],
    rng: np.random.Generator,
) -> Setting:
    """The best of some climbs, each from a neighbour of a point, among what is not known."""
    ends: list[tuple[float, Setting]] = []
    for _ in range(RESTARTS):
        here, left = (
            space.move(points[int(rng.integers(len(points)))], rng),
            EVALUATIONS // RESTARTS,
        )
        value = -np.inf if here in known else float(gain([here])[0])
        while left > 0:
            near = {space.move(here, rng) for _ in range(len(MEMBERS) + space.layers)}
            left -= len(near)
            if some := sorted(near - {*known}, key=repr):
                gains = gain(some)
                best = int(np.argmax(gains))
                if gains[best] > value:
                    here, value = some[best], float(gains[best])
        if here not in known:
            ends.append((value, here))
    while not ends:
        one = space.draw(rng)
        ends += [] if one in known else [(0.0, one)]
    return max(ends, key=lambda end: end[0])[1]


def run_recipe(
    study: Study,
    folder: Path,
    trainings: int,
    rate: float,
    samples: tuple[int, int] = (SAMPLES, WARMUP),
) -> StudySummary:
    """Train the arm into a store, or go on with it; what is done stays done."""
    arm = make_study(study, trainings, rate)
    workers = Workers.resolve(workers=1)
    with Store.open(folder, create=True) as store:
        prepared = prepare_study(arm).in_store(store, workers.device)
        store.save_study(arm.study_hash, arm.study, "", arm.canonical_form())
        recipe = Recipe(trainings, rate, lambda: store.load_statuses(arm.study_hash), samples)
        predictor = CostPredictor(prepared.caches, device=workers.device)

        def add_runs() -> int:
            return preflight.add_missing_runs(prepared, store, predictor, recipe)

        devices = workers.count((), predictor)
        executor = ExecutorChoice().make(arm, prepared, workers, devices, None)
        return executor.execute(store, arm.study_hash, StudyCallbacks(LineObserver(), add_runs))
