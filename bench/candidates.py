"""How often a stream of candidates that equal the champion keeps one, and what it finds.

    python bench/candidates.py [STREAMS]     (prints three tables; minutes)

Answers are drawn as rows of different difficulty, runs that are better or worse as a whole, and
chance in single answers. All candidates of a stream meet the same champion's runs and the same
rows. Each is looked at with two, four and six seeds, and is kept at the first look at which
``paretune judge`` keeps it; that it drops some in between can only lower the share of streams that
keep one. The formulas are those of the package for accuracy, for all candidates at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from paretune.judging.ledger import level_of_look

Array = NDArray[Any]
CANDIDATES = 200
SEEDS = (2, 4, 6)
"""Of a candidate at each look."""
LEVELS = (0.05, 0.01, 1e-3, 1e-4)
ANSWER_NOISE = 0.5
"""Of single answers, beside a standard deviation of 1 between rows."""


def draw_difficulties(rows: int, rng: np.random.Generator) -> Array:
    """(rows,): how easy each row is; 0.8 on average, so that 76 % of answers are right."""
    return rng.normal(0.8, 1, rows).astype(np.float32)


def draw_answers(
    shape: tuple[int, ...], easy: Array, run_sd: float, rng: np.random.Generator, lead: float = 0
) -> Array:
    """Whether runs of the shape answer rightly, (*shape, rows)."""
    runs = rng.normal(lead, run_sd, shape).astype(np.float32)
    noise = rng.standard_normal((*shape, len(easy)), dtype=np.float32)
    return easy + runs[..., None] + np.float32(ANSWER_NOISE) * noise > 0


def estimate(champion: Array, candidates: Array) -> tuple[Array, Array, Array, Array]:
    """Difference, rows' variance, and the scatter of runs of both, for each candidate.

    Args:
        champion: (runs, rows)
        candidates: (candidates, runs, rows)
    """
    runs_a, rows = champion.shape
    runs_b = candidates.shape[1]
    gap = candidates.mean(axis=1) - champion.mean(axis=0)
    spread = 0.5 * np.sqrt(1 / runs_a + 1 / runs_b)
    first, second = gap.sum(axis=1), (gap**2).sum(axis=1) + 2 * spread**2
    imaginary = (second / (rows + 2) - (first / (rows + 2)) ** 2) / (rows + 2)
    of_rows = np.maximum(gap.var(axis=1, ddof=1) / rows, imaginary)
    noise = sum(
        estimate_noise(side) if side.shape[-2] > 1 else 0.0 for side in (champion, candidates)
    )
    scatters = [side.mean(axis=-1).var(axis=-1, ddof=1) for side in (champion, candidates)]
    return gap.mean(axis=1), np.maximum(of_rows - noise, of_rows / 4), *scatters


def estimate_noise(answers: Array) -> Array:
    """The variance of the mean over runs that neither the run nor the row explains."""
    runs, rows = answers.shape[-2:]
    of_runs, of_rows = answers.mean(axis=-1), answers.mean(axis=-2)
    squares = answers.sum(axis=(-1, -2)) - rows * (of_runs**2).sum(axis=-1)
    squares = squares - runs * (of_rows**2).sum(axis=-1)
    squares = squares + runs * rows * of_runs.mean(axis=-1) ** 2
    return np.asarray(squares / ((runs - 1) * (rows - 1) * runs * rows))


def compute_p_values(champion: Array, candidates: Array) -> Mapping[str, Array]:
    """One-sided p-values by the rule of candidates, by that of reports, and by the gate's."""
    runs_a, rows = champion.shape
    runs_b = candidates.shape[1]
    gap, of_rows, scatter_a, scatter_b = estimate(champion, candidates)
    degrees = runs_a + runs_b - 2
    pooled = ((runs_a - 1) * scatter_a + (runs_b - 1) * scatter_b) / degrees
    variance = of_rows + pooled / runs_a + np.maximum(pooled, scatter_b) / runs_b
    candidate_rule = special.stdtr(min(degrees, rows - 1), -gap / np.sqrt(variance))
    centre = (scatter_a + scatter_b) / 2
    parts = [(of_rows, rows - 1.0)]
    for scatter, runs in ((scatter_a, runs_a), (scatter_b, runs_b)):
        freedom = runs - 0.5  # with half a degree of the prior
        parts.append(((0.5 * centre + (runs - 1) * scatter) / freedom / runs, freedom))
    total = sum(part for part, _ in parts)
    satterthwaite = total**2 / sum(part**2 / freedom for part, freedom in parts)
    report_rule = special.stdtr(satterthwaite, -gap / np.sqrt(total))
    quantiles = sum(special.stdtrit(freedom, 0.95) * part for part, freedom in parts)
    return {
        "candidates": candidate_rule,
        "reports": report_rule,
        # No p-value: whether a gate passes one that is worse by the whole margin.
        "gate": np.where(gap > quantiles / np.sqrt(total), 0.0, 1.0),
    }


def run_streams(
    streams: int, rows: int, champion_runs: int, run_sd: float, rng: np.random.Generator
) -> dict[str, float]:
    """The share of streams of equal candidates in which a rule keeps any."""
    levels = np.array([level_of_look(k + 1) for k in range(CANDIDATES)])
    kept = dict.fromkeys(("paretune", "p < 0.05", "better mean of two seeds"), 0)
    for _ in range(streams):
        easy = draw_difficulties(rows, rng)
        champion = draw_answers((champion_runs,), easy, run_sd, rng)
        candidates = draw_answers((CANDIDATES, SEEDS[-1]), easy, run_sd, rng)
        looks = [compute_p_values(champion, candidates[:, :seeds]) for seeds in SEEDS]
        kept["paretune"] += any((look["candidates"] <= levels).any() for look in looks)
        kept["p < 0.05"] += bool((looks[0]["reports"] <= 0.05 / 2).any())
        two = candidates[:, :2].mean(axis=(1, 2)) > champion[:2].mean()
        kept["better mean of two seeds"] += bool(two.any())
    return {rule: count / streams for rule, count in kept.items()}


def calibrate(
    draws: int, rows: int, run_sd: float, runs: tuple[int, int], times: float, seed: int
) -> dict[str, Array]:
    """How often p-values are under :data:`LEVELS`, over these.

    Args:
        runs: of the champion and of a candidate.
        times: by which a candidate scatters more than the champion.
    """
    rng = np.random.default_rng(seed)
    shares: dict[str, list[list[float]]] = {}
    for _ in range(draws):
        easy = draw_difficulties(rows, rng)
        champion = draw_answers(runs[:1], easy, run_sd, rng)
        candidates = draw_answers((CANDIDATES, runs[1]), easy, run_sd * times, rng)
        for rule, p in compute_p_values(champion, candidates).items():
            shares.setdefault(rule, []).append([float(np.mean(p <= level)) for level in LEVELS])
    return {rule: np.mean(table, axis=0) / LEVELS for rule, table in shares.items()}


def find_power(
    streams: int, rows: int, champion_runs: int, run_sd: float, lead: float
) -> tuple[float, Array]:
    """The lead in points, and the share of better candidates that is kept, (number, look).

    The numbers are the first, tenth, fortieth and two-hundredth candidate.
    """
    rng = np.random.default_rng(3)
    levels = np.array([level_of_look(k) for k in (1, 10, 40, 200)])
    shares, leads = [], []
    for _ in range(streams):
        easy = draw_difficulties(rows, rng)
        champion = draw_answers((champion_runs,), easy, run_sd, rng)
        candidates = draw_answers((20, SEEDS[-1]), easy, run_sd, rng, lead)
        leads.append(candidates.mean() - champion.mean())
        looks = np.array(
            [compute_p_values(champion, candidates[:, :seeds])["candidates"] for seeds in SEEDS]
        )
        kept = looks[None] <= levels[:, None, None]
        shares.append(np.logical_or.accumulate(kept, axis=1).mean(axis=-1))
    return 100 * float(np.mean(leads)), np.mean(shares, axis=0)


def main(streams: int = 1000) -> None:
    """Print the three tables."""
    print(f"Streams of {CANDIDATES} candidates that equal the champion, {streams} a line: kept any")
    for rows, champion_runs, run_sd in (
        (100, 6, 0.1), (300, 2, 0.1), (300, 6, 0.02), (300, 6, 0.1), (300, 10, 0.3), (1000, 6, 0.1),
    ):  # fmt: skip
        kept = run_streams(streams, rows, champion_runs, run_sd, np.random.default_rng(1))
        line = ", ".join(f"{rule} {100 * share:.1f} %" for rule, share in kept.items())
        print(f"  {rows} rows, {champion_runs} runs of the champion, run sd {run_sd}: {line}")
    print(f"P-values of equal candidates under {LEVELS}, over these")
    for times in (1, 2):
        for runs in ((2, 2), (6, 2), (6, 4)):
            worst: dict[str, Array] = {}
            for rows in (100, 300, 1000):
                for run_sd in (0.02, 0.1, 0.3):
                    for rule, excess in calibrate(150, rows, run_sd, runs, times, 2).items():
                        worst[rule] = np.maximum(worst.get(rule, 0), excess)
            gate = 5 * worst.pop("gate")[0]
            line = "; ".join(f"{rule} {np.round(r, 1).tolist()}" for rule, r in worst.items())
            line = f"{line}; a gate passes {gate:.1f} % of what is worse by its margin"
            print(f"  {runs} runs, scatter x {times}, worst of nine cases: {line}")
    print(
        "Better candidates kept by looks 1, 2, 3, as number 1, 10, 40, 200 (300 rows, run sd 0.1)"
    )
    for champion_runs in (6, 12):
        for lead in (0.1, 0.2, 0.4):
            points, power = find_power(200, 300, champion_runs, 0.1, lead)
            print(f"  {champion_runs} runs of the champion, +{points:.1f} points:", end=" ")
            print(np.round(100 * power).astype(int).tolist())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
