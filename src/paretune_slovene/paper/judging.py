"""From comparisons to a verdict on a conclusion: one rule for all evidence.

A comparison supports the claim, contradicts it, or neither: because a side is a constant answer,
because the sides were run differently, because the difference is not proven, or because a side is
missing. Comparisons make cases (:class:`~paretune_slovene.paper.claims.Claim`), and the claim
needs so many of N cases. Then, in this order:

1. no case was measured: ``not run``;
2. enough cases speak for it: ``holds``;
3. even if all others spoke for it, those against it leave too few: ``does not hold``;
4. without the cases that rest on a constant answer too few are left: ``comes from constant
   answers``; what such a case shows is what the labels' shares are, and not what a method can do;
5. otherwise: ``cannot be decided``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.sample_size import SampleSize
from paretune_slovene.paper.claims import Claim

Verdict = Literal[
    "holds", "does not hold", "cannot be decided", "comes from constant answers", "not run"
]
VERDICTS: tuple[Verdict, ...] = (
    "holds",
    "does not hold",
    "cannot be decided",
    "comes from constant answers",
    "not run",
)
Standing = Literal["for", "against", "constant", "unlike", "unclear", "absent"]
# A case of several comparisons counts as its worst. A constant comes before what contradicts, since
# a comparison with it says nothing either way.
_WORST: tuple[Standing, ...] = ("absent", "constant", "against", "unlike", "unclear", "for")


@dataclass(frozen=True)
class ClaimComparison:
    """Two methods compared on one task and model, and whether that supports the claim.

    Attributes:
        why: the reason if it neither supports nor contradicts it.
        p_holm: p-value of the difference, corrected over the claim's comparisons.
        amounts: bytes of memory or numbers of parameters, of both sides.
        readings: measurements of which each amount is the mean; 0 if it was counted.
        sample_size: that would decide it.
        examples: number of examples that would decide it, where only accuracies are known.
    """

    task: str
    model: str
    more: str
    less: str
    standing: Standing
    why: str = ""
    scores: tuple[Interval, Interval] | None = None
    difference: Interval | None = None
    p_holm: float | None = None
    amounts: tuple[float, float] | None = None
    readings: tuple[int, int] = (1, 1)
    sample_size: SampleSize | None = None
    examples: int | None = None


@dataclass(frozen=True)
class ClaimVerdict:
    """The verdict on one claim from one source of evidence.

    Attributes:
        verdict: by the rule above.
        required: number of cases that must support it.
        cases: number of cases by standing.
        stand_in: the claim names models, and others were compared.
    """

    claim: Claim
    verdict: Verdict
    required: int
    cases: Counter[Standing]
    compared: tuple[ClaimComparison, ...]
    stand_in: bool = False

    @property
    def total(self) -> int:
        """Number of cases that were measured."""
        return sum(self.cases.values()) - self.cases["absent"]


def judge(claim: Claim, compared: Sequence[ClaimComparison]) -> ClaimVerdict:
    """The verdict by the rule above."""
    cases: dict[tuple[str, ...], list[Standing]] = {}
    for comparison in compared:
        pair = () if claim.together else (comparison.more, comparison.less)
        key = (comparison.task, comparison.model, *pair)
        cases.setdefault(key, []).append(comparison.standing)
    counts = Counter(min(standings, key=_WORST.index) for standings in cases.values())
    total = sum(counts.values()) - counts["absent"]
    required = total if claim.share == "all" else total // 2 + 1
    verdict: Verdict = "cannot be decided"
    if total == 0:
        verdict = "not run"
    elif counts["for"] >= required:
        verdict = "holds"
    elif total - counts["against"] < required:
        verdict = "does not hold"
    elif total - counts["against"] - counts["constant"] < required:
        verdict = "comes from constant answers"
    return ClaimVerdict(claim, verdict, required, counts, tuple(compared))
