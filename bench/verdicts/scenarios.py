"""What is simulated: worlds and designs, and what each shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from replay import load_pools

from verdicts.generator import Design
from verdicts.worlds import Contender, Steadiness, World

Kind = Literal["equal", "steps", "choice", "chances", "sample size", "replay"]

METHODS = ("full", "lora", "loha", "prompt")
EQUAL_SCORE = {"accuracy": 0.70, "macro_f1": 0.60, "accuracy_f1": 0.65, "r2": 0.50}
PRIORS = {
    "accuracy": (0.5, 0.5),
    "macro_f1": (0.7, 0.2, 0.1),
    "accuracy_f1": (0.5, 0.41, 0.09),
    "r2": (0.5, 0.5),
}
"""Of CommitmentBank (accuracy and F1), and of an imbalance that is common (macro F1)."""

_SEEDS: dict[str, tuple[tuple[Steadiness, float], ...]] = {
    "calm": (("calm", 0.0),) * 4,
    "norm": (("norm", 0.0),) * 4,
    "t3": (("t3", 0.0),) * 4,
    "fail10": (("calm", 0.1),) * 4,
    "fail30": (("calm", 0.3),) * 4,
    "mixed": (("calm", 0.0), ("t3", 0.0), ("calm", 0.1), ("calm", 0.3)),
    "unequal": (("calm", 0.0), ("calm", 0.0), ("norm", 0.0), ("t3", 0.0)),
}
"""How the seeds of the four methods behave: steadiness and chance to fail."""

STEPS = (0.10, 0.05, 0.03, 0.0)
"""Leads of the four methods over the last of them and over the best baseline."""
CHOICES: dict[str, tuple[tuple[float, ...], float]] = {
    "methods far ahead": ((0.75, 0.745, 0.72, 0.68, 0.62, 0.58), 0.04),
    "some ahead": ((0.66, 0.65, 0.64, 0.63, 0.62, 0.60), 0.04),
    "nothing ahead": ((0.60,) * 6, 0.015),
}
"""Mean true scores of the four methods, the probe and TF-IDF; and the sd around them."""


@dataclass(frozen=True)
class Scenario:
    """Studies of one kind.

    Attributes:
        kind: ``equal`` (nothing differs), ``steps`` (known differences), ``choice`` (true scores
            drawn anew for each study), ``chances`` (the same, of what a recommendation says of
            itself), ``sample size`` (a pilot, then the study it asks for) or
            ``replay`` (drawn from a pool of real answers).
        seeds: a key of the seeds' behaviour.
        design: of every study.
        metric: of the task.
        world: of ``choice``; the name of the pool that is replayed.
        training: sd of the training set's effect, in logits (0.06: about a point).
        cluster: examples of a cluster.
        failures_in: whether scores are equal with failures counted; without, among trained runs.
        studies: how many, in full.
    """

    kind: Kind
    seeds: str
    design: Design
    metric: str = "accuracy"
    world: str = ""
    training: float = 0.0
    cluster: int = 1
    failures_in: bool = False
    studies: int = 1000

    @property
    def name(self) -> str:
        """Unique, and the same for the same scenario."""
        design = self.design
        parts = [self.kind, self.world, self.metric, self.seeds]
        parts += [f"n={design.rows}", f"S={design.seeds}"]
        parts += [f"K={design.folds}"] if design.folds else []
        parts += [f"training={self.training}"] if self.training else []
        parts += [f"cluster={self.cluster}"] if self.cluster > 1 else []
        parts += ["failures in"] if self.failures_in else []
        return " ".join(part for part in parts if part)

    def make_world(self, rng: np.random.Generator) -> World:
        """The world of the next study: always the same one, unless scores are drawn."""
        base = EQUAL_SCORE[self.metric]
        scores = [base] * 6
        if self.kind in ("steps", "sample size"):
            scores = [base - 0.05 + step for step in (*STEPS, 0.0, -0.05)]
        if self.kind in ("choice", "chances"):
            means, sd = CHOICES[self.world]
            scores = list(np.clip(np.add(means, rng.normal(0, sd, 6)), 0.52, 0.92))
        seeds = _SEEDS[self.seeds]
        contenders = [
            Contender(name, score, *behaviour)
            for name, score, behaviour in zip(METHODS, scores, seeds, strict=False)
        ]
        contenders += [Contender("head_only", scores[4]), Contender("tfidf", scores[5], None)]
        return World(
            tuple(contenders),
            metric=self.metric,
            priors=PRIORS[self.metric],
            training=self.training,
            cluster=self.cluster,
            failures_in=self.failures_in,
        )


def list_scenarios() -> list[Scenario]:
    """All of the page."""
    every = (*_errors(), *_power(), *_choices(), *_chances(), *_sample_sizes(), *_replays())
    return list({scenario.name: scenario for scenario in every}.values())


def _errors() -> Iterator[Scenario]:
    every = ("calm", "norm", "unequal", "fail10", "fail30", "mixed")
    for rows, seeds in ((18, 3), (56, 3), (56, 5), (100, 5), (300, 3), (300, 5)):
        for behaviour in every:
            yield from _with_failures(Scenario("equal", behaviour, Design(rows, seeds)))
    yield Scenario("equal", "norm", Design(56, 2))
    yield Scenario("equal", "t3", Design(56, 3))
    for behaviour in every:
        yield from _with_failures(Scenario("equal", behaviour, Design(3000, 5), studies=300))
    for metric in ("macro_f1", "accuracy_f1", "r2"):
        for behaviour in ("norm", "mixed"):
            for rows, seeds in ((56, 3), (300, 5)):
                alike = Scenario("equal", behaviour, Design(rows, seeds), metric, studies=600)
                yield from _with_failures(alike)
    for rows, seeds in ((100, 5), (300, 3)):
        yield Scenario("equal", "norm", Design(rows, seeds), cluster=5)
    for rows, seeds in ((110, 5), (300, 5), (300, 20), (900, 5)):
        for behaviour in ("calm", "norm", "unequal", "fail30", "mixed"):
            crossed = Scenario("equal", behaviour, Design(rows, seeds, 5), studies=600)
            yield from _with_failures(crossed)
    for rows, training in ((110, 0.06), (300, 0.03), (300, 0.06), (900, 0.03), (300, 0.18)):
        crossed = Scenario("equal", "norm", Design(rows, 5, 5), training=training, studies=600)
        yield crossed
    for metric in ("macro_f1", "accuracy_f1", "r2"):
        yield Scenario("equal", "norm", Design(300, 5, 5), metric, studies=600)
    yield Scenario("equal", "norm", Design(300, 5, 5), cluster=5, studies=600)


def _with_failures(scenario: Scenario) -> Iterator[Scenario]:
    """Where seeds fail: equal among runs that train, and equal with failures counted."""
    yield scenario
    if any(failing for _, failing in _SEEDS[scenario.seeds]):
        yield replace(scenario, failures_in=True)


def _power() -> Iterator[Scenario]:
    for rows, seeds in ((56, 3), (56, 5), (100, 5), (300, 3), (300, 5)):
        for behaviour in ("calm", "norm"):
            yield Scenario("steps", behaviour, Design(rows, seeds), studies=600)
    # The same labelled rows, tested by a split as the published ones and by cross-validation.
    for labelled, tested in ((110, 18), (300, 30), (500, 100)):
        for behaviour in ("calm", "norm"):
            yield Scenario("steps", behaviour, Design(tested, 5), studies=600)
            yield Scenario("steps", behaviour, Design(labelled, 5, 5), studies=600)
        yield Scenario("steps", "norm", Design(labelled, 20, 5), studies=300)


def _choices() -> Iterator[Scenario]:
    for world in CHOICES:
        for rows, seeds in ((56, 3), (100, 5)):
            for behaviour in ("norm", "mixed"):
                yield Scenario("choice", behaviour, Design(rows, seeds), world=world, studies=500)
        yield Scenario("choice", "norm", Design(300, 3), world=world, studies=500)
        yield Scenario("choice", "norm", Design(300, 5, 5), world=world, studies=300)


def _chances() -> Iterator[Scenario]:
    designs = ((Design(56, 3), "norm"), (Design(100, 5), "mixed"), (Design(300, 5, 5), "norm"))
    for world in CHOICES:
        for design, behaviour in designs:
            yield Scenario("chances", behaviour, design, world=world, studies=500)


def _sample_sizes() -> Iterator[Scenario]:
    for behaviour in ("calm", "norm"):
        for rows, seeds in ((56, 5), (100, 5)):
            yield Scenario("sample size", behaviour, Design(rows, seeds), studies=400)


def _replays() -> Iterator[Scenario]:
    for pool in load_pools():
        for rows, seeds in ((56, 3), (100, 5)) if pool.folds is None else ((110, 5), (250, 5)):
            design = Design(rows, seeds, 0 if pool.folds is None else pool.num_folds)
            yield Scenario("replay", "", design, pool.metric, world=pool.name, studies=500)
