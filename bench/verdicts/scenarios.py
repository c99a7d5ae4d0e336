"""What is simulated: worlds and designs, and what each shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from verdicts.worlds import NEAR_SHARE, Contender, Design, World

Kind = Literal["equal", "steps", "default", "choice", "sample size"]

METHODS = (
    "full",
    "lora",
    "loha",
    "prompt",
    "lokr",
    "dora",
    "ia3",
    "bitfit",
    "layer_norm",
    "houlsby",
    "pfeiffer",
    "parallel",
    "mam",
    "unipelt",
    "prefix",
    "p_tuning",
    "adapterdrop",
    "compacter",
)
DEFAULT = "lora"
"""The method that a study names as its reference, and that others are asked to exceed."""
SCORE = 0.70
HIGH_SCORE = 0.82
_EQUAL = ((0.0,), -0.15, 0.0)
_STEPS = ((0.05, 0.0, -0.05), -0.10, -0.05)
_LEADS: dict[Kind, tuple[tuple[float, ...], float, float]] = {
    "equal": _EQUAL,
    "steps": _STEPS,
    "sample size": _STEPS,
    "default": ((0.10, 0.0, 0.05, 0.05, 0.0), -0.15, 0.0),
}
"""Over the base score: of the methods (the last is that of the rest), the probe and TF-IDF."""
CHOICES: dict[str, tuple[tuple[float, ...], float]] = {
    "close": ((0.66, 0.66, 0.66, 0.66, 0.655, 0.65), 0.015),
    "spread": ((0.72, 0.72, 0.72, 0.72, 0.63, 0.60), 0.04),
    "failing": ((0.72, 0.72, 0.72, 0.72, 0.63, 0.60), 0.04),
}
"""Mean true scores of the four methods, the probe and TF-IDF; and the sd around them."""

_RUNS: dict[str, tuple[dict[str, Any], ...]] = {
    "calm": ({},),
    "2 points": ({"seed_sd": 0.02},),
    "5 points": ({"seed_sd": 0.05},),
    "heavy": ({"seed_sd": 0.05, "heavy_tailed": True},),
    "unequal": (*({"seed_sd": 0.015},) * 3, {"seed_sd": 0.105}),
    "some fail": ({}, {"seed_sd": 0.05, "heavy_tailed": True}, {"failing": 0.1}, {"failing": 0.3}),
    "10 % fail, 5 points": ({"failing": 0.1, "seed_sd": 0.05},),
    "30 % fail, 5 points": ({"failing": 0.3, "seed_sd": 0.05},),
    "10 % nearly collapse": ({"near": 0.1},),
}
"""How the runs of the methods behave, over and over (so that of eighteen *unequal* ones four are
unsteady): calm ones scatter by 1 point."""


@dataclass(frozen=True)
class Scenario:
    """Studies of one kind.

    Attributes:
        kind: ``equal`` (nothing differs between the methods and TF-IDF, the probe is 15 points
            lower: what makes "better than every baseline" false most easily), ``steps`` (known
            differences), ``default`` (three methods exceed :data:`DEFAULT`), ``choice`` (true
            scores drawn anew for each study) or ``sample size`` (a pilot, then the study that it
            asks for).
        runs: how they behave; of ``choice`` its world.
        training: sd of what the training set does, in points: in all folds alike, and by fold.
        priors: of the classes, the most frequent first.
        methods: how many, the first of :data:`METHODS`.
        base: true accuracy of what has no lead; ``choice`` is shifted as a whole.
        reference: of the study's protocol.
        until: of a study in passes, as ``protocol.until``; None: all runs of ``preset: trials``.
        studies: how many, in full.
    """

    kind: Kind
    runs: str
    design: Design
    metric: str = "accuracy"
    training: tuple[float, float] = (0.0, 0.0)
    cluster: int = 1
    priors: tuple[float, ...] = (0.5, 0.5)
    methods: int = 4
    base: float = SCORE
    reference: str | None = None
    until: str | None = None
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
        parts += ["85 % of one class"] if self.priors[0] == 0.85 else []
        parts += [f"{len(self.priors)} classes"] if len(self.priors) > 2 else []
        parts += [f"clusters of {self.cluster}"] if self.cluster > 1 else []
        parts += [f"{self.methods} methods"] if self.methods != 4 else []
        parts += [f"base {self.base:.2f}"] if self.base != SCORE else []
        parts += [f"{self.reference} is the reference"] if self.reference else []
        parts += [self.until] if self.until else []
        return ", ".join(parts)

    def make_world(self, rng: np.random.Generator) -> World:
        """The world of the next study: always the same one, unless scores are drawn."""
        runs = _RUNS.get(self.runs, _RUNS["5 points"])
        if self.kind == "choice":
            means, sd = CHOICES[self.runs]
            drawn = np.add(means, rng.normal(0, sd, 6)) + self.base - SCORE
            *scores, probe, tfidf = np.clip(drawn, 0.52, 0.92)
            if self.runs == "failing":
                chances = rng.permutation([0.0, 0.0, *rng.choice([0.1, 0.3], 2)])
                runs = tuple({"seed_sd": 0.05, "failing": float(chance)} for chance in chances)
        else:
            leads, of_probe, of_tfidf = _LEADS[self.kind]
            rest = self.methods - len(leads)
            scores = [self.base + lead for lead in (*leads, *[leads[-1]] * rest)]
            probe, tfidf = self.base + of_probe, self.base + of_tfidf
        if near := runs[0].get("near"):  # TF-IDF is as good as the runs that count as trained
            tfidf += near * NEAR_SHARE * (self.priors[0] - self.base)
        contenders = [
            Contender(name, score, **behaviour)
            for name, score, behaviour in zip(METHODS, scores, itertools.cycle(runs), strict=False)
        ]
        contenders += [Contender("head_only", probe), Contender("tfidf", tfidf, None)]
        return World(
            tuple(contenders),
            metric=self.metric,
            priors=self.priors,
            training=(self.training[0] / 100, self.training[1] / 100),
            cluster=self.cluster,
        )


def list_scenarios() -> list[Scenario]:
    """All of the page."""
    return [*_equal(), *_steps(), *_passes(), *_defaults(), *_choices(), *_sample_sizes()]


SPLITS = (Design(56, 3), Design(100, 5), Design(300, 5))
FOLDS = (Design(300, 5, 5), Design(500, 5, 5))


def _equal() -> Iterator[Scenario]:
    for design in SPLITS:
        for runs in ("calm", "5 points", "heavy", "unequal", "some fail"):
            yield Scenario("equal", runs, design)
    for design in FOLDS:
        for runs in ("calm", "5 points", "heavy"):
            yield Scenario("equal", runs, design)
        for runs in ("calm", "5 points"):
            yield Scenario("equal", runs, design, training=(1.5, 1.5))
    for design in (Design(100, 5), Design(300, 5, 5)):
        yield Scenario("equal", "5 points", design, "macro_f1", priors=(0.85, 0.15))
        yield Scenario("equal", "5 points", design, "r2")
        yield Scenario("equal", "5 points", design, cluster=5)
    for runs in ("calm", "5 points"):
        yield Scenario("equal", runs, Design(300, 20, 5))
    yield from _hard("equal")
    for design in (*SPLITS, *FOLDS):
        classes = (0.25,) * 4
        yield Scenario("equal", "10 % nearly collapse", design, priors=classes, base=HIGH_SCORE)


def _hard(kind: Kind) -> Iterator[Scenario]:
    """What the rules find hardest, where accuracy leaves the rows the least to say."""
    for design in FOLDS:
        for runs, methods in (("unequal", 4), ("unequal", 18), ("calm", 18)):
            yield Scenario(kind, runs, design, methods=methods, base=HIGH_SCORE)
    for design in (*SPLITS, *FOLDS):
        for runs in ("10 % fail, 5 points", "30 % fail, 5 points"):
            yield Scenario(kind, runs, design, base=HIGH_SCORE)


def _steps() -> Iterator[Scenario]:
    for design in (*SPLITS, *FOLDS):
        for runs in ("calm", "5 points"):
            yield Scenario("steps", runs, design)
    yield from _hard("steps")


def _passes() -> Iterator[Scenario]:
    """Up to three passes that end when they are settled, and four of all methods."""
    for kind in _LEADS:
        for rows in (300, 500) if kind in ("equal", "steps") else ():
            for runs in ("calm", "5 points", "unequal", "30 % fail, 5 points"):
                for seeds, until in ((15, "settled"), (20, "complete")):
                    design = Design(rows, seeds, 5)
                    yield Scenario(kind, runs, design, base=HIGH_SCORE, until=until)
    for world in CHOICES:
        design = Design(300, 15, 5)
        yield Scenario("choice", world, design, until="settled", studies=500)


def _defaults() -> Iterator[Scenario]:
    for design in FOLDS:
        for named in (None, DEFAULT):
            yield Scenario("default", "2 points", design, methods=18, base=0.80, reference=named)


def _choices() -> Iterator[Scenario]:
    for world in CHOICES:
        for design in (Design(56, 3), Design(100, 5), Design(300, 5, 5)):
            yield Scenario("choice", world, design, studies=500)


def _sample_sizes() -> Iterator[Scenario]:
    for runs in ("calm", "5 points"):
        for rows, seeds in ((56, 5), (100, 5)):
            yield Scenario("sample size", runs, Design(rows, seeds), studies=400)
