"""What is simulated: worlds and designs, and what each shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from verdicts.worlds import NEAR_SHARE, Contender, Design, World

Kind = Literal["equal", "steps", "choice", "sample size"]

METHODS = ("full", "lora", "loha", "prompt")
SCORE = 0.70
PROBE_LAG = 0.15
STEPS = (0.10, 0.05, 0.0, 0.0)
"""Leads of the four methods over the better baseline."""
CHOICES: dict[str, tuple[tuple[float, ...], float]] = {
    "close": ((0.66, 0.66, 0.66, 0.66, 0.655, 0.65), 0.015),
    "spread": ((0.72, 0.72, 0.72, 0.72, 0.63, 0.60), 0.04),
    "failing": ((0.72, 0.72, 0.72, 0.72, 0.63, 0.60), 0.04),
}
"""Mean true scores of the four methods, the probe and TF-IDF; and the sd around them."""

_RUNS: dict[str, tuple[dict[str, Any], ...]] = {
    "calm": ({},) * 4,
    "5 points": ({"seed_sd": 0.05},) * 4,
    "heavy": ({"seed_sd": 0.05, "heavy_tailed": True},) * 4,
    "unequal": (*({"seed_sd": 0.015},) * 3, {"seed_sd": 0.105}),
    "10 % fail": ({"failing": 0.1},) * 4,
    "30 % fail": ({"failing": 0.3},) * 4,
    "some fail": ({}, {"seed_sd": 0.05, "heavy_tailed": True}, {"failing": 0.1}, {"failing": 0.3}),
    "10 % nearly collapse": ({"near": 0.1},) * 4,
    "30 % nearly collapse": ({"near": 0.3},) * 4,
}
"""How the runs of the four methods behave: calm ones scatter by 1 point."""


@dataclass(frozen=True)
class Scenario:
    """Studies of one kind.

    Attributes:
        kind: ``equal`` (nothing differs between the methods and TF-IDF, the probe is 15 points
            lower: what makes "better than every baseline" false most easily), ``steps`` (known
            differences), ``choice`` (true scores drawn anew for each study) or ``sample size`` (a
            pilot, then the study that it asks for).
        runs: how they behave; of ``choice`` its world.
        training: sd of what the training set does, in points: in all folds alike, and by fold.
        imbalanced: 85 % of the rows have one class.
        studies: how many, in full.
    """

    kind: Kind
    runs: str
    design: Design
    metric: str = "accuracy"
    training: tuple[float, float] = (0.0, 0.0)
    cluster: int = 1
    imbalanced: bool = False
    studies: int = 800

    @property
    def name(self) -> str:
        """Unique: what the studies are of."""
        return f"{self.kind}: {self.title}"

    @property
    def title(self) -> str:
        """The name without the kind."""
        design, (shared, by_fold) = self.design, self.training
        sizes = f"{design.rows} x {design.seeds}"
        if design.folds:
            passes = f", {design.repeats} passes" if design.repeats > 1 else ""
            sizes = f"{design.rows} rows in {design.folds} folds{passes}"
        parts = [sizes, self.runs]
        parts += [f"training sets {shared:g} + {by_fold:g} points"] if shared else []
        parts += [self.metric] if self.metric != "accuracy" else []
        parts += ["85 % of one class"] if self.imbalanced else []
        parts += [f"clusters of {self.cluster}"] if self.cluster > 1 else []
        return ", ".join(parts)

    def make_world(self, rng: np.random.Generator) -> World:
        """The world of the next study: always the same one, unless scores are drawn."""
        runs = _RUNS.get(self.runs, _RUNS["5 points"])
        scores = [SCORE] * 4 + [SCORE - PROBE_LAG, SCORE]
        if self.kind in ("steps", "sample size"):
            scores = [SCORE - 0.05 + step for step in (*STEPS, -0.05, 0.0)]
        if self.kind == "choice":
            means, sd = CHOICES[self.runs]
            scores = list(np.clip(np.add(means, rng.normal(0, sd, 6)), 0.52, 0.92))
            if self.runs == "failing":
                chances = rng.permutation([0.0, 0.0, *rng.choice([0.1, 0.3], 2)])
                runs = tuple({"seed_sd": 0.05, "failing": float(chance)} for chance in chances)
        if near := runs[0].get("near"):  # TF-IDF is as good as the runs that count as trained
            scores[5] += near * (NEAR_SHARE * 0.5 + (1 - NEAR_SHARE) * SCORE - SCORE)
        contenders = [
            Contender(name, score, **behaviour)
            for name, score, behaviour in zip(METHODS, scores, runs, strict=False)
        ]
        contenders += [Contender("head_only", scores[4]), Contender("tfidf", scores[5], None)]
        return World(
            tuple(contenders),
            metric=self.metric,
            priors=(0.85, 0.15) if self.imbalanced else (0.5, 0.5),
            training=(self.training[0] / 100, self.training[1] / 100),
            cluster=self.cluster,
        )


def list_scenarios() -> list[Scenario]:
    """All of the page."""
    return [*_equal(), *_steps(), *_choices(), *_sample_sizes()]


def _equal() -> Iterator[Scenario]:
    for rows, seeds in ((56, 3), (100, 5), (300, 5)):
        for runs in _RUNS:
            yield Scenario("equal", runs, Design(rows, seeds))
    for rows in (300, 500):
        design = Design(rows, 5, 5)
        for runs in ("calm", "5 points", "heavy", "unequal", "30 % fail", "30 % nearly collapse"):
            yield Scenario("equal", runs, design)
        for runs in ("calm", "5 points"):
            yield Scenario("equal", runs, design, training=(1.5, 1.5))
    for design in (Design(100, 5), Design(300, 5, 5)):
        yield Scenario("equal", "5 points", design, "macro_f1", imbalanced=True)
        yield Scenario("equal", "5 points", design, "r2")
        yield Scenario("equal", "5 points", design, cluster=5)
    for runs in ("calm", "5 points"):
        yield Scenario("equal", runs, Design(300, 20, 5))


def _steps() -> Iterator[Scenario]:
    designs = (Design(56, 3), Design(100, 5), Design(300, 5), Design(300, 5, 5), Design(500, 5, 5))
    for design in designs:
        for runs in ("calm", "5 points"):
            yield Scenario("steps", runs, design)


def _choices() -> Iterator[Scenario]:
    for world in CHOICES:
        for design in (Design(56, 3), Design(100, 5), Design(300, 5, 5)):
            yield Scenario("choice", world, design, studies=500)


def _sample_sizes() -> Iterator[Scenario]:
    for runs in ("calm", "5 points"):
        for rows, seeds in ((56, 5), (100, 5)):
            yield Scenario("sample size", runs, Design(rows, seeds), studies=400)
