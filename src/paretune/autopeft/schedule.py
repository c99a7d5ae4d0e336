"""What a search does next, from what it has seen: a pure function of its results.

The first half of the budget goes to each method alone in all layers, to the best configurations of
other tasks, and to random ones; these are known before anything has run. The other half goes, in
batches, to what is expected to raise the front most for each predicted second
(:mod:`paretune.autopeft.acquisition`), among random configurations and neighbours of the front. A
batch follows from the results of the batches before it alone, so a search that was stopped goes on
as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from paretune.autopeft.acquisition import Front, expected_improvement, find_front
from paretune.autopeft.optuna_sampler import SAMPLERS, OptunaSampler
from paretune.autopeft.space import Configuration, Space, random_configurations
from paretune.autopeft.surrogate import Surrogate, fit_surrogate
from paretune.study import derive_seed

Array = NDArray[np.float64]
Sampler = Literal["improvement", "random", "tpe", "gp"]
BATCH = 4
"""Configurations that are proposed at once, so that they can train together."""
CANDIDATES = 128
"""Configurations among which the next ones are chosen; half of them neighbours of the front."""


@dataclass(frozen=True)
class Trial:
    """The result of one configuration.

    Attributes:
        score: mean of the selection parts; of one that diverged, the metric's lowest.
        variance: of that mean, over examples and seeds.
        lost: it diverged or did not fit.
    """

    score: float
    variance: float
    lost: bool = False


@dataclass(frozen=True)
class Cost:
    """What a configuration costs, known before it runs.

    Attributes:
        price: what the front is drawn over: trained parameters, peak bytes or seconds.
        work: what one trial takes of the budget, in trials of the first configuration.
    """

    price: float
    work: float


@dataclass(frozen=True)
class SearchSettings:
    """How a search is done.

    Attributes:
        budget: in trials of the first configuration.
        sampler: ``random`` spends all of it on random configurations: the control.
        seed: of all draws.
        warm: the best configurations of other tasks.
        weights: of the groups of layers, for mutations; () equal.
    """

    budget: float
    sampler: Sampler = "improvement"
    seed: int = 0
    warm: tuple[Configuration, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class SearchState:
    """Where a search is.

    Attributes:
        proposed: all configurations so far, in the order in which they were proposed.
        waiting: those of them without a result; no further ones come before these have ended.
        spent: of the budget, what is proposed included.
    """

    proposed: tuple[Configuration, ...]
    waiting: tuple[Configuration, ...]
    spent: float

    @property
    def finished(self) -> bool:
        """Whether the budget is spent and all results are there."""
        return not self.waiting


History = tuple[tuple[Configuration, ...], tuple[Trial, ...]]
"""The configurations of a search so far, and their results."""


class Proposals(Protocol):
    """Batches that a search has proposed, by what came before them."""

    def find(self, history: History) -> Sequence[Configuration] | None:
        """The batch that followed; None where none is known."""

    def keep(self, history: History, batch: Sequence[Configuration]) -> Sequence[Configuration]:
        """Keep a batch unless there is one; return the one that is kept."""


def continue_search(
    space: Space,
    cost_of: Callable[[Configuration], Cost | None],
    trials: Mapping[Configuration, Trial],
    settings: SearchSettings,
    known: Proposals | None = None,
) -> SearchState:
    """Replay a search from its results, up to the first batch that has not ended.

    Args:
        known: batches of earlier replays; new ones are added.
        cost_of: None for what exceeds a limit, or cannot be: it is never proposed.
    """
    costs = lru_cache(maxsize=None)(cost_of)
    proposed = _first_configurations(space, costs, settings)
    spent = sum(_work(costs, one) for one in proposed)
    while True:
        waiting = tuple(one for one in proposed if one not in trials)
        if waiting or settings.sampler == "random" or not proposed:
            return SearchState(tuple(proposed), waiting, spent)
        history = tuple(proposed), tuple(trials[one] for one in proposed)
        batch = None if known is None else known.find(history)
        if batch is None:
            batch = _propose(space, costs, proposed, trials, settings)
            batch = batch if known is None else known.keep(history, batch)
        affordable = []
        for one in batch:
            if spent + _work(costs, one) <= settings.budget:
                affordable.append(one)
                spent += _work(costs, one)
        if not affordable:
            return SearchState(tuple(proposed), (), spent)
        proposed += affordable


def _work(costs: Callable[[Configuration], Cost | None], one: Configuration) -> float:
    cost = costs(one)
    return 0.0 if cost is None else cost.work


def _first_configurations(
    space: Space, costs: Callable[[Configuration], Cost | None], settings: SearchSettings
) -> list[Configuration]:
    """What needs no result: hand-set, warm and random ones; for a control random ones alone."""
    is_control = settings.sampler == "random"
    share = settings.budget if is_control else settings.budget / 2
    set_by_hand = [] if is_control else [*space.everywhere(), *settings.warm]
    drawn = random_configurations(space, settings.seed, max(8, int(8 * settings.budget)))
    first: dict[Configuration, None] = {}
    spent = 0.0
    for one in [*set_by_hand, *drawn]:
        cost = costs(one)
        if cost is None or one in first:
            continue
        if spent + cost.work > share and first:
            continue
        first[one] = None
        spent += cost.work
    return list(first)


def _propose(
    space: Space,
    costs: Callable[[Configuration], Cost | None],
    tried: Sequence[Configuration],
    trials: Mapping[Configuration, Trial],
    settings: SearchSettings,
) -> list[Configuration]:
    """The next batch: one after another, each as if the ones before had scored as expected."""
    if settings.sampler in SAMPLERS:
        return _ask_optuna(space, costs, tried, trials, settings)
    beliefs = believe(space, tried, trials)
    candidates = _draw_candidates(space, costs, beliefs, tried, settings)
    chosen: list[Configuration] = []
    for _ in range(BATCH):
        candidates = [one for one in candidates if one not in chosen]
        if not candidates:
            break
        front = _front_of(costs, beliefs)
        known = [costs(one) for one in candidates]
        prices = np.log([cost.price for cost in known if cost is not None])
        work = np.array([cost.work for cost in known if cost is not None])
        means, deviations = beliefs.predict([space.to_features(one) for one in candidates])
        gains = expected_improvement(front, prices, means, deviations) / work
        best = int(np.argmax(gains))
        chosen.append(candidates[best])
        imagined = Trial(float(means[best]), float(deviations[best] ** 2) + 1e-9)
        beliefs = beliefs.add(space, candidates[best], imagined)
    return chosen


def _ask_optuna(
    space: Space,
    costs: Callable[[Configuration], Cost | None],
    tried: Sequence[Configuration],
    trials: Mapping[Configuration, Trial],
    settings: SearchSettings,
) -> list[Configuration]:
    prices = np.array([cost.price if (cost := costs(one)) else np.inf for one in tried])
    scores = _rank_lost_last([trials[one] for one in tried])
    seed = derive_seed(settings.seed, "optuna", len(tried)) % 2**32
    sampler = OptunaSampler(settings.sampler, space, seed, tried, scores, prices)
    refused: dict[Configuration, None] = dict.fromkeys(tried)
    chosen: list[Configuration] = []
    while len(chosen) < BATCH and (one := sampler.ask(refused)) is not None:
        refused[one] = None
        if costs(one) is not None:
            chosen.append(one)
    return chosen


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What is believed of the scores of configurations that were tried.

    Attributes:
        tried: those with a score, in their order; what diverged is among them at its score.
        means: posterior means, in the same order.
        deviations: posterior standard deviations.
    """

    tried: tuple[Configuration, ...]
    trials: tuple[Trial, ...]
    means: Array
    deviations: Array
    surrogate: Surrogate

    def predict(self, features: Sequence[Array]) -> tuple[Array, Array]:
        """Of others."""
        return self.surrogate.predict(np.stack(features))

    def add(self, space: Space, one: Configuration, trial: Trial) -> Beliefs:
        """With one more result."""
        return _fit(space, (*self.tried, one), (*self.trials, trial), self.surrogate)


def believe(
    space: Space, tried: Sequence[Configuration], trials: Mapping[Configuration, Trial]
) -> Beliefs:
    """Fit the results of a search."""
    known = tuple(one for one in tried if one in trials)
    return _fit_once(space, known, tuple(trials[one] for one in known))


@lru_cache(maxsize=256)
def _fit_once(space: Space, tried: tuple[Configuration, ...], trials: tuple[Trial, ...]) -> Beliefs:
    """A search is replayed whenever a run has ended: each of its batches is fitted once."""
    return _fit(space, tried, trials)


def _fit(
    space: Space,
    tried: tuple[Configuration, ...],
    trials: tuple[Trial, ...],
    like: Surrogate | None = None,
) -> Beliefs:
    features = np.stack([space.to_features(one) for one in tried])
    scores = _rank_lost_last(trials)
    variances = np.array([trial.variance for trial in trials])
    surrogate = fit_surrogate(features, scores, variances, like)
    means, deviations = surrogate.predict(features)
    return Beliefs(tried, trials, means, deviations, surrogate)


def _rank_lost_last(trials: Sequence[Trial]) -> Array:
    """Scores; a lost run says "worse than all others", not how much."""
    scores = np.array([trial.score for trial in trials])
    finished = np.array([not trial.lost for trial in trials])
    if finished.any():
        scores = np.where(finished, scores, scores[finished].min())
    return scores


def _front_of(costs: Callable[[Configuration], Cost | None], beliefs: Beliefs) -> Front:
    known = [costs(one) for one in beliefs.tried]
    prices = np.log([cost.price for cost in known if cost is not None])
    worst = float(beliefs.means.min())
    return find_front(prices, beliefs.means, worst, float(prices.max()) + 0.1)


def _draw_candidates(
    space: Space,
    costs: Callable[[Configuration], Cost | None],
    beliefs: Beliefs,
    tried: Sequence[Configuration],
    settings: SearchSettings,
) -> list[Configuration]:
    """Random ones, and neighbours of those on the front; what was tried or is too dear left out."""
    seed = derive_seed(settings.seed, "candidates", len(tried))
    on_front = [beliefs.tried[n] for n in list_front_indices(costs, beliefs)]
    drawn: dict[Configuration, None] = {}
    for n in range(CANDIDATES):
        own = derive_seed(seed, n)
        if n % 2:
            parent = on_front[(n // 2) % len(on_front)]
            one = space.mutate(parent, own, settings.weights or None)
        else:
            one = space.draw(own)
        if one not in tried and costs(one) is not None:
            drawn[one] = None
    return list(drawn)


def list_front_indices(
    costs: Callable[[Configuration], Cost | None], beliefs: Beliefs
) -> list[int]:
    """Places in ``beliefs.tried`` of the front by posterior means, the cheapest first."""
    prices = [cost.price if (cost := costs(one)) else np.inf for one in beliefs.tried]
    order = sorted(range(len(prices)), key=lambda n: (prices[n], -beliefs.means[n]))
    indices: list[int] = []
    for n in order:
        if not indices or beliefs.means[n] > beliefs.means[indices[-1]]:
            indices.append(n)
    return indices
