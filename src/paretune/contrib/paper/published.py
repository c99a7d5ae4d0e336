"""The paper's own numbers: how many answers were right, and what can be said from that alone.

No answers were published, so nothing can be paired. Of each run the right answers of n are known,
which gives Wilson's interval, and two runs are compared by Newcombe's interval and the score test
(:mod:`paretune.analysis.statistics.binomial`): on accuracy, since no interval of an F1 follows from
its
value. A run is taken for a constant answer where both its accuracy and its weighted F1 are those
of one label answered always. Where the paper's own values point the other way than its conclusion,
they speak against it, whatever the chance: it concludes from values that it does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import special

from paretune.analysis.statistics.binomial import newcombe_difference, wilson_interval
from paretune.analysis.statistics.multiple_testing import ALPHA, holm_correction
from paretune.analysis.statistics.sample_size import POWER
from paretune.contrib.paper.claims import MARGIN, Claim
from paretune.contrib.paper.judging import ClaimComparison, ClaimVerdict, Standing, judge
from paretune.metrics.classification import WEIGHTED_F1

GIGA = 1e9
STEP = 1.01e-4
"""Published shares are cut after four digits."""
_GB_STEP = 0.1
"""Published memory is rounded to this."""


@dataclass(frozen=True)
class PublishedRun:
    """One published run. What the paper does not give is None; ``gb`` are 10^9 bytes.

    ``right`` of ``n`` answers were right; ``find_constant_label`` is the label whose constant
    answer scores
    the same, ``flaw`` what keeps the run from being what the paper takes it for. ``length`` is how
    long it trained, in its own words (``400 steps``).
    """

    task: str
    model: str
    method: str
    n: int
    right: int | None
    f1: float | None
    gb: float
    batch: int
    length: str
    trained: int | None
    constant: str | None
    flaw: str


def score_constant_labels(labels: Mapping[str, int]) -> dict[str, tuple[int, float]]:
    """Of each label: right answers and weighted F1 of answering nothing else."""
    rows = [i for i, count in enumerate(labels.values()) for _ in range(count)]
    return {
        name: (count, WEIGHTED_F1.score(rows, [i] * len(rows)))
        for i, (name, count) in enumerate(labels.items())
    }


def find_constant_label(
    right: int | None, f1: float | None, labels: Mapping[str, int]
) -> str | None:
    """The label whose constant answer gives these right answers and this weighted F1."""
    if right is None or f1 is None:
        return None
    return next(
        (
            name
            for name, (count, value) in score_constant_labels(labels).items()
            if count == right and abs(value - f1) < STEP
        ),
        None,
    )


def judge_published(claim: Claim, among: Sequence[PublishedRun]) -> ClaimVerdict:
    """What published runs say of a conclusion."""
    return judge(claim, _corrected(claim, list(_compared(claim, among))))


def _compared(claim: Claim, among: Sequence[PublishedRun]) -> Iterable[ClaimComparison]:
    place = {(r.task, r.model, r.method): r for r in among}
    models = dict.fromkeys(r.model for r in among)
    for task in claim.tasks:
        for model in models:
            if claim.models and model not in claim.models:
                continue
            for a, b in claim.pairs:
                one, other = place.get((task, model, a)), place.get((task, model, b))
                if one is not None and other is not None:
                    yield _pair(claim, one, other)


def _pair(claim: Claim, a: PublishedRun, b: PublishedRun) -> ClaimComparison:
    made = ClaimComparison(a.task, a.model, a.method, b.method, "unclear")
    if claim.kind == "score":
        return _scores(claim, made, a, b)
    if claim.kind == "parameters":
        if a.trained is None or b.trained is None:
            return replace(made, standing="absent", why="not published")
        counts = (float(a.trained), float(b.trained))
        standing: Standing = "for" if counts[0] > counts[1] else "against"
        return replace(made, standing=standing, amounts=counts, readings=(0, 0))
    made = replace(made, amounts=(a.gb * GIGA, b.gb * GIGA))
    if flaw := _unlike(a, b):
        return replace(made, standing="unlike", why=flaw)
    if claim.times is not None:
        enough = a.gb / b.gb >= claim.times - 0.5
        return replace(made, standing="for" if enough else "against")
    if abs(a.gb - b.gb) < 1.5 * _GB_STEP:
        return replace(made, why="no further apart than the rounding")
    return replace(made, standing="for" if a.gb > b.gb else "against")


def _unlike(a: PublishedRun, b: PublishedRun) -> str:
    """Why two peaks of memory cannot be compared. How long a run trained does not move them."""
    said = [f"{r.method}: {r.flaw}" for r in (a, b) if r.flaw]
    if a.batch != b.batch:
        said.append(f"batches of {a.batch} and {b.batch}")
    return "; ".join(said)


def _scores(
    claim: Claim, made: ClaimComparison, a: PublishedRun, b: PublishedRun
) -> ClaimComparison:
    if a.right is None or b.right is None or a.f1 is None or b.f1 is None:
        why = "a score of texts has no interval without them"
        if a.length != b.length:
            why += f"; {a.method} trained for {a.length}, {b.method} for {b.length}"
        return replace(made, why=why)
    made = replace(
        made,
        scores=(wilson_interval(a.right, a.n), wilson_interval(b.right, b.n)),
        difference=newcombe_difference(a.right, a.n, b.right, b.n),
    )
    if said := [f"{r.method} scores as always “{r.constant}”" for r in (a, b) if r.constant]:
        return replace(made, standing="constant", why="; ".join(said))
    margin = MARGIN if claim.relation == "not_below" else 0.0
    if a.f1 < b.f1 - margin - STEP:
        why = f"its own F1: {a.f1:.3f} and {b.f1:.3f}"
        return replace(made, standing="against", why=why)
    return replace(made, examples=estimate_examples(a.right / a.n, b.right / b.n))


def _corrected(claim: Claim, found: list[ClaimComparison]) -> list[ClaimComparison]:
    """With p-values corrected over what may speak, and its standing by them."""
    open_ = [i for i, one in enumerate(found) if one.difference and one.standing == "unclear"]
    differences = {i: d for i in open_ if (d := found[i].difference) is not None}
    corrected = holm_correction([d.p for d in differences.values()])
    for (i, difference), p in zip(differences.items(), corrected, strict=True):
        one = replace(found[i], p_holm=p)
        clear = p < ALPHA and difference.estimate > 0
        if clear or (claim.relation == "not_below" and difference.low > -MARGIN):
            one = replace(one, standing="for", examples=None)
        found[i] = one
    return found


def estimate_examples(a: float, b: float) -> int | None:
    """Test examples that would tell two shares apart, if they differ as they seem to.

    Two-sided at 0.05, with probability 0.8, unpaired (Fleiss, Levin and Paik 2003, section 4.2,
    without the correction for continuity); None for equal shares.
    """
    if a == b:
        return None
    mean, gap = (a + b) / 2, abs(a - b)
    level, power = float(special.ndtri(1 - ALPHA / 2)), float(special.ndtri(POWER))
    spread = level * math.sqrt(2 * mean * (1 - mean))
    spread += power * math.sqrt(a * (1 - a) + b * (1 - b))
    return math.ceil((spread / gap) ** 2)
