"""Decides the next steps of a search: a pure function of its results.

The first half of the budget goes to each method alone in all layers, to the best configurations of
other tasks, and to random ones; these are known before anything has run. The other half goes, in
batches, to configurations that are expected to raise the front most for each predicted second
(:mod:`paretune_autopeft.surrogate`), among random configurations and neighbours of the front. A
batch follows from the results of the batches before it alone, so a search that was stopped goes on
as if it had not been. At its end the front is drawn over posterior means of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from paretune.study import derive_seed
from paretune_autopeft.optuna_sampler import SAMPLERS, ask_optuna
from paretune_autopeft.space import Configuration, Space
from paretune_autopeft.surrogate import (
    Array,
    Surrogate,
    expected_improvement,
    find_front,
    fit_surrogate,
    list_front,
)

Sampler = Literal["improvement", "random", "tpe", "gp"]
Pick = Literal["best", "knee", "cheapest"]
BATCH = 4
"""Configurations that are proposed at once, so that they can train together."""
CANDIDATES = 128
"""Configurations among which the next ones are chosen; half of them neighbours of the front."""


@dataclass(frozen=True)
class TrialScore:
    """The result of one configuration.

    Attributes:
        score: mean of the selection parts; of one that diverged, the metric's lowest.
        variance: of that mean, over examples and seeds.
        price: what the front is drawn over (:class:`Cost`).
        lost: it diverged or did not fit.
    """

    score: float
    variance: float
    price: float
    lost: bool = False


@dataclass(frozen=True)
class Cost:
    """The cost of a configuration, known before it runs.

    Attributes:
        price: the axis of the front: trained parameters, peak bytes or seconds.
        work: the share of the budget of one trial, in trials of the first configuration.
    """

    price: float
    work: float = 1.0


History = tuple[tuple[Configuration, ...], tuple[TrialScore, ...]]
"""The configurations of a search so far, and their results."""
Batch = Sequence[Configuration]
CostOf = Callable[[Configuration], Cost | None]
"""It gives None for a configuration that is impossible or exceeds a limit, and is not proposed."""


@dataclass(frozen=True)
class SearchState:
    """Where a search is.

    Attributes:
        proposed: all configurations so far, in the order in which they were proposed.
        trials: the results of those that have ended.
        waiting: those without a result; no further ones come before these have ended.
    """

    proposed: tuple[Configuration, ...]
    trials: tuple[TrialScore, ...]
    waiting: tuple[Configuration, ...]

    @property
    def finished(self) -> bool:
        """Whether the budget is spent and all results are there."""
        return not self.waiting


@dataclass(frozen=True)
class Schedule:
    """The schedule of a search.

    Attributes:
        budget: the budget in trials of the first configuration.
        sampler: ``random`` spends all of it on random configurations: the control.
        seed: the seed of all draws.
        warm: the best configurations of other tasks.
        weights: weights of the groups of layers, for mutations; (): they are equal.
    """

    space: Space
    cost_of: CostOf
    budget: float
    sampler: Sampler = "improvement"
    seed: int = 0
    warm: tuple[Configuration, ...] = ()
    weights: tuple[float, ...] = ()

    def replay(
        self,
        result_of: Callable[[Configuration], TrialScore | None],
        recall: Callable[[History, Callable[[], Batch]], Batch] = lambda _, propose: propose(),
    ) -> SearchState:
        """Replay the search from its results, up to the first batch that has not ended.

        Args:
            result_of: gives the result of a trial; None: it has not ended.
            recall: returns the batch that once followed a history, or proposes one.
        """
        proposed = self._draw_first()
        spent = sum(self._work_of(point) for point in proposed)
        while True:
            results = [result_of(point) for point in proposed]
            trials = tuple(trial for trial in results if trial is not None)
            waiting = tuple(p for p, trial in zip(proposed, results, strict=True) if trial is None)
            if waiting or self.sampler == "random" or not proposed:
                return SearchState(tuple(proposed), trials, waiting)
            history = tuple(proposed), trials
            affordable = []
            for point in recall(history, lambda: self.propose(history)):  # noqa: B023 (called now)
                if spent + self._work_of(point) <= self.budget:
                    affordable.append(point)
                    spent += self._work_of(point)
            if not affordable:
                return SearchState(*history, ())
            proposed += affordable

    def propose(self, history: History) -> list[Configuration]:
        """The next batch: one after another, each as if the ones before had scored as expected."""
        if self.sampler in SAMPLERS:
            return self._ask_optuna(history)
        beliefs = believe(self.space, *history)
        candidates = self._draw_candidates(beliefs)
        chosen: list[Configuration] = []
        while candidates and len(chosen) < BATCH:
            costs = [cost for point in candidates if (cost := self.cost_of(point)) is not None]
            means, deviations = beliefs.predict(candidates)
            prices = np.log([cost.price for cost in costs])
            all_prices, worst = np.log(beliefs.prices), float(beliefs.means.min())
            front = find_front(all_prices, beliefs.means, worst, float(all_prices.max()) + 0.1)
            gains = expected_improvement(front, prices, means, deviations)
            best = int(np.argmax(gains / np.array([cost.work for cost in costs])))
            variance = float(deviations[best] ** 2) + 1e-9
            imagined = TrialScore(float(means[best]), variance, costs[best].price)
            chosen.append(candidates.pop(best))
            beliefs = beliefs.add(chosen[-1], imagined)
        return chosen

    def _work_of(self, point: Configuration) -> float:
        cost = self.cost_of(point)
        return 0.0 if cost is None else cost.work

    def _draw_first(self) -> list[Configuration]:
        """Draw hand-set, warm and random configurations; a control gets random ones alone."""
        is_control = self.sampler == "random"
        share = self.budget if is_control else self.budget / 2
        set_by_hand = [] if is_control else [*self.space.everywhere(), *self.warm]
        drawn = self.space.draw_distinct(self.seed, max(8, int(8 * self.budget)))
        first: dict[Configuration, None] = {}
        spent = 0.0
        for point in [*set_by_hand, *drawn]:
            cost = self.cost_of(point)
            if cost is None or point in first:
                continue
            if spent + cost.work <= share or not first:
                first[point] = None
                spent += cost.work
        return list(first)

    def _draw_candidates(self, beliefs: Beliefs) -> list[Configuration]:
        """Random ones, and neighbours of the front; not what was tried or is too dear."""
        seed = derive_seed(self.seed, "candidates", len(beliefs.tried))
        on_front = [beliefs.tried[n] for n in beliefs.front]
        drawn: dict[Configuration, None] = {}
        for n in range(CANDIDATES):
            draw_seed = derive_seed(seed, n)
            if n % 2:
                parent = on_front[(n // 2) % len(on_front)]
                point = self.space.mutate(parent, draw_seed, self.weights or None)
            else:
                point = self.space.draw(draw_seed)
            if point not in beliefs.tried and self.cost_of(point) is not None:
                drawn[point] = None
        return list(drawn)

    def _ask_optuna(self, history: History) -> list[Configuration]:
        tried, trials = history
        return ask_optuna(
            self.sampler,
            self.space,
            derive_seed(self.seed, "optuna", len(tried)) % 2**32,
            tried,
            _rank_lost_last(trials),
            np.array([trial.price for trial in trials]),
            BATCH,
            lambda point: self.cost_of(point) is not None,
        )


@dataclass(frozen=True)
class RatedConfiguration:
    """A configuration of the front.

    ``score``: the posterior mean, which is what is believed; ``raw``: what it scored.
    """

    configuration: Configuration
    price: float
    score: float
    deviation: float
    raw: float


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Estimates of the scores of configurations that were tried.

    Attributes:
        tried: configurations in their order; diverged ones are among them at the lowest score.
        means: posterior means, in the same order.
        deviations: posterior standard deviations.
    """

    space: Space
    tried: tuple[Configuration, ...]
    trials: tuple[TrialScore, ...]
    means: Array
    deviations: Array
    surrogate: Surrogate

    def predict(self, points: Batch) -> tuple[Array, Array]:
        """Posterior means and standard deviations of other configurations."""
        return self.surrogate.predict(np.stack([self.space.to_features(p) for p in points]))

    def add(self, point: Configuration, trial: TrialScore) -> Beliefs:
        """Make estimates with one more result."""
        return believe(self.space, (*self.tried, point), (*self.trials, trial), self.surrogate)

    @property
    def prices(self) -> list[float]:
        """The price of each configuration that was tried."""
        return [trial.price for trial in self.trials]

    @property
    def front(self) -> list[int]:
        """Places in ``tried`` of the front by posterior means, the cheapest first."""
        return list_front(self.prices, self.means)

    def rank_front(self) -> tuple[RatedConfiguration, ...]:
        """The front by posterior means, the cheapest first, without what was lost."""
        return tuple(self._rate(n) for n in self.front if not self.trials[n].lost)

    def rank_finalists(self, pick: Pick) -> tuple[RatedConfiguration, ...]:
        """Distinct configurations that may enter the final stage, the picked one first.

        The other picks come next, then the rest of the front, and all others, the best first.
        """
        front = self.rank_front()
        if not front:
            return ()
        everything = [self._rate(n) for n, trial in enumerate(self.trials) if not trial.lost]
        picks: tuple[Pick, ...] = (pick, "best", "knee", "cheapest")
        ranked = [pick_candidate(front, name) for name in picks]
        for candidates in (front, everything):
            ranked += sorted(candidates, key=lambda candidate: -candidate.score)
        return tuple({candidate.configuration: candidate for candidate in ranked}.values())

    def _rate(self, n: int) -> RatedConfiguration:
        trial, mean, deviation = self.trials[n], float(self.means[n]), float(self.deviations[n])
        return RatedConfiguration(self.tried[n], trial.price, mean, deviation, trial.score)


@lru_cache(maxsize=256)
def believe(
    space: Space,
    tried: tuple[Configuration, ...],
    trials: tuple[TrialScore, ...],
    like: Surrogate | None = None,
) -> Beliefs:
    """Fit the results of a search; once, though it is replayed whenever a run has ended.

    Args:
        like: as of :func:`fit_surrogate`.
    """
    features = np.stack([space.to_features(point) for point in tried])
    variances = np.array([trial.variance for trial in trials])
    surrogate = fit_surrogate(features, _rank_lost_last(trials), variances, like)
    means, deviations = surrogate.predict(features)
    return Beliefs(space, tried, trials, means, deviations, surrogate)


def _rank_lost_last(trials: Sequence[TrialScore]) -> Array:
    """Scores; a lost run says "worse than all others", not how much."""
    scores = np.array([trial.score for trial in trials])
    finished = np.array([not trial.lost for trial in trials])
    if finished.any():
        scores = np.where(finished, scores, scores[finished].min())
    return scores


def pick_candidate(front: Sequence[RatedConfiguration], pick: Pick) -> RatedConfiguration:
    """One of a front: the best, the cheapest, or the knee between them.

    The knee is what stands farthest above the line from the cheapest to the best, over the
    logarithm of the price (Das 1999, normal-boundary intersection).
    """
    cheapest, best = front[0], front[-1]
    if pick == "cheapest" or len(front) == 1:
        return cheapest
    if pick == "best":
        return best
    width = np.log(best.price / cheapest.price) or 1.0
    height = best.score - cheapest.score or 1.0

    def rise_above_line(candidate: RatedConfiguration) -> float:
        share = np.log(candidate.price / cheapest.price) / width
        return float((candidate.score - cheapest.score) / height - share)

    return max(front, key=rise_above_line)
