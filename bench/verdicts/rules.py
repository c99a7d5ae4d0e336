"""Textbook rules beside the package's, on the same answers: what each would have claimed.

Each takes right answers of all methods, (runs, rows) by name, under cross-validation (1, rows) and
the rows' folds, and gives the two-sided p-value of every pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
from scipy import special

from paretune.analysis.statistics.multiple_testing import all_pairs_correction
from verdicts.worlds import Array

Pairs = dict[tuple[str, str], tuple[float, float]]
"""The estimated difference of each pair, and its p-value."""


def judge_by_rules(right: Mapping[str, Array], folds: Array | None) -> Iterator[tuple[str, Pairs]]:
    """Name of each rule, and what it says of all pairs."""
    if folds is None:
        for name in ("rows alone", "quasi-F, own runs", "quasi-F, pooled runs"):
            yield name, {pair: _by_split_rule(name, right, *pair) for pair in _pairs(right)}
    else:
        for name in ("t over rows", "t over folds", "Nadeau-Bengio"):
            yield name, {pair: _by_fold_rule(name, right, folds, *pair) for pair in _pairs(right)}


def correct(pairs: Pairs, members: int) -> Pairs:
    """The p-values corrected over all pairs, as the package does it."""
    p_values = all_pairs_correction([p for _, p in pairs.values()], members)
    return {
        key: (difference, p)
        for (key, (difference, _)), p in zip(pairs.items(), p_values, strict=True)
    }


def _pairs(right: Mapping[str, Array]) -> Iterator[tuple[str, str]]:
    return combinations(right, 2)


def _by_split_rule(rule: str, right: Mapping[str, Array], a: str, b: str) -> tuple[float, float]:
    """Clark (1973): the rows' variance less the noise of answers, plus that of runs."""
    rows = right[a].mean(axis=0) - right[b].mean(axis=0)
    of_rows, freedom = rows.var(ddof=1) / len(rows), len(rows) - 1.0
    if rule == "rows alone":
        return float(rows.mean()), _p_value(rows.mean(), [(of_rows, freedom)])
    runs = {name: _run_parts(right[name]) for name in right}
    noise = sum(runs[name][1] for name in (a, b))
    parts = [(max(of_rows - noise, of_rows / 4), freedom)]
    pooled = float(np.mean([variance for variance, _ in runs.values()]))
    for name in (a, b):
        seeds = len(right[name])
        if rule == "quasi-F, own runs":
            parts.append((runs[name][0] / seeds, seeds - 1.0))
        else:
            parts.append((pooled / seeds, len(runs) * (seeds - 1.0)))
    return float(rows.mean()), _p_value(rows.mean(), parts)


def _run_parts(right: Array) -> tuple[float, float]:
    """Variance between runs; what neither run nor row explains, as a variance of the mean."""
    seeds, rows = right.shape
    by_run = right.mean(axis=1)
    rest = right - right.mean(axis=0) - by_run[:, None] + right.mean()
    noise = (rest**2).sum() / ((seeds - 1) * (rows - 1)) / (seeds * rows)
    return float(by_run.var(ddof=1)), float(noise)


def _by_fold_rule(
    rule: str, right: Mapping[str, Array], folds: Array, a: str, b: str
) -> tuple[float, float]:
    """Paired t tests; Nadeau and Bengio (2003) widen that over folds by the shared rows."""
    rows = right[a][0] - right[b][0]
    if rule == "t over rows":
        part = rows.var(ddof=1) / len(rows), len(rows) - 1.0
    else:
        count = int(folds.max()) + 1
        by_fold = np.array([rows[folds == fold].mean() for fold in range(count)])
        share = 1 / count + (1 / (count - 1) if rule == "Nadeau-Bengio" else 0.0)
        part = share * by_fold.var(ddof=1), count - 1.0
    return float(rows.mean()), _p_value(rows.mean(), [part])


def _p_value(difference: float, parts: list[tuple[float, float]]) -> float:
    """By Student's t with Satterthwaite's degrees of freedom."""
    variance = sum(v for v, _ in parts)
    if variance <= 0:
        return float(difference == 0)
    freedom = variance**2 / sum(v**2 / degrees for v, degrees in parts)
    return float(2 * special.stdtr(freedom, -abs(difference) / variance**0.5))
