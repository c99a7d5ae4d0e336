"""Corrects p-values of several tests at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from scipy import special

from paretune.metrics import Array

Key = TypeVar("Key", bound=Hashable)

ALPHA = 0.05
"""The level below which the corrected p-value of a proven difference lies."""
SHARED = 0.5
"""The least share of the variance of a difference after one pass that further passes do not reduce;
a smaller share pays more for looks (bench/repeats.py)."""
_DRAWS = 50_000
_SEED = 20_261_202
_NODES = 96
"""The number of nodes of the quadrature between the bounds of a look."""


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Correct p-values to bound the chance of any false claim in the family (Holm 1979)."""
    return _step_down(p_values, range(len(p_values), 0, -1))


def all_pairs_correction(p_values: Sequence[float], members: int) -> list[float]:
    """Correct p-values of pairs of ``members`` cells; never larger than Holm's (Shaffer 1986).

    Not every number of pairs can be equal at once: if one of four cells differs from another, at
    most three pairs are truly equal, not five. Holm's count of pairs still open is replaced by the
    largest possible number of truly equal ones.

    Args:
        p_values: p-values of all pairs, or of some.
        members: number of cells that form the pairs.
    """
    pairs = members * (members - 1) // 2
    possible = _possible_equal_pairs(members)
    counts = [max(c for c in possible if c <= pairs - done) for done in range(len(p_values))]
    # Where some pairs are absent, no more can be equal than are open.
    limits = [min(c, len(p_values) - done) for done, c in enumerate(counts)]
    return _step_down(p_values, limits)


def correct_for_looks(p: float, looks: int) -> float:
    """Correct a two-sided p-value that may be claimed at any of several looks (Pocock 1977).

    It is the chance that a difference of nothing ever exceeds the observed one, at one of ``looks``
    looks after equal passes. With s the :data:`SHARED` variance, the difference after k passes has
    the information ``1 / (s + (1 - s) / k)``, and its standardised values at looks j < k correlate
    by the root of the ratio of their information (Jennison and Turnbull 2000, chapter 3).

    Args:
        p: p-value at the present look.
        looks: number of planned looks.
    """
    if looks < 2 or not 0 < p < 1:
        return p
    bound = -float(special.ndtri(p / 2))
    information = [1 / (SHARED + (1 - SHARED) / look) for look in range(1, looks + 1)]
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    values, weights = bound * nodes, bound * weights
    # This is the density of the value at a look where no look so far has exceeded the bound.
    density = np.exp(-(values**2) / 2) / math.sqrt(2 * math.pi)
    for before, after in pairwise(information):
        correlation = math.sqrt(before / after)
        spread = math.sqrt(1 - before / after)
        steps = (values[:, None] - correlation * values) / spread
        kernel = np.exp(-(steps**2) / 2) / (spread * math.sqrt(2 * math.pi))
        density = kernel @ (weights * density)
    return max(p, 1 - float(weights @ density))


@functools.cache
def level_of_look(level: float, looks: int) -> float:
    """Return the two-sided level of one look at which :func:`correct_for_looks` gives ``level``."""
    if looks < 2:
        return level
    low, high = level / (looks + 1), level
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if correct_for_looks(middle, looks) < level else (low, middle)
    return low


def dunnett_correction(p_values: Sequence[float], correlation: Array) -> list[float]:
    """Correct one-sided p-values of several against one reference (Dunnett 1955), step-down.

    The result is never larger than that of :func:`holm_correction`: comparisons with one reference
    on the same rows are wrong together, and the chance that any is wrong is that of the largest of
    correlated normal variables (Westfall and Young 1993). It is a share of draws, always the same.

    Args:
        p_values: (k,) p-values of "better than the reference".
        correlation: (k, k) correlation of the differences.
    """
    p = np.asarray(p_values, dtype=float)
    rng = np.random.default_rng(_SEED)
    shrunk = np.array(correlation, dtype=float)
    while True:
        np.fill_diagonal(shrunk, 1.0 + 1e-9)
        try:
            factor = np.linalg.cholesky(shrunk)
            break
        except np.linalg.LinAlgError:
            # Pairs on different rows need not fit together; less correlation is less power.
            shrunk *= 0.9
    drawn = rng.normal(size=(_DRAWS, len(p))) @ factor.T
    order = np.argsort(p)
    # Take the largest of those that are not yet claimed.
    highest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    exceeding = (highest >= special.ndtri(1 - p[order])).sum(axis=0)
    steps = np.maximum.accumulate((exceeding + 1) / (_DRAWS + 1))
    corrected = np.empty(len(p))
    corrected[order] = np.maximum(steps, p[order])
    return [float(v) for v in np.minimum(corrected, holm_correction(p_values))]


def rows_correction(rows: Mapping[str, Mapping[Key, float]]) -> dict[Key, float]:
    """Apply Holm's correction in rows and over rows, for claims "better than the whole row".

    A row that is no exception to its claim counts by its largest corrected p-value, and only the
    number of rows multiplies it: a claim about all of a row is false if one of its parts is, so its
    parts need no correction for one another (intersection-union test, Berger 1982). Any false claim
    about a single part has at most the same probability, for a row is taken out of the count only
    when all of it is claimed (sequential rejection, Goeman and Solari 2010). A part is multiplied
    by the number of rows that are left where it is claimed first, so a row of which some part is
    doubtful keeps no part of another from being claimed, and no corrected value falls when a
    p-value rises.

    Args:
        rows: p-values by row.
    """
    within = {
        row: dict(zip(p_values, holm_correction(list(p_values.values())), strict=True))
        for row, p_values in rows.items()
    }
    order = sorted(within, key=lambda row: max(within[row].values(), default=0.0))
    corrected: dict[Key, float] = {}
    # These are the levels at which the rows before are claimed, by their number.
    levels = [0.0]
    for row in order:
        steps = [(len(order) - done, level) for done, level in enumerate(levels)]
        for key, p in within[row].items():
            corrected[key] = min(1.0, *(max(level, count * p) for count, level in steps))
        levels.append(max([levels[-1], *(corrected[key] for key in within[row])]))
    return corrected


def _step_down(p_values: Sequence[float], factors: Sequence[int]) -> list[float]:
    """Return the smallest p-value times the first factor, and so on; never falling."""
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, dtype=float)[order] * np.array(factors, dtype=float)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


@functools.cache
def _possible_equal_pairs(members: int) -> frozenset[int]:
    """Return the numbers of equal pairs that ``members`` cells can have, split into groups."""
    if members < 2:
        return frozenset({0})
    return frozenset(
        size * (size - 1) // 2 + rest
        for size in range(1, members + 1)
        for rest in _possible_equal_pairs(members - size)
    )
