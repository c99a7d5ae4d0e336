"""What the trials of a search say, read from their records: its front, and what mattered.

Each trial's record has the sizes of its members and its factor of the rate
(:func:`describe_trial`), so its configuration can be read without a model library. The process of
:mod:`~paretune.autopeft.surrogate` is fitted anew to all of them.

**Importance**: by how much the process's mean differs where one group of choices is drawn anew and
all others stay, as a share of its variance over the space: the total effect of Sobol (Jansen 1999,
doi 10.1016/S0010-4655(98)00154-4). Shares add up to more than 1 where choices act together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune import metrics
from paretune.analysis.learning_rates import assume_primary_metric
from paretune.analysis.statistics.scores import bootstrap_score, bootstrap_variance
from paretune.autopeft.finalists import Candidate, rank_front
from paretune.autopeft.schedule import Beliefs, Cost, Trial, believe
from paretune.autopeft.space import RATE_FACTORS, Configuration, Member, Space, describe_member
from paretune.methods.core.layer_subset import ALL, list_layers
from paretune.store.record import Record

if TYPE_CHECKING:
    from paretune.methods import ConfiguredMethod

LEAST_TRIALS = 4
"""With fewer a front says nothing."""
_DRAWS = 200
_SEED = 20_261_126

Prices = Mapping[str, Callable[[Record], float | None]]
PRICES: Prices = {
    "parameters": lambda record: record.trained_parameters,
    "memory": lambda record: _sum_work(record, "held_bytes", "saved_bytes"),
    "time": lambda record: _sum_work(record, "operations"),
}
"""What a configuration costs, by the option ``by`` of its search."""


@dataclass(frozen=True)
class SearchReview:
    """The trials of a search.

    Attributes:
        front: by posterior means, the cheapest first.
        records: of each configuration of the front.
        importance: share of the process's variance of each group of choices, largest first.
    """

    front: tuple[Candidate, ...]
    records: tuple[Record, ...]
    importance: tuple[tuple[str, float], ...]


def describe_trial(members: Sequence[ConfiguredMethod], rate: float, middle: float) -> Any:
    """What a trial's record has beside its method, so that it can be read without a library.

    Args:
        rate: its learning rate.
        middle: the middle one of its first member.
    """
    described = [describe_member(member.method) for member in members]
    return {
        "members": {one.name: {"option": one.option, "sizes": one.sizes} for one in described},
        "rate": min(
            range(len(RATE_FACTORS)),
            key=lambda n: abs(math.log(rate / middle) - math.log(RATE_FACTORS[n])),
        ),
    }


def review_search(trials: Sequence[Record], by: str = "parameters") -> SearchReview | None:
    """The front of one search and what mattered; None where too few trials can be read.

    Args:
        trials: of one task, model and test fold.
        by: the cost over which the front is drawn.
    """
    readable = [r for r in trials if r.measured.get("configuration") and r.layer_count]
    priced = {r.run_id: price for r in readable if (price := PRICES[by](r)) is not None}
    readable = [r for r in readable if r.run_id in priced]
    if len(readable) < LEAST_TRIALS or len({r.layer_count for r in readable}) != 1:
        return None
    space = _read_space(readable)
    record_of = {_read_configuration(r, space): r for r in readable}
    results = {one: read_trial(record) for one, record in record_of.items()}
    if all(trial.lost for trial in results.values()):
        return None
    beliefs = believe(space, list(record_of), results)
    front = rank_front(lambda one: Cost(priced[record_of[one].run_id], 1.0), beliefs)
    return SearchReview(
        front,
        tuple(record_of[one.configuration] for one in front),
        _rank_importance(space, beliefs),
    )


def read_trial(record: Record) -> Trial:
    """The selection score of a trial with its variance over the examples.

    One that diverged or did not fit has the metric's lowest score.
    """
    metric = assume_primary_metric([record])
    if record.is_lost or record.selection_score is None:
        return Trial(metrics.get(metric).lowest, 0.0, lost=True)
    return Trial(record.selection_score[0], _variance(_Hashable(record), metric))


@dataclass(frozen=True)
class _Hashable:
    """A record by its id."""

    record: Record = field(compare=False)
    run_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_id", self.record.run_id)


@lru_cache(maxsize=4096)
def _variance(one: _Hashable, metric: str) -> float:
    answers = one.record.predictions.get("selection")
    if answers is None:
        return 0.0
    score = bootstrap_score([answers], metric)
    return bootstrap_variance(score, score.draws)


def _sum_work(record: Record, *names: str) -> float | None:
    work: Any = record.measured.get("work")
    return None if work is None else float(sum(work[name] for name in names))


def _read_space(trials: Sequence[Record]) -> Space:
    """The members that were tried, and the fewest groups that have all their layers' borders."""
    members: dict[str, Member] = {}
    borders: set[int] = set()
    count = trials[0].layer_count or 1
    for record in trials:
        for name, own in record.measured["configuration"]["members"].items():
            members.setdefault(name, Member(name, own["option"], tuple(own["sizes"])))
        for member in record.run.method.options["methods"]:
            inside = list_layers(str(member.get("layers", ALL)), count)
            for before, after in pairwise([-2, *inside, count + 1]):
                if after != before + 1:
                    borders |= {before + 1, after}
    borders -= {-1, 0, count, count + 1}
    ordered = tuple(members[name] for name in sorted(members))
    spaces = (Space(ordered, count, groups, len(ordered)) for groups in range(1, count + 1))
    return next(s for s in spaces if borders <= {own.start for own in s.boundaries})


def _read_configuration(record: Record, space: Space) -> Configuration:
    groups = [[-1] * len(space.members) for _ in space.boundaries]
    names = [member.name for member in space.members]
    for own in record.run.method.options["methods"]:
        n = names.index(own["name"])
        member = space.members[n]
        size = member.sizes.index(own[member.option]) if member.option else 0
        inside = set(list_layers(str(own.get("layers", ALL)), space.layers))
        for number, layers in enumerate(space.boundaries):
            if inside.issuperset(layers):
                groups[number][n] = size
    rate = int(record.measured["configuration"]["rate"])
    return Configuration(tuple(tuple(group) for group in groups), rate)


def _rank_importance(space: Space, beliefs: Beliefs) -> tuple[tuple[str, float], ...]:
    """Total effects of each group of layers, of each member, and of the rate."""
    rng = np.random.default_rng(_SEED)
    first, second = (
        [space.draw(int(rng.integers(2**31))) for _ in range(_DRAWS)] for _ in range(2)
    )
    means = _predict(space, beliefs, first)
    variance = float(means.var())
    if variance <= 0:
        return ()
    choices = _list_choices(space)
    effects = {
        name: float(
            ((means - _predict(space, beliefs, list(map(change, first, second)))) ** 2).mean()
        )
        / (2 * variance)
        for name, change in choices.items()
    }
    return tuple(sorted(effects.items(), key=lambda pair: -pair[1]))


def _predict(space: Space, beliefs: Beliefs, configurations: Sequence[Configuration]) -> Any:
    return beliefs.predict([space.to_features(one) for one in configurations])[0]


_Change = Callable[[Configuration, Configuration], Configuration]


def _list_choices(space: Space) -> dict[str, _Change]:
    """By its name, how a group of choices is taken from another configuration."""

    def layers(number: int) -> _Change:
        def change(one: Configuration, other: Configuration) -> Configuration:
            groups = [*one.groups]
            groups[number] = other.groups[number]
            return _without_nothing(one, Configuration(tuple(groups), one.rate))

        return change

    def member(n: int) -> _Change:
        def change(one: Configuration, other: Configuration) -> Configuration:
            groups = tuple(
                (*own[:n], theirs[n], *own[n + 1 :])
                for own, theirs in zip(one.groups, other.groups, strict=True)
            )
            return _without_nothing(one, Configuration(groups, one.rate))

        return change

    choices: dict[str, _Change] = {}
    if space.groups > 1:
        for number, own in enumerate(space.boundaries):
            inside = str(own.start) if len(own) == 1 else f"{own.start}-{own.stop - 1}"
            choices[f"layers {inside}"] = layers(number)
    if len(space.members) > 1 or space.members[0].option:
        choices |= {one.name: member(n) for n, one in enumerate(space.members)}
    choices["learning rate"] = lambda one, other: Configuration(one.groups, other.rate)
    return choices


def _without_nothing(before: Configuration, after: Configuration) -> Configuration:
    """A combination of nothing is none: the choice stays."""
    return before if after.is_empty else after
