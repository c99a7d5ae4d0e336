"""Could learning rates be dropped in the middle of their trials? From the curves of stored ones.

A trial is scored after each epoch, so its own schedule has rungs already. At a quarter and at half
of it, a rate is dropped that is behind the best by more than so many standard errors of the paired
difference, in score, and in mean loss too. The standard error is that of the two ended trials on
their selection part, whose size it hardly depends on when they are scored, and of seeds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from paretune import metrics
from paretune.analysis.lr_selection import SEED_POINTS, select_learning_rate
from paretune.analysis.primary_metric import DEFAULT, find_primary_metric
from paretune.analysis.statistics.bootstrap_score import bootstrap_score, bootstrap_variance
from paretune.store.record import Record

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
    metric = metrics.get(find_primary_metric(trials) or DEFAULT)
    left, seconds = list(trials), 0.0
    reached = 0.0
    for share, errors in RUNGS:
        at = {record.run_id: _at(record, share) for record in left}
        best = max(left, key=lambda r: at[r.run_id]["selection"]["primary"])
        whole = max(1, math.ceil(share * len(best.result["curve"]))) / len(best.result["curve"])
        seconds += sum((whole - reached) * (r.train_seconds or 0.0) for r in left)
        reached = whole
        left = [
            r
            for r in left
            if not _is_behind(at[best.run_id], at[r.run_id], factor * errors * _error(best, r))
        ]
    seconds += sum((1 - reached) * (r.train_seconds or 0.0) for r in left)
    full = sum(record.train_seconds or 0.0 for record in trials)
    chosen, best_rate = (select_learning_rate(own).rate for own in (left, list(trials)))
    score = {r.run.learning_rate: (r.selection_score or (metric.lowest, 0.0))[0] for r in trials}
    return (
        float(chosen == best_rate),
        seconds / full if full else 1.0,
        score[best_rate] - score[chosen],
    )


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
