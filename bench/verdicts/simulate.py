"""Simulate the studies of one scenario, and tally what is said of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from replay import FOLDER, Pool

from paretune.analysis.cell import Cell
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.statistics.sample_size import ONE_PASS
from verdicts import outcomes
from verdicts.generator import Design, Generator
from verdicts.outcomes import Tally, Truth
from verdicts.scenarios import Scenario
from verdicts.studies import build_cells
from verdicts.worlds import World

MOST_ROWS, MOST_SEEDS = 10_000, 100
"""Larger studies than these are not simulated when a pilot asks for them."""


def simulate(scenario: Scenario, studies: int | None = None) -> dict[str, Any]:
    """Shares and means over the studies, with the number of chances of each."""
    tally = Tally()
    rng = np.random.default_rng([17, zlib.crc32(scenario.name.encode())])
    count = studies or scenario.studies
    if scenario.kind == "replay":
        pool = Pool.load(FOLDER / f"{scenario.world}.json")
        truths = pool.truths()
        for _ in range(count):
            judge(
                tally, scenario, build_cells(pool.draw(scenario.design, rng), pool.metric), truths
            )
    else:
        for generator in _generators(scenario, rng, count):
            cells = build_cells(generator.draw(), scenario.metric)
            judge(tally, scenario, cells, truths_of(generator.world), generator)
    return {
        "scenario": scenario.name,
        "studies": count,
        "means": tally.means(),
        "chances": tally.chances(),
    }


def _generators(scenario: Scenario, rng: np.random.Generator, count: int) -> Iterator[Generator]:
    """One for each study: the same one, unless scores are drawn anew."""
    generator = None
    for _ in range(count):
        if generator is None or scenario.kind in ("choice", "chances"):
            world = scenario.make_world(rng)
            generator = Generator(world, scenario.design, [int(rng.integers(2**31))])
        yield generator


def truths_of(world: World) -> dict[str, Truth]:
    """True scores of every contender."""
    return {
        c.name: Truth(world.trained_score(c), world.expected_score(c)) for c in world.contenders
    }


def judge(
    tally: Tally,
    scenario: Scenario,
    cells: Sequence[Cell],
    truths: dict[str, Truth],
    generator: Generator | None = None,
) -> None:
    """Tally what the scenario is there to show."""
    if scenario.kind == "sample size":
        assert generator is not None
        judge_sample_size(tally, cells, generator)
        return
    comparisons = PairwiseComparisons(cells)
    if scenario.kind == "chances":
        outcomes.judge_chances(tally, cells, comparisons, truths)
        return
    outcomes.judge_scores(tally, cells, truths)
    if scenario.kind in ("choice", "replay"):
        outcomes.judge_recommendation(tally, cells, comparisons, truths)
    if scenario.kind == "choice":
        return
    outcomes.judge_pairs(tally, comparisons, truths)
    outcomes.judge_baselines(tally, cells, comparisons, truths)
    outcomes.judge_ranks(tally, comparisons, truths)


def judge_sample_size(tally: Tally, cells: Sequence[Cell], generator: Generator) -> None:
    """A pilot's two methods, truly 5 points apart; without a verdict, the study it asks for."""
    names = ("lora", "prompt")
    comparisons = PairwiseComparisons(cells)
    a, b = (next(c for c in cells if c.method == name) for name in names)
    pair, size = comparisons.compare(a, b), comparisons.estimate_sample_size(a, b)
    assert pair is not None and size is not None
    tally.count("pilot decides", pair.standing != "unclear")
    if pair.standing != "unclear":
        return
    design = generator.design
    designs = {
        "examples": size.examples and Design(size.examples, design.seeds),
        "seeds": size.seeds and Design(design.rows, size.seeds),
        "both": size.both and Design(size.both[1], size.both[0]),
        "cross-validated rows": size.cross_validated_rows
        and Design(size.cross_validated_rows, ONE_PASS.folds, ONE_PASS.folds),
    }
    for what, larger in designs.items():
        tally.count(f"asks for {what}", bool(larger))
        if not larger:
            continue
        feasible = larger.rows <= MOST_ROWS and larger.seeds <= MOST_SEEDS
        tally.count(f"asks for few {what}", feasible)
        if feasible:
            seed = [int(generator.rng.integers(2**31))]
            drawn = Generator(generator.world, larger, seed).draw()
            pairs = PairwiseComparisons(build_cells(drawn, "accuracy")).pairs(outcomes.MODEL)
            (decided,) = (p.standing != "unclear" for p in pairs if {p.a, p.b} == {*names})
            tally.count(f"decided with {what}", decided)
