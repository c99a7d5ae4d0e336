"""What the package says of one study, and whether it is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from paretune import metrics
from paretune.analysis.cell import Cell
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.pareto.recommend import recommend
from verdicts.studies import FREE_MEGABYTES, MEGABYTES

MODEL = "m"
LEVEL = 0.05
_SAME = 1e-9
BINS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Where a chance that is said goes into the next bin."""


@dataclass(frozen=True)
class Truth:
    """True scores of a method's runs that train, and of its next run, which may fail."""

    trained: float
    expected: float


class Tally:
    """Counts of events among chances: ``tally.count("coverage", held)``."""

    def __init__(self) -> None:
        self._happened: dict[str, float] = {}
        self._chances: Counter[str] = Counter()

    def count(self, name: str, happened: float) -> None:
        """One more chance of ``name``, and whether it happened (or a value to average)."""
        self._happened[name] = self._happened.get(name, 0.0) + float(happened)
        self._chances[name] += 1

    def means(self) -> dict[str, float]:
        """Of every name."""
        return {name: self._happened[name] / count for name, count in self._chances.items()}

    def chances(self) -> dict[str, int]:
        """Of every name."""
        return dict(self._chances)


def judge_scores(tally: Tally, cells: Sequence[Cell], truths: Mapping[str, Truth]) -> None:
    """Whether the intervals of seeded methods hold their true scores, and their half widths."""
    for cell in cells:
        if cell.deterministic:
            continue
        interval, truth = cell.interval, truths[cell.method]
        tally.count("no score", interval is None)
        if interval is None:
            continue
        tally.count("coverage of trained", interval.low <= truth.trained <= interval.high)
        tally.count("coverage of expected", interval.low <= truth.expected <= interval.high)
        tally.count("half width", (interval.high - interval.low) / 2)


def judge_pairs(
    tally: Tally, comparisons: PairwiseComparisons, truths: Mapping[str, Truth]
) -> None:
    """Errors among equal pairs, power by true difference, and false claims in the family.

    A claim is false of trained runs if the method is truly no better among runs that train, and
    made false by failures if it is better there but its next run is not.
    """
    false_trained = false_expected = False
    for pair in comparisons.pairs(MODEL):
        if not {pair.a, pair.b} <= MEGABYTES.keys() - {"head_only"}:
            continue
        a, b = truths[pair.a], truths[pair.b]
        gap = a.trained - b.trained
        single = pair.difference.p < LEVEL
        if abs(gap) < _SAME:
            tally.count("single error", single)
            tally.count("coverage of differences", pair.difference.low <= 0 <= pair.difference.high)
        else:
            right = single and pair.difference.estimate * gap > 0
            points = round(100 * abs(gap))
            tally.count(f"single power {points}", right)
            tally.count(f"pair power {points}", pair.standing == ("above" if gap > 0 else "below"))
            covered = pair.difference.low <= gap <= pair.difference.high
            tally.count("coverage of differences", covered)
        tally.count("pairs decided", pair.standing in ("above", "below"))
        if pair.standing in ("above", "below"):
            sign = 1 if pair.standing == "above" else -1
            false_trained |= sign * gap <= _SAME
            false_expected |= sign * (a.expected - b.expected) <= _SAME
    tally.count("false claim, trained", false_trained)
    tally.count("false claim, expected", false_expected)


def judge_baselines(
    tally: Tally,
    cells: Sequence[Cell],
    comparisons: PairwiseComparisons,
    truths: Mapping[str, Truth],
) -> None:
    """Whether "better than every baseline" is said falsely of any method, or found where true."""
    rivals = [truths["head_only"], truths["tfidf"]]
    false_trained = false_expected = False
    for cell in cells:
        verdict = comparisons.verdict(cell)
        if cell.baseline or verdict is None:
            continue
        truth = truths[cell.method]
        lead = truth.trained - max(r.trained for r in rivals)
        ahead = truth.expected - max(r.expected for r in rivals)
        if lead > _SAME:
            tally.count(f"baseline power {round(100 * lead)}", verdict.above_all)
        if verdict.above_all:
            false_trained |= lead <= _SAME
            false_expected |= ahead <= _SAME
    tally.count("false above baselines, trained", false_trained)
    tally.count("false above baselines, expected", false_expected)


def judge_ranks(
    tally: Tally, comparisons: PairwiseComparisons, truths: Mapping[str, Truth]
) -> None:
    """Whether all true ranks lie in the ranges at once; equal methods may have any of theirs."""
    ranges = comparisons.ranks(MODEL)
    all_inside = True
    for name, ranks in ranges.items():
        mine = truths[name].trained
        above = sum(truths[o].trained > mine + _SAME for o in ranges)
        below = sum(truths[o].trained < mine - _SAME for o in ranges)
        # Its true rank lies between above + 1 and all - below: both ranges must meet.
        all_inside &= ranks.best <= len(ranges) - below and ranks.worst >= above + 1
    tally.count("ranks held", all_inside)


def judge_recommendation(
    tally: Tally,
    cells: Sequence[Cell],
    comparisons: PairwiseComparisons,
    truths: Mapping[str, Truth],
) -> None:
    """Points lost and memory taken by what is recommended, beside two rules that only look."""
    best = max(t.expected for t in truths.values())
    chosen = recommend(cells, comparisons=comparisons).chosen
    scored = {c.method: c.run_scores.estimate for c in cells if c.run_scores and c.method in truths}
    within = metrics.get(cells[0].metric).highest / 100
    highest = max(scored, key=scored.__getitem__)
    near = [name for name, score in scored.items() if score >= scored[highest] - within]
    names = {
        # A user to whom nothing is recommended stays with what needs no model.
        "recommended": chosen.cell.method if chosen else "tfidf",
        "highest": highest,
        "cheapest within a point": min(near, key=memory_of),
    }
    for rule, name in names.items():
        tally.count(f"regret, {rule}", 100 * (best - truths[name].expected))
        tally.count(f"log memory, {rule}", log(memory_of(name)))
    tally.count("method recommended", names["recommended"] in MEGABYTES.keys() - {"head_only"})


def judge_chances(
    tally: Tally,
    cells: Sequence[Cell],
    comparisons: PairwiseComparisons,
    truths: Mapping[str, Truth],
) -> None:
    """What is said of the configuration that is recommended, and whether it is so.

    That it is the best, that it is more than ``within`` points below the best, and that it is below
    the best baseline without a model; each in the bin of the chance that is said.
    """
    recommendation = recommend(cells, comparisons=comparisons)
    if recommendation.chosen is None:
        return
    cell = recommendation.chosen.cell
    prospect = recommendation.prospects[cell.model, cell.method]
    mine, best = truths[cell.method].expected, max(t.expected for t in truths.values())
    within = recommendation.budget.within_points / 100
    events = {
        "the best": (prospect.chance_best, mine >= best - _SAME),
        "worse": (prospect.chance_worse, best - mine > within),
        "below tfidf": (prospect.chance_below_baseline, mine < truths["tfidf"].expected),
    }
    for name, (chance, happened) in events.items():
        if chance is not None:
            place = sum(chance >= edge for edge in BINS)
            tally.count(f"said {name} {place}", chance)
            tally.count(f"true {name} {place}", happened)
    tally.count("loss said", prospect.loss_points)
    tally.count("loss true", 100 * (best - mine))


def memory_of(name: str) -> float:
    """Megabytes of a method; of a baseline without a model what stands for none."""
    return MEGABYTES.get(name, FREE_MEGABYTES)
