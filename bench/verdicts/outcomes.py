"""What the package says of drawn studies, and whether it is true."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import log
from typing import Any

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.pareto.recommend import WITHIN_POINTS, recommend
from paretune.analysis.statistics import differences
from paretune.analysis.statistics.multiple_testing import correct_for_looks
from paretune.study import Study
from verdicts.rules import Pairs, correct, judge_by_rules
from verdicts.scenarios import DEFAULT, METHODS, Scenario
from verdicts.studies import (
    FREE_MEGABYTES,
    MEGABYTES,
    build_cells,
    build_study,
    play_passes,
)
from verdicts.worlds import Design, Drawn, Truth, World, draw_study

MODEL = "m"
LEVEL = 0.05
FACTORS = (1.0, 1.2, 1.5)
"""Of the rows' variance under cross-validation, with which the package's rule is asked."""
BINS = (0.05, 0.25, 0.5, 0.75)
"""Where a chance that is said goes into the next bin."""
MOST_ROWS = 10_000
"""Larger studies are not simulated when a pilot asks for them."""
_SAME = 2e-3
"""True scores this close are equal: a fifth of a point."""


class Tally:
    """Counts of events among chances: ``tally.count("coverage", covered)``."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._chances: Counter[str] = Counter()

    def count(self, name: str, happened: float) -> None:
        """One more chance of ``name``, and whether it happened (or a value to average)."""
        self._sums[name] += float(happened)
        self._chances[name] += 1

    def means(self) -> dict[str, float]:
        """Of every name."""
        return {name: self._sums[name] / count for name, count in self._chances.items()}

    def chances(self) -> dict[str, int]:
        """Of every name."""
        return dict(self._chances)

    def pair(self, name: str) -> tuple[float, int]:
        """The sum of ``name`` and its chances."""
        return self._sums.get(name, 0.0), self._chances[name]


def simulate(scenario: Scenario, studies: int | None = None, processes: int = 1) -> dict[str, Any]:
    """Shares and means over the studies, their standard errors, and the chances of each.

    Every study has a seed of its own: the same are drawn whatever the number of processes.
    """
    count = studies or scenario.studies
    if processes == 1:
        tallies = [judge_study(scenario, number) for number in range(count)]
    else:
        with ProcessPoolExecutor(processes) as pool:
            judge = partial(judge_study, scenario)
            tallies = list(pool.map(judge, range(count), chunksize=5))
    means: dict[str, float] = {}
    errors: dict[str, float] = {}
    chances: dict[str, int] = {}
    for name in sorted({name for tally in tallies for name in tally.chances()}):
        sums, counts = np.array([tally.pair(name) for tally in tallies], dtype=float).T
        chances[name] = int(counts.sum())
        means[name] = float(sums.sum()) / chances[name]
        # Of a ratio: what a study counts of one name is not independent.
        scatter = float(((sums - means[name] * counts) ** 2).sum()) ** 0.5
        # What never happened may be rare: as if it had half a time.
        errors[name] = max(scatter, 0.5) / chances[name]
    return {"studies": count, "means": means, "errors": errors, "chances": chances}


def judge_study(scenario: Scenario, number: int) -> Tally:
    """Draw one study, and count what is said of it."""
    tally = Tally()
    rng = np.random.default_rng([17, zlib.crc32(scenario.name.encode()), number])
    world = scenario.make_world(rng)
    drawn, truths = draw_study(world, scenario.design, rng), world.truths
    study, records = build_study(drawn, world.metric, scenario.reference, scenario.until)
    cells = play_passes(study, records) if scenario.until else group_into_cells(study, records)
    if scenario.until:
        methods = [cell for cell in cells if not cell.baseline]
        tally.count("runs of a method", sum(len(cell.final) for cell in methods) / len(methods))
    if scenario.kind == "sample size":
        judge_sample_size(tally, cells, world, scenario.design, rng)
        return tally
    comparisons = compare_cells(study, cells)
    judge_scores(tally, cells, truths)
    if scenario.kind == "choice":
        judge_recommendation(tally, cells, comparisons, truths)
        return tally
    pairs = _package_pairs(comparisons)
    false_pair = judge_pairs(tally, "", pairs, truths)
    judge_steadiness(tally, pairs[0], world)
    if scenario.kind == "default":
        judge_default(tally, pairs[1], truths)
    false_lead = judge_baselines(tally, cells, comparisons, truths)
    tally.count("any false claim", false_pair or false_lead)
    judge_ranks(tally, comparisons, truths)
    judge_rules(tally, cells, drawn, scenario, truths)
    return tally


def compare_cells(study: Study, cells: Sequence[Cell]) -> PairwiseComparisons:
    """As the study asks for it: against its reference, or all pairs."""
    if study.protocol.reference is None:
        return PairwiseComparisons(cells)
    return PairwiseComparisons(cells, reference=study.protocol.reference)


def judge_scores(tally: Tally, cells: Sequence[Cell], truths: Mapping[str, Truth]) -> None:
    """Whether the intervals of methods hold the true scores of runs that train."""
    for cell in cells:
        if not cell.baseline and (interval := cell.interval) is not None:
            covered = interval.low <= truths[cell.method].trained <= interval.high
            tally.count("coverage", covered)
            tally.count("half width", (interval.high - interval.low) / 2)


def _package_pairs(comparisons: PairwiseComparisons) -> tuple[Pairs, Pairs]:
    """Difference and p-value of each pair of methods: alone, and in the family."""
    pairs = [p for p in comparisons.pairs(MODEL) if {p.a, p.b} <= set(METHODS)]
    alone = {
        (p.a, p.b): (p.difference.estimate, correct_for_looks(p.difference.p, p.looks))
        for p in pairs
    }
    # A pair without a verdict is no claim, whatever its p-value.
    family = {
        (p.a, p.b): (p.difference.estimate, 0.0 if p.standing in ("above", "below") else 1.0)
        for p in pairs
    }
    return alone, family


def judge_pairs(
    tally: Tally, rule: str, pairs: tuple[Pairs, Pairs], truths: Mapping[str, Truth]
) -> bool:
    """Errors among equal pairs, power by true difference, and whether a claim in the family is
    false.
    """
    alone, family = pairs
    false = False
    for (a, b), (difference, p) in alone.items():
        gap = truths[a].trained - truths[b].trained
        claimed = family[a, b][1] < LEVEL
        if abs(gap) < _SAME:
            tally.count(f"{rule}single error", p < LEVEL)
        else:
            points, right = round(100 * abs(gap)), difference * gap > 0
            tally.count(f"{rule}single power {points}", right and p < LEVEL)
            tally.count(f"{rule}family power {points}", right and claimed)
        false |= claimed and _is_false(difference, gap)
    tally.count(f"{rule}false claim", false)
    return false


def _is_false(difference: float, gap: float) -> bool:
    """Whether a claimed difference is none, or the other way round."""
    return abs(gap) < _SAME or difference * gap < 0


def judge_steadiness(tally: Tally, alone: Pairs, world: World) -> None:
    """Where some methods scatter more: pairs of steady ones, and pairs with an unsteady one."""
    spreads = {c.name: c.seed_sd for c in world.contenders if c.name in METHODS and c.seed_sd}
    if len({*spreads.values()}) < 2:
        return
    steadiest = min(spreads.values())
    for (a, b), (difference, p) in alone.items():
        kind = "steady" if spreads[a] == spreads[b] == steadiest else "unsteady"
        gap = world.truths[a].trained - world.truths[b].trained
        if abs(gap) < _SAME:
            tally.count(f"{kind} single error", p < LEVEL)
        else:
            detected = difference * gap > 0 and p < LEVEL
            tally.count(f"{kind} single power {round(100 * abs(gap))}", detected)


def judge_default(tally: Tally, family: Pairs, truths: Mapping[str, Truth]) -> None:
    """How often the methods that exceed the default are proven to."""
    for (a, b), (difference, p) in family.items():
        gap = truths[a].trained - truths[b].trained
        if DEFAULT in (a, b) and abs(gap) >= _SAME:
            detected = difference * gap > 0 and p < LEVEL
            tally.count(f"default power {round(100 * abs(gap))}", detected)


def judge_baselines(
    tally: Tally,
    cells: Sequence[Cell],
    comparisons: PairwiseComparisons,
    truths: Mapping[str, Truth],
) -> bool:
    """Whether "better than every baseline" is said falsely, or where it is true.

    Returns whether any claim is false of a method and the best baseline, either way.
    """
    best = max(("head_only", "tfidf"), key=lambda name: truths[name].trained)
    false, false_above = False, False
    for cell in cells:
        verdict = comparisons.verdict(cell)
        if cell.baseline or verdict is None:
            continue
        lead = truths[cell.method].trained - truths[best].trained
        if lead > _SAME:
            tally.count(f"baseline power {round(100 * lead)}", verdict.above_all)
        false_above |= verdict.above_all and lead <= _SAME
        for pair in verdict.comparisons:
            claimed = pair.b == best and pair.standing != "unclear"
            false |= claimed and _is_false(pair.difference.estimate, lead)
    tally.count("false above baselines", false_above)
    tally.count("false against the best baseline", false)
    return false


def judge_ranks(
    tally: Tally, comparisons: PairwiseComparisons, truths: Mapping[str, Truth]
) -> None:
    """Whether all ranks hold."""
    ranges = comparisons.ranks(MODEL)
    consistent = True
    for name, ranks in ranges.items():
        true = truths[name].trained
        above = sum(truths[rival].trained > true + _SAME for rival in ranges)
        below = sum(truths[rival].trained < true - _SAME for rival in ranges)
        # Equal methods may have any of their ranks: both ranges must meet.
        consistent &= ranks.best <= len(ranges) - below and ranks.worst >= above + 1
    tally.count("ranks held", consistent)


def judge_rules(
    tally: Tally,
    cells: Sequence[Cell],
    drawn: Drawn,
    scenario: Scenario,
    truths: Mapping[str, Truth],
) -> None:
    """The same of textbook rules, and of the package's rule with other factors."""
    plain = scenario.metric == "accuracy" and scenario.cluster == 1 and "fail" not in scenario.runs
    if not plain or scenario.design.repeats > 1 or scenario.methods > 4:
        return
    right = {
        name: (answers == drawn.labels).astype(float)
        for name, answers in drawn.answers.items()
        if name in METHODS
    }
    for rule, pairs in judge_by_rules(right, None if drawn.folds is None else drawn.folds[0]):
        judge_pairs(tally, f"{rule}: ", (pairs, correct(pairs, len(right))), truths)
    for factor in FACTORS if scenario.design.folds else ():
        with _use_factor(factor):
            judged = _package_pairs(PairwiseComparisons(cells))
        judge_pairs(tally, f"c = {factor}: ", judged, truths)


@contextmanager
def _use_factor(factor: float) -> Iterator[None]:
    usual = differences.ROW_FACTOR
    differences.ROW_FACTOR = factor
    try:
        yield
    finally:
        differences.ROW_FACTOR = usual


def judge_recommendation(
    tally: Tally,
    cells: Sequence[Cell],
    comparisons: PairwiseComparisons,
    truths: Mapping[str, Truth],
) -> None:
    """Points lost and memory taken beside two rules that only look; what is said of the choice.

    Chances are that it is the best, that it is more than a point below the best, and that it is
    below TF-IDF; each goes into the bin of what is said.
    """
    best = max(truth.expected for truth in truths.values())
    recommendation = recommend(cells, comparisons=comparisons)
    chosen = recommendation.chosen
    scored = {c.method: c.interval.estimate for c in cells if c.interval and c.method in truths}
    highest = max(scored, key=scored.__getitem__)
    near = [n for n, score in scored.items() if score >= scored[highest] - WITHIN_POINTS / 100]
    names = {
        # A user to whom nothing is recommended stays with what needs no model.
        "recommended": chosen.cell.method if chosen else "tfidf",
        "highest": highest,
        "cheapest within a point": min(near, key=memory_of),
    }
    for rule, name in names.items():
        tally.count(f"regret, {rule}", 100 * (best - truths[name].expected))
        tally.count(f"log memory, {rule}", log(memory_of(name)))
    if chosen is None:
        return
    cell = chosen.cell
    prospect = recommendation.prospects[cell.model, cell.method]
    truth = truths[cell.method].expected
    tally.count("expected said", 100 * prospect.score)
    tally.count("expected true", 100 * truth)
    events = {
        "best": (prospect.best, truth >= best - _SAME),
        "worse": (prospect.worse, best - truth > WITHIN_POINTS / 100),
        "below TF-IDF": (prospect.below_baseline, truth < truths["tfidf"].expected),
    }
    for name, (chance, happened) in events.items():
        if chance is not None:
            place = sum(chance.share_of_draws >= edge for edge in BINS)
            tally.count(f"said {name} {place}", chance.share_of_draws)
            tally.count(f"true {name} {place}", happened)


def memory_of(name: str) -> float:
    """Megabytes of a method; of a baseline without a model what stands for none."""
    return MEGABYTES.get(name, FREE_MEGABYTES)


def judge_sample_size(
    tally: Tally, cells: Sequence[Cell], world: World, design: Design, rng: np.random.Generator
) -> None:
    """A pilot's two methods, truly 5 points apart; without a verdict, the study it asks for."""
    names = ("lora", "prompt")
    comparisons = PairwiseComparisons(cells)
    a, b = (next(c for c in cells if c.method == name) for name in names)
    pair, size = comparisons.compare(a, b), comparisons.estimate_sample_size(a, b)
    assert pair is not None and size is not None
    tally.count("pilot decides", pair.standing != "unclear")
    if pair.standing != "unclear":
        return
    for what, rows in {"the least": size.low, "the most": size.high}.items():
        possible = rows is not None and rows <= MOST_ROWS
        tally.count(f"asks for {what}", possible)
        if rows is not None and possible:
            follow_up = Design(max(rows, design.rows), design.seeds, design.folds)
            again = build_cells(draw_study(world, follow_up, rng), world.metric)
            pair = PairwiseComparisons(again).compare(
                *(next(c for c in again if c.method == name) for name in names)
            )
            tally.count(f"decided with {what}", pair is not None and pair.standing == "above")
