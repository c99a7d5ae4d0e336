"""Whether one cell is better than another: paired on examples, seeds on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paretune.analysis.interval import (
    Interval,
    Scored,
    bootstrap_variance,
    check_paired,
    scored,
    student,
)
from paretune.store.record import Predictions
from paretune.study import Metric

ALPHA = 0.05

Standing = Literal["above", "unclear", "below"]


@dataclass(frozen=True)
class Against:
    """A cell beside one baseline: the difference, and what it says after Holm's correction."""

    baseline: str
    difference: Interval
    p_holm: float

    @property
    def standing(self) -> Standing:
        """Above or below where the corrected p-value is under 0.05."""
        if self.p_holm >= ALPHA:
            return "unclear"
        return "above" if self.difference.estimate > 0 else "below"


@dataclass(frozen=True)
class Verdict:
    """What may be said of a cell beside its baselines. ``missing`` are those not there yet."""

    standing: Standing | Literal["none"]
    against: tuple[Against, ...]
    missing: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """One phrase for a table."""
        if not self.against:
            return "no baseline to stand beside yet"
        if self.standing == "above":
            text = "clearly above every baseline"
            if self.missing:
                names = ", ".join(a.baseline for a in self.against)
                text = f"clearly above {names}"
        elif self.standing == "below":
            text = f"below {_names(self.against, 'below')}"
        else:
            text = f"not separable from {_names(self.against, 'unclear')}"
        return f"{text} ({', '.join(self.missing)} not there yet)" if self.missing else text

    @property
    def complete(self) -> bool:
        """Clearly above every baseline, and none of them is missing."""
        return self.standing == "above" and not self.missing


def difference(a: Sequence[Predictions], b: Sequence[Predictions], metric: Metric) -> Interval:
    """Score of ``a`` less score of ``b``, each one :class:`Predictions` per seed; 95 %.

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.

    """
    return difference_of(scored(a, metric), scored(b, metric))


def difference_of(a: Scored, b: Scored) -> Interval:
    """:func:`difference` of cells that are scored already."""
    v_examples = shared_variance(a, b)
    widest = a.highest - a.lowest
    return student(a.estimate - b.estimate, [a, b], v_examples, (-widest, widest))


def shared_variance(a: Scored, b: Scored) -> float:
    """The part of the difference's variance that comes from the examples that both answered.

    Raises:
        StoreError: they answered different examples.

    """
    check_paired(a, b)
    v_examples = bootstrap_variance(a, a.draws - b.draws)
    if a.right is None or b.right is None:
        return v_examples
    delta = a.right - b.right
    n = len(delta)
    # Two imagined pairs, half of one won and half of one lost (Agresti and Min 2005): equal
    # answers on eight examples do not prove two methods equal.
    mean = delta.sum() / (n + 2)
    squares = ((delta - mean) ** 2).sum() + 0.5 * (1 - mean) ** 2 + 0.5 * (1 + mean) ** 2 + mean**2
    return max(v_examples, float(squares) / (n + 2) ** 2)


def above_baselines(
    cell: Scored, baselines: Mapping[str, Scored], missing: Sequence[str] = ()
) -> Verdict:
    """Compare a cell with every baseline; p-values corrected by Holm (1979) over the baselines.

    Above only if above each; below if below any; else not separable. ``missing`` names baselines
    that should stand beside the cell and have no scores yet.
    """
    names = list(baselines)
    differences = [difference_of(cell, baselines[name]) for name in names]
    corrected = holm([d.p for d in differences])
    against = tuple(Against(*row) for row in zip(names, differences, corrected, strict=True))
    standings = {a.standing for a in against}
    standing: Standing | Literal["none"] = "unclear"
    if not against:
        standing = "none"
    elif "below" in standings:
        standing = "below"
    elif standings == {"above"}:
        standing = "above"
    return Verdict(standing, against, tuple(missing))


def holm(p: Sequence[float]) -> list[float]:
    """P-values that hold for the whole family (Holm 1979)."""
    order = np.argsort(p)
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]


def _names(against: Sequence[Against], standing: Standing) -> str:
    return ", ".join(a.baseline for a in against if a.standing == standing)
