"""Could learning rates be dropped in the middle of their trials? From the curves of stored ones.

A trial is scored after each epoch, so its own schedule has rungs already. At a quarter and at half
of it, a rate is dropped that is behind the best by more than so many standard errors of the paired
difference, in score, and in mean loss too. Where several parts of train take turns, this is set
beside what races do: drop rates after each fold. The standard error is that of both ended trials on
their selection part, whose size it hardly depends on when they are scored, and of seeds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from paretune import metrics
from paretune.analysis.lr_selection import (
    RATE_GAP_ERRORS,
    SEED_POINTS,
    find_rates_in_play,
    select_learning_rate,
)
from paretune.analysis.primary_metric import DEFAULT, find_primary_metric
from paretune.analysis.statistics.bootstrap_score import bootstrap_score, bootstrap_variance
from paretune.store.record import Record

ORDERS = 24
RUNGS = ((0.25, 2.0), (0.5, 1.0))
"""Share of the schedule, and how many standard errors behind a rate must be there."""


def describe_rungs(records: Sequence[Record]) -> Iterator[str]:
    """What rungs would have saved and cost, and how well they foretell the end."""
    groups: dict[Any, list[Record]] = defaultdict(list)
    searched: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        run = record.run
        if run.stage == "tune" and len(record.result.get("curve", [])) > 2 and not record.is_lost:
            if run.method.found_by_search:
                searched[run.task.key, run.model.key, run.outer].append(record)
            else:
                groups[run.cell, run.outer, run.fold].append(record)
    cells = [own for own in groups.values() if len(own) > 1]
    for factor in (1.0, 2.0):
        outcomes = [drop(own, factor) for own in cells]
        if outcomes:
            same, saved, lost = np.array(outcomes).T
            yield (
                f"drop by {factor * RUNGS[0][1]:g} standard errors at a quarter, "
                f"{factor * RUNGS[1][1]:g} at half: {len(cells)} sets of trials, same rate "
                f"{100 * same.mean():.0f} %, seconds of trials x {saved.mean():.2f}, "
                f"{100 * lost.mean():.2f} points of the selection part lost"
            )
    by_cell: dict[Any, list[Record]] = defaultdict(list)
    for own in cells:
        by_cell[own[0].run.cell, own[0].run.outer].extend(own)
    if folded := [own for own in by_cell.values() if len({r.run.fold for r in own}) > 1]:
        yield from describe_folds(folded)
    if not cells:
        yield "no trials of several rates with three scores or more"
    for place, own in searched.items():
        if len(own) > 4:
            ends = [record.result["curve"][-1]["selection"]["primary"] for record in own]
            for share, _ in RUNGS:
                early = [_at(record, share)["selection"]["primary"] for record in own]
                yield (
                    f"{place[0]}, {len(own)} trials of a search: rank correlation of the scores at "
                    f"{share:g} of the schedule with the last ones "
                    f"{spearmanr(early, ends).statistic:.2f}"
                )


def _at(record: Record, share: float) -> Any:
    curve = record.result["curve"]
    return curve[max(1, math.ceil(share * len(curve))) - 1]


def drop(trials: Sequence[Record], factor: float = 1.0) -> tuple[float, float, float]:
    """Whether the same rate is selected; seconds with rungs over without; score lost."""
    left, shares = run_rungs(trials, factor)
    seconds = sum(shares[r.run_id] * (r.train_seconds or 0.0) for r in trials)
    full = sum(record.train_seconds or 0.0 for record in trials)
    chosen, best_rate = (select_learning_rate(own).rate for own in (left, list(trials)))
    score = _mean_scores(trials)
    return (
        float(chosen == best_rate),
        seconds / full if full else 1.0,
        score[best_rate] - score[chosen],
    )


def run_rungs(trials: Sequence[Record], factor: float) -> tuple[list[Record], dict[str, float]]:
    """The trials of one selection part that are left at the end, and what share of each was run."""
    left = list(trials)
    shares = {record.run_id: 1.0 for record in trials}
    for share, errors in RUNGS:
        at = {record.run_id: _at(record, share) for record in left}
        best = max(left, key=lambda r: at[r.run_id]["selection"]["primary"])
        scored = len(best.result["curve"])
        for record in [r for r in left if r is not best]:
            distance = factor * errors * _error(best, record)
            if _is_behind(at[best.run_id], at[record.run_id], distance):
                left.remove(record)
                shares[record.run_id] = max(1, math.ceil(share * scored)) / scored
    return left, shares


def race_folds(
    trials: Sequence[Record], order: Sequence[int], *, errors: float | None, factor: float | None
) -> tuple[float | None, float]:
    """The rate that a race over folds selects, and how many whole trials it runs for that.

    Args:
        order: of the folds.
        errors: rates are dropped after each fold that are so many standard errors behind, as
            races do; None: they are not.
        factor: rates are dropped within a fold too; None: they are not.
    """
    rates = {record.run.learning_rate for record in trials}
    ended: list[Record] = []
    count = 0.0
    for fold in order:
        left = [r for r in trials if r.run.fold == fold and r.run.learning_rate in rates]
        if factor is None:
            count += len(left)
        else:
            left, shares = run_rungs(left, factor)
            count += sum(shares.values())
        ended += left
        rates = {record.run.learning_rate for record in left}
        if errors is not None:
            in_play = [record for record in ended if record.run.learning_rate in rates]
            rates = set(find_rates_in_play(in_play, errors))
        if len(rates) == 1:
            break
    return select_learning_rate(ended, raced=True).rate, count


def describe_folds(cells: Sequence[Sequence[Record]]) -> Iterator[str]:
    """What dropping rates over folds saves, and what rungs add to it, by order of the folds."""
    rules: list[tuple[str, float | None, float | None]] = [
        (f"over folds by {errors:g} standard errors", errors, None)
        for errors in (1.5, 1.0, RATE_GAP_ERRORS, 0.6, 0.4)
    ]
    rules += [
        ("within a fold", None, 1.0),
        ("over folds and within them", RATE_GAP_ERRORS, 1.0),
        ("over folds and within them by twice as much", RATE_GAP_ERRORS, 2.0),
    ]
    for name, errors, factor in rules:
        outcomes = []
        for trials in cells:
            score = _mean_scores(trials)
            best = select_learning_rate(trials).rate
            for order in _draw_orders(sorted({record.run.fold for record in trials})):
                rate, count = race_folds(trials, order, errors=errors, factor=factor)
                lost = score[best] - score[rate]
                outcomes.append((rate == best, count / len(trials), lost))
        same, share, lost_points = np.mean(outcomes, axis=0)
        yield (
            f"rates dropped {name}: {len(cells)} cells, same rate {100 * same:.1f} %, trials x "
            f"{share:.2f}, {100 * lost_points:.2f} points lost"
        )


def _draw_orders(folds: Sequence[int]) -> list[tuple[int, ...]]:
    """All orders of the folds, or :data:`ORDERS` of them."""
    orders = list(permutations(folds))
    if len(orders) <= ORDERS:
        return orders
    drawn = np.random.default_rng(0).choice(len(orders), ORDERS, replace=False)
    return [orders[position] for position in drawn]


def _mean_scores(trials: Sequence[Record]) -> dict[float | None, float]:
    """Mean score of each rate over its selection parts."""
    return {trial.rate: trial.score for trial in select_learning_rate(trials).table}


def _is_behind(best: Any, other: Any, distance: float) -> bool:
    gap = best["selection"]["primary"] - other["selection"]["primary"]
    return bool(gap > distance and other["selection"]["loss"] > best["selection"]["loss"])


def _error(best: Record, other: Record) -> float:
    metric = metrics.get(find_primary_metric([best, other]) or DEFAULT)
    runs = 2 * (SEED_POINTS * metric.highest / 100) ** 2
    parts = [record.predictions.get("selection") for record in (best, other)]
    if None in parts:
        return math.sqrt(runs)
    one, two = (bootstrap_score([part], metric.name) for part in parts if part is not None)
    return math.sqrt(bootstrap_variance(one, one.draws - two.draws) + runs)
