"""Which configuration to take: the cheapest that the best inside the budget is not clearly above.

The rule, for one task. Configurations are models x methods; seeds that were lost count
(:mod:`paretune.analysis.quality`).

1. A configuration may be taken if it is clearly above every baseline (paired, Holm over its
   baselines, none missing) and inside the budget; a cost that was not measured is not inside.
2. Of these the best is the one of the highest score. The others are compared with it (paired, Holm
   over them), and those that it is clearly above are out. Where ``within`` is given, out are
   instead those whose estimated loss to the best is larger than that, and no others.
3. Of what is left, the cheapest by the chosen cost is taken; a cost that is not known comes last.
4. If nothing inside the budget is clearly above every baseline, a baseline is taken by the same
   steps 2 and 3. Those that need no model cost nothing that a budget limits, so they are the
   cheapest, and of them the one of the highest score is taken; where scores are equal, the first
   of :data:`WITHOUT_MODEL`.

Not being told apart is no proof of being equal: the loss is given with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paretune.analysis.cautious import cautious
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.compare import Verdict
from paretune.analysis.costs import AXES, Axis, Spread, cost_of
from paretune.analysis.difference import ALPHA, holm
from paretune.analysis.interval import Interval, Scored, interval_of
from paretune.analysis.needed import Needed, needed
from paretune.analysis.quality import beside_baselines, lost_seeds, quality, same_examples

WITHOUT_MODEL = ("majority", "copy_source", "tfidf", "gradient_boosting")


@dataclass(frozen=True)
class Budget:
    """What may be spent: no more than ``limits`` on their axes (bytes, seconds, counts).

    ``within`` is how much of the score may be given up, in points: hundredths of what the metric
    can come up to. ``by`` is the cost that decides what is cheap.
    """

    limits: Mapping[Axis, float] = field(default_factory=dict)
    within: float | None = None
    by: Axis = "memory"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration with its score, lost seeds counted, its costs, and how it fits the budget.

    ``over`` are the limits that it exceeds, ``unknown`` those whose cost was not measured.
    ``verdict`` is None for baselines that need no model.
    """

    cell: Cell
    quality: Scored
    interval: Interval
    costs: Mapping[Axis, Spread]
    lost: int
    verdict: Verdict | None
    over: tuple[Axis, ...]
    unknown: tuple[Axis, ...]

    @property
    def inside(self) -> bool:
        """Inside the budget, as far as everything was measured that is limited."""
        return not self.over and not self.unknown

    @property
    def clear(self) -> bool:
        """A method that is clearly above every baseline."""
        return not self.cell.baseline and self.verdict is not None and self.verdict.complete


@dataclass(frozen=True)
class Rival:
    """A configuration beside the one that was taken: its score less the taken one's.

    ``p`` is corrected (Holm) where it stood among others. ``needed`` would decide the two.
    """

    candidate: Candidate
    difference: Interval
    p: float
    needed: Needed

    @property
    def clear(self) -> bool:
        """Whether the difference is more than chance."""
        return self.p < ALPHA


@dataclass(frozen=True)
class Recommendation:
    """What to take on one task. ``chosen`` is None where nothing can be.

    ``kind``: ``method``, ``baseline`` (nothing inside is clearly above every one) or ``none``.
    ``best`` is the highest inside the budget, ``to_best`` its score beside the chosen one's (None
    where they are the same), ``considered`` how many were clearly above the baselines and inside.
    ``outside`` is the highest clear one outside the budget, if it scores higher than the chosen.
    ``promising`` is, where a baseline is taken, the highest method inside the budget that scores
    higher than all its baselines, beside the one that is hardest to tell it from.
    ``missing`` are baselines that are not there yet and keep a method from being clear; then
    nothing is chosen. ``unmeasured``: clear methods of which a limited cost was not measured.
    ``unfinished``: cells of which final runs are still to come.
    """

    task: str
    budget: Budget
    kind: Literal["method", "baseline", "none"]
    chosen: Candidate | None
    best: Candidate | None
    to_best: Rival | None
    considered: int
    outside: Rival | None
    promising: Rival | None
    missing: tuple[str, ...]
    unmeasured: tuple[Candidate, ...]
    unfinished: tuple[Cell, ...]
    candidates: tuple[Candidate, ...]


def recommend(cells: Sequence[Cell], budget: Budget | None = None) -> Recommendation:
    """What to take of one task's cells, by the rule above."""
    budget = budget or Budget()
    found = candidates(cells, budget)
    clear = [c for c in found if c.clear]
    pool = [c for c in clear if c.inside]
    kind: Literal["method", "baseline", "none"] = "method" if pool else "none"
    waiting = [c.verdict for c in found if not c.cell.baseline and c.verdict and not clear]
    missing = [n for v in waiting if v.standing in ("above", "none") for n in v.missing]
    if not pool and not missing:
        pool = [c for c in found if c.cell.baseline and c.inside]
        kind = "baseline" if pool else "none"
    best = max(pool, key=lambda c: c.interval.estimate) if pool else None
    chosen = min(_left(best, pool, budget), key=lambda c: _price(c, budget)) if best else None
    outside = max(
        (c for c in clear if not c.inside), key=lambda c: c.interval.estimate, default=None
    )
    higher = chosen and outside and outside.interval.estimate > chosen.interval.estimate
    return Recommendation(
        task=cells[0].task if cells else "",
        budget=budget,
        kind=kind,
        chosen=chosen,
        best=best,
        to_best=_rival(best, chosen) if best and chosen and best is not chosen else None,
        considered=len(pool),
        outside=_rival(outside, chosen) if higher and outside and chosen else None,
        promising=_promising(found) if kind == "baseline" else None,
        missing=tuple(dict.fromkeys(missing)),
        unmeasured=tuple(c for c in clear if c.unknown and not c.over),
        unfinished=tuple(c for c in cells if not c.finished),
        candidates=tuple(found),
    )


def candidates(cells: Sequence[Cell], budget: Budget) -> list[Candidate]:
    """Every cell with a score on the examples that most of them answered."""
    names = {f"{c.model}\n{c.method}": c for c in cells}
    scores = same_examples((name, quality(cell)) for name, cell in names.items())
    return [_candidate(names[name], found, cells, budget) for name, found in scores.items()]


def _candidate(cell: Cell, found: Scored, cells: Sequence[Cell], budget: Budget) -> Candidate:
    costs = {axis: cost for axis in AXES if (cost := cost_of(cell, axis)) is not None}
    limits = budget.limits if cell.model != NO_MODEL else {}
    return Candidate(
        cell=cell,
        quality=found,
        interval=interval_of(found),
        costs=costs,
        lost=lost_seeds(cell),
        verdict=None if cell.model == NO_MODEL else beside_baselines(cell, found, cells),
        over=tuple(a for a, most in limits.items() if a in costs and costs[a].value > most),
        unknown=tuple(a for a in limits if a not in costs),
    )


def _left(best: Candidate, pool: Sequence[Candidate], budget: Budget) -> list[Candidate]:
    """Step 2: the best, and those that it does not rule out."""
    others = [c for c in pool if c is not best]
    if budget.within is not None:
        most = budget.within * (best.quality.highest / 100)
        losses = [best.interval.estimate - c.interval.estimate for c in others]
        near = [c for c, loss in zip(others, losses, strict=True) if loss <= most + 1e-12]
        return [best, *near]
    p = holm([cautious(best.quality, c.quality).p for c in others])
    return [best, *(c for c, value in zip(others, p, strict=True) if value >= ALPHA)]


def _price(candidate: Candidate, budget: Budget) -> tuple[int, int, float, float]:
    """What sorts by cheapness: no model, then the known costs, then the unknown."""
    estimate = -candidate.interval.estimate
    if candidate.cell.model == NO_MODEL:
        return 0, 0, estimate, float(WITHOUT_MODEL.index(candidate.cell.name))
    cost = candidate.costs.get(budget.by)
    return (2, 0, 0.0, estimate) if cost is None else (1, 0, cost.value, estimate)


def _rival(
    other: Candidate, chosen: Candidate, p: float | None = None, level: float = ALPHA
) -> Rival:
    difference = cautious(other.quality, chosen.quality)
    once = (other.cell.once, chosen.cell.once)
    more = needed(other.quality, chosen.quality, once, level)
    return Rival(other, difference, difference.p if p is None else p, more)


def _promising(found: Sequence[Candidate]) -> Rival | None:
    """The highest method that scores above its baselines, beside the hardest of them.

    None where there is none: then no number of seeds or examples speaks for a method.
    """
    above = {
        c: c.verdict.against
        for c in found
        if not c.cell.baseline
        and c.inside
        and c.verdict is not None
        and c.verdict.against
        and all(one.difference.estimate > 0 for one in c.verdict.against)
    }
    if not above:
        return None
    top = max(above, key=lambda c: c.interval.estimate)
    hardest = max(above[top], key=lambda one: (one.p_holm, one.baseline))
    beside = next(
        c
        for c in found
        if c.cell.method == hardest.baseline and c.cell.model in (NO_MODEL, top.cell.model)
    )
    # What Holm's correction leaves for the hardest of k is between 0.05 / k and 0.05.
    return _rival(top, beside, hardest.p_holm, ALPHA / len(above[top]))
