"""From comparisons to a verdict on a conclusion: one rule, whoever measured.

A comparison speaks for the claim, against it, or not at all: because a side answered a constant,
because the sides were not run alike, because the difference may be chance, or because a side is
not there. Comparisons make cases (:class:`~paretune.contrib.paper.claims.Claim`), and the claim
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

from paretune.analysis.statistics.sample_size import SampleSize
from paretune.analysis.statistics.score_interval import Interval
from paretune.contrib.paper.claims import Claim

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
# A case of several comparisons is what its worst is; a constant comes first, for what is compared
# with it says nothing either way.
_WORST: tuple[Standing, ...] = ("absent", "constant", "against", "unlike", "unclear", "for")


@dataclass(frozen=True)
class ClaimComparison:
    """``more`` beside ``less`` on one task and model, and how that speaks of the claim.

    ``scores`` are both sides' with their intervals, ``difference`` the first less the second, and
    ``p_holm`` its p-value corrected over the claim's comparisons. ``amounts`` are bytes of memory
    or numbers of parameters; ``readings`` how many measurements each is the mean of (0: counted).
    ``why`` says what keeps it from speaking. ``needed``, or ``examples`` where only shares are
    known, would decide it.
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
    needed: SampleSize | None = None
    examples: int | None = None


@dataclass(frozen=True)
class ClaimVerdict:
    """The verdict on one claim by one body of evidence. ``cases`` counts them by standing.

    ``stand_in``: the claim names models, and others were asked.
    """

    claim: Claim
    verdict: Verdict
    wanted: int
    cases: Counter[Standing]
    compared: tuple[ClaimComparison, ...]
    stand_in: bool = False

    @property
    def total(self) -> int:
        """How many cases were measured."""
        return sum(self.cases.values()) - self.cases["absent"]


def judge(claim: Claim, compared: Sequence[ClaimComparison]) -> ClaimVerdict:
    """The verdict by the rule above."""
    cases: dict[tuple[str, ...], list[Standing]] = {}
    for one in compared:
        pair = () if claim.together else (one.more, one.less)
        cases.setdefault((one.task, one.model, *pair), []).append(one.standing)
    counts = Counter(min(found, key=_WORST.index) for found in cases.values())
    total = sum(counts.values()) - counts["absent"]
    wanted = total if claim.share == "all" else total // 2 + 1
    verdict: Verdict = "cannot be decided"
    if total == 0:
        verdict = "not run"
    elif counts["for"] >= wanted:
        verdict = "holds"
    elif total - counts["against"] < wanted:
        verdict = "does not hold"
    elif total - counts["against"] - counts["constant"] < wanted:
        verdict = "comes from constant answers"
    return ClaimVerdict(claim, verdict, wanted, counts, tuple(compared))
