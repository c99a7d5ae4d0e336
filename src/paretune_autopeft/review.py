"""Reviews the trials of a search by their records: its front, and the choices that mattered.

Each trial's record has the sizes of its members and its factor of the rate
(:func:`~paretune_autopeft.trials.describe_trial`), so its configuration can be read without a
model library. The process of :mod:`~paretune_autopeft.surrogate` is fitted anew to all of them.

**Importance**: by how much the process's mean differs where one group of choices is drawn anew and
all others stay, as a share of its variance over the space: the total effect of Sobol (Jansen 1999,
doi 10.1016/S0010-4655(98)00154-4). Shares add up to more than 1 where choices act together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from paretune import metrics
from paretune.analysis.learning_rates import assume_primary_metric
from paretune.analysis.statistics.differences import row_variance
from paretune.analysis.statistics.scores import score_runs
from paretune.methods.core.options import ALL, list_layers
from paretune.store.record import Record
from paretune_autopeft.schedule import Beliefs, RatedConfiguration, TrialScore, believe
from paretune_autopeft.space import Configuration, Space
from paretune_autopeft.trials import Member

LEAST_TRIALS = 4
"""A front of fewer trials says nothing."""
_DRAWS = 200
_SEED = 20_261_126

Prices = Mapping[str, Callable[[Record], float | None]]
PRICES: Prices = {
    "parameters": lambda record: record.trained_parameters,
    "memory": lambda record: _sum_work(record, "held_bytes", "saved_bytes"),
    "time": lambda record: _sum_work(record, "operations"),
}
"""The cost of a configuration, by the option ``by`` of its search."""


@dataclass(frozen=True)
class SearchReview:
    """The trials of a search.

    Attributes:
        front: by posterior means, the cheapest first.
        records: of each configuration of the front.
        importance: share of the process's variance of each group of choices, largest first.
    """

    front: tuple[RatedConfiguration, ...]
    records: tuple[Record, ...]
    importance: tuple[tuple[str, float], ...]


def review_search(trials: Sequence[Record], by: str = "parameters") -> SearchReview | None:
    """The front of one search and its importances; None where too few trials can be read.

    Args:
        trials: trials of one task, model and test fold.
        by: the cost over which the front is drawn.
    """
    readable = [r for r in trials if "configuration" in r.measured and _count_layers(r)]
    priced = {r.run_id: price for r in readable if (price := PRICES[by](r)) is not None}
    readable = [r for r in readable if r.run_id in priced]
    if len(readable) < LEAST_TRIALS or len(set(map(_count_layers, readable))) != 1:
        return None
    space = _read_space(readable)
    record_of = {_place_in_space(r, space): r for r in readable}
    trials_of = {
        point: read_trial(record, priced[record.run_id]) for point, record in record_of.items()
    }
    if all(trial.lost for trial in trials_of.values()):
        return None
    beliefs = believe(space, tuple(trials_of), tuple(trials_of.values()))
    front = beliefs.rank_front()
    return SearchReview(
        front,
        tuple(record_of[candidate.configuration] for candidate in front),
        _rank_importance(space, beliefs),
    )


def read_trial(record: Record, price: float) -> TrialScore:
    """The selection score of a trial with its variance over the examples, and its price.

    One that diverged or did not fit has the metric's lowest score.
    """
    metric = assume_primary_metric([record])
    if record.is_lost or record.selection_score is None:
        return TrialScore(metrics.get(metric).lowest, 0.0, price, lost=True)
    if record.run_id not in _VARIANCES:
        answers, variance = record.predictions.get("selection"), 0.0
        if answers is not None:
            variance = row_variance(score_runs([answers], metric))
        _VARIANCES[record.run_id] = variance
    return TrialScore(record.selection_score[0], _VARIANCES[record.run_id], price)


_VARIANCES: dict[str, float] = {}
"""Variances by run id: a search is replayed whenever a run has ended."""


def _sum_work(record: Record, *names: str) -> float | None:
    work: Any = record.measured.get("work")
    return None if work is None else float(sum(work[name] for name in names))


def _count_layers(record: Record) -> int:
    """How many layers its model has, by a trial's record; 0 where it does not say so."""
    measured: Any = record.measured
    return len(measured.get("layer_gradients", ()))


def _read_configuration(record: Record) -> dict[str, Any]:
    """Read the configuration that :func:`~paretune_autopeft.trials.describe_trial` wrote."""
    measured: Any = record.measured
    configuration: dict[str, Any] = measured["configuration"]
    return configuration


def _read_space(trials: Sequence[Record]) -> Space:
    """The members that were tried, and the fewest groups that have all their layers' borders."""
    members: dict[str, Member] = {}
    borders: set[int] = set()
    count = _count_layers(trials[0])
    for record in trials:
        for name, sizes in _read_configuration(record)["members"].items():
            members.setdefault(name, Member(name, sizes["option"], tuple(sizes["sizes"])))
        for member in record.run.method.options["methods"]:
            inside = list_layers(str(member.get("layers", ALL)), count)
            for before, after in pairwise([-2, *inside, count + 1]):
                if after != before + 1:
                    borders |= {before + 1, after}
    borders -= {-1, 0, count, count + 1}
    ordered = tuple(members[name] for name in sorted(members))
    spaces = (Space(ordered, count, groups, len(ordered)) for groups in range(1, count + 1))
    return next(s for s in spaces if borders <= {layers.start for layers in s.boundaries})


def _place_in_space(record: Record, space: Space) -> Configuration:
    groups = [[-1] * len(space.members) for _ in space.boundaries]
    names = [member.name for member in space.members]
    for options in record.run.method.options["methods"]:
        n = names.index(options["name"])
        member = space.members[n]
        size = member.sizes.index(options[member.option]) if member.option else 0
        inside = set(list_layers(str(options.get("layers", ALL)), space.layers))
        for number, layers in enumerate(space.boundaries):
            if inside.issuperset(layers):
                groups[number][n] = size
    rate = int(_read_configuration(record)["rate"])
    return Configuration(tuple(tuple(group) for group in groups), rate)


def _rank_importance(space: Space, beliefs: Beliefs) -> tuple[tuple[str, float], ...]:
    """Total effects of each group of layers, of each member, and of the rate."""
    rng = np.random.default_rng(_SEED)
    first, second = (
        [space.draw(int(rng.integers(2**31))) for _ in range(_DRAWS)] for _ in range(2)
    )
    means = beliefs.predict(first)[0]
    variance = float(means.var())
    if variance <= 0:
        return ()
    effects = {}
    for name, change in _list_choices(space).items():
        changed = beliefs.predict(list(map(change, first, second)))[0]
        effects[name] = float(((means - changed) ** 2).mean()) / (2 * variance)
    return tuple(sorted(effects.items(), key=lambda pair: -pair[1]))


_Change = Callable[[Configuration, Configuration], Configuration]


def _list_choices(space: Space) -> dict[str, _Change]:
    """Functions that take a group of choices from a second configuration, by its name."""

    def take(n_group: int | None, n_member: int | None) -> _Change:
        """Sizes of one group or of one member; a combination of nothing is none: they stay."""

        def change(first: Configuration, second: Configuration) -> Configuration:
            groups = tuple(
                tuple(
                    new if n_group in (None, g) and n_member in (None, m) else old
                    for m, (old, new) in enumerate(zip(before, after, strict=True))
                )
                for g, (before, after) in enumerate(zip(first.groups, second.groups, strict=True))
            )
            changed = Configuration(groups, first.rate)
            return first if changed.is_empty else changed

        return change

    choices: dict[str, _Change] = {}
    if space.groups > 1:
        for n, layers in enumerate(space.boundaries):
            ends = f"{layers.start}" if len(layers) == 1 else f"{layers.start}-{layers.stop - 1}"
            choices[f"layers {ends}"] = take(n, None)
    if len(space.members) > 1 or space.members[0].option:
        choices |= {member.name: take(None, n) for n, member in enumerate(space.members)}
    choices["learning rate"] = lambda first, second: Configuration(first.groups, second.rate)
    return choices
