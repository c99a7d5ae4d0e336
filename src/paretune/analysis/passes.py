"""Decides from the records which final runs each method gets (``preset: passes``).

A pass answers every test row once: by the runs of all folds, or under one split by
:data:`RUNS_OF_SPLIT` seeds. Seeds are trained in their order, so every method begins with the
same ones.

1. Every method gets the first pass, its first run before the further ones of any. What is known to
   exceed a limit of the study gets no more.
2. Costs are measured of what may still be chosen, and further rates are tried where evidence asks
   for them (:mod:`paretune.analysis.learning_rates`).
3. Further passes, one at a time, go to what is *open*, until nothing is.

**Open** is what a further pass may choose, while such a pass is worth :data:`WORTH_POINTS`. A pass
over the same rows changes a score by what runs scatter by, and by the answers that tip over from
run to run: :data:`ANSWER_NOISE` of what its rows scatter by. With r passes of K runs so far, n rows
and s^2 the pooled variance of single runs::

    score after one more pass ~ N(score, (s^2 / K + ANSWER_NOISE var(x) / n) / (r (r + 1)))

Draws of these say what would be chosen then. The worth of the pass is the mean of the points by
which the rule would then speak against the present choice: by which that is further below the best
than ``within_points``, or by which something cheaper is nearer to it than that. Where
the study names a ``reference``, methods whose pair with it is undecided are open too.

Every decision is made from the runs of the passes before it alone: the same records give the same
passes, in any order and after interruptions. What claims cost at several looks is in
:mod:`paretune.analysis.comparisons`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell, CellKey, position_of
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.pareto.costs import AXES, estimate_cost
from paretune.analysis.pareto.expected_scores import pool_run_variance
from paretune.analysis.pareto.recommend import (
    Budget,
    Choice,
    cheapest_near_best,
    choose,
    may_be_chosen,
)
from paretune.study import Limits, Protocol, Study

RUNS_OF_SPLIT = 5
"""The number of seeds of a pass under one split."""
WORTH_POINTS = 0.25
"""The points by which a further pass must be expected to improve the choice to be trained."""
ANSWER_NOISE = 0.5
"""Share of the variance of a score's rows in one pass that further passes average out: 0.53 to 0.56
of fine-tuned methods, bench/repeats.py."""
IN_PLAY = 0.05
"""The share of draws from which on a configuration may still be chosen."""
DRAWS = 500
_SEED = 20_261_126


@dataclass(frozen=True)
class PassForecast:
    """What is known of the choice of a task, and what one more pass would do to it.

    Attributes:
        right: shares of draws of the true scores in which each configuration is the one to choose;
            the key None is for no configuration.
        later: shares of draws of the scores after one more pass.
        worth_points: points by which the rule is then expected to contradict the present choice.
    """

    right: Mapping[CellKey | None, float] = field(default_factory=dict)
    later: Mapping[CellKey | None, float] = field(default_factory=dict)
    worth_points: float = 0.0


@dataclass(frozen=True)
class PassState:
    """The progress of one task's passes.

    Attributes:
        positions: number of its seeds that each cell may train.
        over_limit: cells that get no further runs, since a cost exceeds a limit.
        in_play: cells that may still be chosen, whose costs are measured; None before the first
            pass has ended.
        open: cells that the present further pass is for; empty before it, and when it is settled.
        settled: whether no further pass is wanted.
        forecast: forecast of a pass after the ended ones; None before the first has ended.
    """

    positions: Mapping[CellKey, int]
    over_limit: frozenset[CellKey] = frozenset()
    in_play: frozenset[CellKey] | None = None
    open: frozenset[CellKey] = frozenset()
    settled: bool = False
    forecast: PassForecast | None = None


def limits_of(limits: Limits) -> Budget:
    """Return the recommendation's budget for the limits of a study."""
    return Budget(limits={axis: limits.by_axis[axis] for axis in AXES if axis in limits.by_axis})


def count_pass_runs(folds: int, seeds: Sequence[int]) -> int:
    """Count the runs of a method in a pass."""
    return min(folds or RUNS_OF_SPLIT, len(seeds))


def count_passes(protocol: Protocol, folds: int) -> int:
    """Count the passes after which a study may end; 1 where all seeds are trained anyway."""
    if protocol.preset != "passes" or protocol.until == "complete":
        return 1
    return -(-len(protocol.seeds) // count_pass_runs(folds, protocol.seeds))


def mark_passes(study: Study, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a study, each with the number of runs that it is given."""
    marked = []
    for task in study.tasks:
        of_task = [cell for cell in cells if cell.task == task.key]
        # Ended runs show which baselines a task has, and which methods train on a model.
        state = decide_passes([c for c in of_task if c.final or c.tuning or c.cost], study)
        for cell in of_task:
            size = count_pass_runs(cell.folds, study.protocol.seeds)
            expected = min(state.positions.get(cell.key, size), cell.expected_runs)
            over = cell.key in state.over_limit
            marked.append(replace(cell, expected_runs=expected, over_limit=over))
    return marked


def decide_passes(
    cells: Sequence[Cell], study: Study, waiting: Collection[CellKey] = ()
) -> PassState:
    """Decide the passes of one task.

    Args:
        cells: cells of the task, without those that have no runs.
        waiting: cells whose trials of rates have not all ended.
    """
    if not cells:
        return PassState({}, settled=True)
    protocol, most = study.protocol, len(study.protocol.seeds)
    methods = {cell.key: cell for cell in cells if not cell.baseline}
    if not methods:  # only baselines are compared
        methods = {cell.key: cell for cell in cells if cell.model != NO_MODEL}
    size = count_pass_runs(cells[0].folds, protocol.seeds)
    over_limit = frozenset(
        key
        for key, cell in methods.items()
        for axis, limit in study.limits.by_axis.items()
        if (cost := estimate_cost(cell, axis)) is not None and cost.value > limit
    )
    every = dict.fromkeys(
        (cell.key for cell in cells), most if protocol.until == "complete" else size
    )
    positions = {key: 1 if key in over_limit else size for key in methods}
    training = [key for key in methods if key not in over_limit]
    if protocol.until == "complete":
        positions |= dict.fromkeys(training, most)
    ended = {
        key: {position_of(record.run, protocol.seeds) for record in cell.final}
        for key, cell in methods.items()
    }
    state = PassState(every | positions, over_limit)
    in_play: frozenset[CellKey] | None = None
    while True:
        if any(key in waiting for key in training) or not all(
            at in ended[key] for key in training for at in range(positions[key])
        ):
            return state
        done = [
            _allow_positions(
                cell, protocol, positions.get(cell.key, max([size, *positions.values()]))
            )
            for cell in cells
        ]
        if in_play is None:
            in_play = _list_in_play_unmeasured(done, study)
            # Costs decide, so they are measured before further passes.
            if protocol.cost_seconds and any(c.key in in_play and not c.cost for c in cells):
                return replace(state, in_play=in_play)
        measured = in_play
        done = [c if c.key in measured else replace(c, cost=()) for c in done]
        choice = choose(done, limits_of(study.limits))
        forecast = foresee_pass(choice)
        chosen = {choice.chosen.cell.key} if choice.chosen is not None else set()
        state = replace(state, in_play=in_play, forecast=forecast)
        if protocol.until == "complete":
            return replace(state, settled=True)
        candidates = set[CellKey]()
        if forecast.worth_points >= WORTH_POINTS:
            candidates = chosen | _list_in_play(forecast.later)
        candidates |= _find_undecided(done, protocol.reference)
        further = [key for key in training if key in candidates and positions[key] < most]
        if not further:
            return replace(state, settled=True, open=frozenset())
        reached = min(positions[key] for key in further) + size
        positions |= {key: min(reached, most) for key in further if positions[key] < reached}
        highest = max(positions.values())
        baselines = {cell.key: highest for cell in cells if cell.baseline}
        state = replace(state, positions=positions | baselines, open=frozenset(further))


def _list_in_play_unmeasured(cells: Sequence[Cell], study: Study) -> frozenset[CellKey]:
    """List cells that scores and predicted costs may choose; all cells of a complete study."""
    if study.protocol.until == "complete":
        return frozenset(cell.key for cell in cells if cell.model != NO_MODEL)
    choice = choose([replace(cell, cost=()) for cell in cells], limits_of(study.limits))
    in_play = _list_in_play(foresee_pass(choice).right)
    if choice.chosen is not None:
        in_play.add(choice.chosen.cell.key)
    return frozenset(key for key in in_play if key[0] != NO_MODEL)


def _allow_positions(cell: Cell, protocol: Protocol, count: int) -> Cell:
    """Return the cell with the final runs of its first ``count`` positions alone."""
    positions = ((record, position_of(record.run, protocol.seeds)) for record in cell.final)
    records = tuple(record for record, at in positions if at is not None and at < count)
    return replace(cell, final=records, pending={})


def _find_undecided(cells: Sequence[Cell], reference: str | None) -> set[CellKey]:
    """Find methods whose pair with the reference is undecided; return the reference with them."""
    if reference is None:
        return set()
    comparisons = PairwiseComparisons(cells, reference)
    undecided: set[CellKey] = set()
    for cell in cells:
        if cell.method != reference:
            continue
        for rival in cells:
            if rival.baseline or rival.model != cell.model or rival is cell:
                continue
            pair = comparisons.compare(rival, cell)
            if pair is not None and pair.standing == "unclear":
                undecided |= {rival.key, cell.key}
    return undecided


def foresee_pass(choice: Choice) -> PassForecast:
    """Forecast what one more pass of all would do to a choice; empty where nothing has a score."""
    candidates = [c for c in choice.candidates if c.within_budget]
    if not candidates:
        return PassForecast()
    scores = [candidate.expected.score for candidate in candidates]
    seeded = [not candidate.cell.deterministic for candidate in candidates]
    variance = pool_run_variance(
        s for s, draws in zip(scores, seeded, strict=True) if draws
    ).variance
    changes = np.zeros(len(candidates))
    for place, (candidate, score) in enumerate(zip(candidates, scores, strict=True)):
        if seeded[place]:
            size = candidate.cell.folds or RUNS_OF_SPLIT
            passes = score.runs / size
            of_rows = float(score.values.var(axis=1, ddof=1).mean()) / score.units
            # The scatter of seeds on one split includes the noise of answers.
            noise = ANSWER_NOISE * of_rows if candidate.cell.folds else 0.0
            of_pass = variance / size + noise
            changes[place] = np.sqrt(of_pass / (passes * (passes + 1)))
    rng = np.random.default_rng([_SEED, len(candidates), sum(score.runs for score in scores)])
    estimates = np.array([candidate.expected.estimate for candidate in candidates])
    later = estimates + changes * rng.normal(size=(DRAWS, len(candidates)))
    able = [may_be_chosen(candidate, choice.trivial_score) for candidate in candidates]
    point = scores[0].highest / 100
    right: Counter[CellKey | None] = Counter()
    after: Counter[CellKey | None] = Counter()
    losses = []
    # Draws of one prior stand side by side: every fourth is a sample of all.
    true = np.stack([candidate.expected.draws[::4] for candidate in candidates], axis=1)
    for counts, draws in ((right, true), (after, later)):
        for row in draws:
            pool = [
                (candidate, float(mean))
                for candidate, mean, may in zip(candidates, row, able, strict=True)
                if may
            ]
            cheapest = cheapest_near_best(pool, choice.budget)
            counts[cheapest.cell.key if cheapest else None] += 1
            if draws is later and pool and choice.chosen is not None:
                means = {candidate.cell.key: mean for candidate, mean in pool}
                best, within = max(means.values()), choice.budget.within_points
                behind = (best - means[choice.chosen.cell.key]) / point - within
                if cheapest is not None and cheapest is not choice.chosen and behind <= 0:
                    behind = within - (best - means[cheapest.cell.key]) / point
                losses.append(max(0.0, behind))
    return PassForecast(
        {key: count / len(true) for key, count in right.items()},
        {key: count / DRAWS for key, count in after.items()},
        float(np.mean(losses)) if losses else 0.0,
    )


def _list_in_play(shares: Mapping[CellKey | None, float]) -> set[CellKey]:
    return {key for key, share in shares.items() if key is not None and share >= IN_PLAY}
