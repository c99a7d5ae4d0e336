"""Which configuration to take: the cheapest that the best inside the budget is not clearly above.

The rule, for one task. Configurations are models x methods; seeds that were lost count
(:mod:`paretune.analysis.quality`); what is clear between two is decided elsewhere, for every output
alike (:mod:`paretune.analysis.decisions`).

0. Nothing is taken that scores no more than one answer for every example
   (:func:`~paretune.analysis.learned.floor_of`), no constant answer, no untranslated source, and
   nothing of which half of the seeds or more answer a constant.
1. A configuration may be taken if it is clearly above every baseline (none missing) and inside the
   budget; a cost that was not measured is not inside.
2. Of these the best is the one of the highest score; those that it is clearly above are out. Where
   ``within`` is given, out are instead those whose estimated loss to the best is larger.
3. Of what is left, the cheapest by the chosen cost is taken; a cost that is not known comes last.
4. If nothing inside the budget is clearly above every baseline, a guess is taken and called so: of
   those that score higher than all of their baselines the highest (with ``within``, by step 2
   and 3).
5. If nothing scores higher than its baselines, the baseline of the highest score is taken (with
   ``within``, by step 2 and 3).

No clear difference is no proof of being equal: the loss is given with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paretune.analysis.cautious import cautious
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.compare import Verdict
from paretune.analysis.costs import AXES, Axis, Spread, cost_of
from paretune.analysis.decisions import Decisions
from paretune.analysis.difference import ALPHA
from paretune.analysis.interval import Interval, Scored, interval_of
from paretune.analysis.learned import (
    TRIVIAL,
    Floor,
    Unlearned,
    floor_of,
    mostly_constant,
    unlearned,
)
from paretune.analysis.needed import Needed, needed
from paretune.analysis.quality import lost_seeds, quality, same_examples

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

    @property
    def leads(self) -> bool:
        """A method that scores higher than each of its baselines, clearly or not."""
        against = self.verdict.against if self.verdict else ()
        return bool(against) and all(one.difference.estimate > 0 for one in against)


@dataclass(frozen=True)
class Rival:
    """A configuration beside the one that was taken: its score minus the taken one's.

    ``p`` is corrected (Holm) where the two are a pair. ``needed`` would decide them.
    """

    candidate: Candidate
    difference: Interval
    p: float
    needed: Needed

    @property
    def clear(self) -> bool:
        """Whether the difference is more than chance."""
        return self.p < ALPHA


Kind = Literal["method", "guess", "baseline", "none"]


@dataclass(frozen=True)
class Recommendation:
    """What to take on one task. ``chosen`` is None where nothing can be.

    ``kind``: ``method``, ``guess`` (a method that scores higher than its baselines, not clearly),
    ``baseline`` or ``none``.
    ``best`` is the highest inside the budget, ``to_best`` its score beside the chosen one's (None
    where they are the same), ``considered`` how many the choice was among.
    ``outside`` is the highest clear one outside the budget, if it scores higher than the chosen.
    ``hardest`` is, of a guess, the chosen one beside the baseline that is hardest to tell from it
    (``hardest_baseline``).
    ``missing`` are baselines that are not there yet and keep a method from being clear; then
    nothing is chosen. ``unmeasured``: clear methods of which a limited cost was not measured.
    ``unfinished``: cells of which final runs are still to come. ``floor`` and ``unlearned``: what
    a score must exceed, and what training left constant.
    """

    task: str
    budget: Budget
    kind: Kind
    chosen: Candidate | None
    best: Candidate | None
    to_best: Rival | None
    considered: int
    outside: Rival | None
    hardest: Rival | None
    hardest_baseline: str
    missing: tuple[str, ...]
    unmeasured: tuple[Candidate, ...]
    unfinished: tuple[Cell, ...]
    candidates: tuple[Candidate, ...]
    floor: Floor | None
    unlearned: Unlearned | None


def recommend(
    cells: Sequence[Cell], budget: Budget | None = None, decided: Decisions | None = None
) -> Recommendation:
    """What to take of one task's cells, by the rule above.

    Args:
        cells: those of the task.
        budget: none by default.
        decided: what is clear between them, where that is known already.
    """
    budget, decided = budget or Budget(), decided or Decisions(cells)
    found = candidates(cells, budget, decided)
    floor = floor_of(cells)
    worth = [c for c in found if _is_worth_taking(c, floor)]
    clear = [c for c in worth if c.clear]
    waiting = [c.verdict for c in found if not c.cell.baseline and c.verdict and not clear]
    missing = [n for v in waiting if v.standing in ("above", "none") for n in v.missing]
    kind, pool = _pool(worth, missing)
    best = max(pool, key=lambda c: c.interval.estimate) if pool else None
    chosen = best
    if best and (kind == "method" or budget.within is not None):
        left = _left(best, pool, budget, decided)
        chosen = min(left, key=lambda c: _price(c, budget))
    outside = max(
        (c for c in clear if not c.inside), key=lambda c: c.interval.estimate, default=None
    )
    higher = chosen and outside and outside.interval.estimate > chosen.interval.estimate
    hardest, baseline = _hardest(chosen, found) if chosen and kind == "guess" else (None, "")
    return Recommendation(
        task=cells[0].task if cells else "",
        budget=budget,
        kind=kind,
        chosen=chosen,
        best=best,
        to_best=_rival(best, chosen, decided) if best and chosen and best is not chosen else None,
        considered=len(pool),
        outside=_rival(outside, chosen, decided) if higher and outside and chosen else None,
        hardest=hardest,
        hardest_baseline=baseline,
        missing=tuple(dict.fromkeys(missing)),
        unmeasured=tuple(c for c in clear if c.unknown and not c.over),
        unfinished=tuple(c for c in cells if not c.finished),
        candidates=tuple(found),
        floor=floor,
        unlearned=unlearned(cells),
    )


def candidates(cells: Sequence[Cell], budget: Budget, decided: Decisions) -> list[Candidate]:
    """Every cell with a score on the examples that most of them answered."""
    names = {f"{c.model}\n{c.method}": c for c in cells}
    scores = same_examples((name, quality(cell)) for name, cell in names.items())
    return [_candidate(names[name], found, budget, decided) for name, found in scores.items()]


def _candidate(cell: Cell, found: Scored, budget: Budget, decided: Decisions) -> Candidate:
    costs = {axis: cost for axis in AXES if (cost := cost_of(cell, axis)) is not None}
    limits = budget.limits if cell.model != NO_MODEL else {}
    return Candidate(
        cell=cell,
        quality=found,
        interval=interval_of(found),
        costs=costs,
        lost=lost_seeds(cell),
        verdict=decided.verdict(cell),
        over=tuple(a for a, most in limits.items() if a in costs and costs[a].value > most),
        unknown=tuple(a for a in limits if a not in costs),
    )


def _is_worth_taking(candidate: Candidate, floor: Floor | None) -> bool:
    """Step 0."""
    if candidate.cell.name in TRIVIAL or mostly_constant(candidate.cell):
        return False
    return floor is None or candidate.interval.estimate > floor.value + 1e-9


def _pool(worth: Sequence[Candidate], missing: Sequence[str]) -> tuple[Kind, list[Candidate]]:
    """What the choice is among, by steps 1, 4 and 5."""
    inside = [c for c in worth if c.inside]
    if pool := [c for c in inside if c.clear]:
        return "method", pool
    if missing:
        return "none", []
    if pool := [c for c in inside if not c.cell.baseline and c.leads]:
        return "guess", pool
    pool = [c for c in inside if c.cell.baseline]
    return ("baseline", pool) if pool else ("none", [])


def _left(
    best: Candidate, pool: Sequence[Candidate], budget: Budget, decided: Decisions
) -> list[Candidate]:
    """Step 2: the best, and those that it does not rule out."""
    others = [c for c in pool if c is not best]
    if budget.within is not None:
        most = budget.within * (best.quality.highest / 100)
        losses = [best.interval.estimate - c.interval.estimate for c in others]
        near = [c for c, loss in zip(others, losses, strict=True) if loss <= most + 1e-12]
        return [best, *near]
    below = decided.clearly_below(best.cell, [c.cell for c in others])
    return [best, *(c for c in others if c.cell not in below)]


def _price(candidate: Candidate, budget: Budget) -> tuple[int, int, float, float]:
    """What sorts by cheapness: no model, then the known costs, then the unknown."""
    estimate = -candidate.interval.estimate
    if candidate.cell.model == NO_MODEL:
        return 0, 0, estimate, float(WITHOUT_MODEL.index(candidate.cell.name))
    cost = candidate.costs.get(budget.by)
    return (2, 0, 0.0, estimate) if cost is None else (1, 0, cost.value, estimate)


def _rival(other: Candidate, chosen: Candidate, decided: Decisions) -> Rival:
    pair = decided.between(other.cell, chosen.cell)
    difference = pair.difference if pair else cautious(other.quality, chosen.quality)
    once = (other.cell.once, chosen.cell.once)
    level = ALPHA / pair.family if pair else ALPHA
    more = needed(other.quality, chosen.quality, once, level)
    return Rival(other, difference, pair.p_holm if pair else difference.p, more)


def _hardest(chosen: Candidate, found: Sequence[Candidate]) -> tuple[Rival | None, str]:
    """A guess beside the baseline that is hardest to tell from it, and that baseline."""
    against = chosen.verdict.against if chosen.verdict else ()
    hardest = max(against, key=lambda one: (one.p_holm, one.baseline), default=None)
    if hardest is None:
        return None, ""
    beside = next(
        c
        for c in found
        if c.cell.method == hardest.baseline and c.cell.model in (NO_MODEL, chosen.cell.model)
    )
    # What Holm's correction leaves for the hardest of k is between 0.05 / k and 0.05.
    once = (chosen.cell.once, beside.cell.once)
    more = needed(chosen.quality, beside.quality, once, ALPHA / len(against))
    return Rival(chosen, hardest.difference, hardest.p_holm, more), hardest.baseline
