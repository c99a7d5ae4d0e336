"""The conclusions of the paper as values, and verdicts on them by comparisons.

One rule for all evidence. A comparison supports the claim, contradicts it, or neither: because a
side is a constant answer, because the sides were run differently, because the difference is not
proven, or because a side is missing. Comparisons make cases (:class:`Claim`), and the claim needs
so many of N cases. Then, in this order:

1. no case was measured: ``not run``;
2. enough cases speak for it: ``holds``;
3. even if all others spoke for it, those against it leave too few: ``does not hold``;
4. without the cases that rest on a constant answer too few are left: ``comes from constant
   answers``; such a case shows the shares of the labels, and not the ability of a method;
5. otherwise: ``cannot be decided``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from ruamel.yaml import YAML

from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.multiple_testing import holm_correction
from paretune.analysis.statistics.sample_size import SampleSize

Kind = Literal["score", "memory", "parameters"]
MARGIN = 0.05
"""A score may be so much lower and still count as ``not_below``."""


@dataclass(frozen=True)
class Claim:
    """One conclusion: each of ``higher`` has more of ``kind`` than each of ``lower``.

    Attributes:
        id: anchor on the page.
        says: the conclusion, paraphrased.
        place: in the paper.
        share: how many cases have to support it.
        models: the paper's short names; empty for all.
        relation: ``not_below`` allows :data:`MARGIN`.
        times: at least this many times as much.
        together: all comparisons on one task and model are one case; otherwise each is one.
    """

    id: str
    says: str
    place: str
    kind: Kind
    tasks: tuple[str, ...]
    higher: tuple[str, ...]
    lower: tuple[str, ...]
    share: Literal["all", "most"]
    models: tuple[str, ...] = ()
    relation: Literal["above", "not_below"] = "above"
    times: int | None = None
    together: bool = False

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The methods compared, the one with more first."""
        return tuple((a, b) for a in self.higher for b in self.lower)


@cache
def load_claims() -> tuple[Claim, ...]:
    """The paper's conclusions, in its order."""
    entries: list[dict[str, Any]] = _file()["claims"]
    lists = [{k: tuple(v) for k, v in entry.items() if isinstance(v, list)} for entry in entries]
    return tuple(Claim(**(entry | of)) for entry, of in zip(entries, lists, strict=True))


def paper_title() -> str:
    """The title of the paper."""
    return str(_file()["title"])


def hub_names() -> dict[str, str]:
    """The paper's short name for each name of its models on the hub."""
    return {hub: short for short, names in _file()["models"].items() for hub in names}


def find_flaw(task: str, model: str, method: str) -> str:
    """Why the paper describes one of its runs wrongly; mostly empty."""
    run = {"task": task, "model": model, "method": method}
    return "; ".join(e["what"] for e in _file()["flaws"] if run.items() <= e.items())


@cache
def _file() -> Mapping[str, Any]:
    text = (files("paretune_slovene.paper") / "claims.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return loaded


Verdict = Literal[
    "holds", "does not hold", "cannot be decided", "comes from constant answers", "not run"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
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
    higher: str
    lower: str
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
        pair = () if claim.together else (comparison.higher, comparison.lower)
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


def compare_counts(
    comparison: ClaimComparison, counts: tuple[float | None, float | None], lacking: str
) -> ClaimComparison:
    """Trained parameters compared; ``lacking``: why a side has none."""
    a, b = counts
    if a is None or b is None:
        return replace(comparison, standing="absent", why=lacking)
    standing: Standing = "for" if a > b else "against"
    return replace(comparison, standing=standing, amounts=(a, b), readings=(0, 0))


def correct_p_values(
    comparisons: Sequence[ClaimComparison],
    decide: Callable[[int, Interval, float], Mapping[str, Any]],
) -> list[ClaimComparison]:
    """Correct p-values over the comparisons by scores (Holm).

    Args:
        decide: gives changed fields for a comparison's place, difference and p-value.
    """
    corrected = list(comparisons)
    differences = {
        i: comparison.difference
        for i, comparison in enumerate(comparisons)
        if comparison.difference is not None and comparison.standing == "unclear"
    }
    p_values = holm_correction([difference.p for difference in differences.values()])
    for (i, difference), p in zip(differences.items(), p_values, strict=True):
        corrected[i] = replace(comparisons[i], p_holm=p, **decide(i, difference, p))
    return corrected
