"""Decisions about two methods: keep one of many candidates, or let a new model take over.

**A stream of candidates.** The chance that any candidate that equals the champion (the same method
under other seeds) is kept in a whole stream is at most 5 %. The stream may have any length and
order, and candidates may share rows and the champion's runs: all that is used is Bonferroni's
inequality. The k-th candidate has the level ``0.05 k^-1.25 / zeta(1.25)``, of which the sum over
all k is 0.05, and each of at most three looks at it has a third of that
(:mod:`paretune.judging.ledger`).

Such levels are small, and Satterthwaite's degrees of freedom do not hold there: two seeds a side
agree by chance, and p-values under 1e-4 of equal methods came up 57 times too often
(``bench/candidates.py``). So the p-value is Student's with the degrees of the least known part of
the variance, an upper bound at every level (Mickey and Brown 1966, Annals of Mathematical
Statistics 37): it came up at most 0.8 times as often as its level. The scatter of runs is pooled
over both sides, which are alike where they are equal; a candidate that scatters more counts with
that. One that equals the champion in the mean only, with twice the scatter, exceeded small levels
three to seven times: of such the 5 % do not speak.

**A gate.** The new one passes where a lower limit of its difference (one-sided, 95 %) is above the
margin, and fails where the upper limit is below. Nothing makes the two alike, so each side has its
own scatter, with Cochran and Cox's quantile: one that is worse by the whole margin passed in 1 to
5 % of simulations, and in 7 % where two seeds scatter twice as much as six of the old one. If there
is one run each, the limits are about these very models: only rows vary in them.

A candidate of which a run failed is neither kept nor passed: the score of the other runs is not
that of the method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import special

from paretune import metrics
from paretune.analysis.cell import Cell
from paretune.analysis.pairs import MIN_FOLDS
from paretune.analysis.statistics.differences import (
    Estimate,
    RunScatter,
    estimate_variances,
    moderate_scatters,
    on_common_rows,
)
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import RunScores
from paretune.data.columns import cell_text
from paretune.data.rows import Row
from paretune.errors import ANSWER_NO, ANSWER_OPEN, DataError, StudyError, require_name
from paretune.judging.ledger import LOOKS, Ledger, Look, level_of_look
from paretune.terminal.plural import pluralise

Answer = Literal["keep", "drop", "two more seeds", "passes", "fails", "undecided"]
EXIT_CODES: dict[Answer, int] = {
    "keep": 0,
    "passes": 0,
    "drop": ANSWER_NO,
    "fails": ANSWER_NO,
    "two more seeds": ANSWER_OPEN,
    "undecided": ANSWER_OPEN,
}


@dataclass(frozen=True)
class Decision:
    """The answer about a candidate, or about a new model beside the old one.

    Attributes:
        answer: keep, drop or two more seeds; a gate passes, fails or is undecided.
        reason: the reason of the answer, as the rest of a sentence.
        champion: the old method.
        candidate: the new method.
        task: the task's key.
        metric: title of the compared metric.
        scores: scores of champion and candidate; None where no run trained.
        runs: numbers of runs of champion and candidate.
        rows: number of test examples.
        points: candidate minus champion, in hundredths of the highest score; like its limits None
            where it is not known.
        low_points: its lower limit, one-sided: at ``level`` for a candidate, at 5 % for a gate.
        high_points: its upper limit: at 1.25 % for a candidate, at 5 % for a gate.
        p: p-value of a candidate that is no better, one-sided.
        level: highest p-value of a candidate that is kept.
        number: number of the candidate in its stream.
        look: number of the look at it.
        losses: a gate's ids of examples that most runs of the champion have right, and most of
            the candidate wrong; None where answers are neither.
        gains: the reverse of ``losses``.
        notes: remarks on how rows were read.
    """

    answer: Answer
    reason: str
    champion: str
    candidate: str
    task: str
    metric: str
    scores: tuple[float, float | None]
    runs: tuple[int, int]
    rows: int
    points: float | None = None
    low_points: float | None = None
    high_points: float | None = None
    p: float | None = None
    level: float | None = None
    number: int | None = None
    look: int | None = None
    losses: tuple[str, ...] | None = None
    gains: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def take_methods(rows: Sequence[Row], champion: str, candidate: str) -> list[Row]:
    """The rows of two methods alone: what others lack does not matter.

    Raises:
        StudyError: there is no such method, or both are one.
    """
    methods = [cell_text(row.values.get("method")) for row in rows]
    for name in (champion, candidate) if any(methods) else ():
        require_name("method", name, filter(None, methods), rows[0].file)
    if champion == candidate:
        raise StudyError(f'"{champion}" cannot be its own candidate.', where=rows[0].file)
    # A row without a method may be anybody's, and is refused with the rest.
    of_both = champion, candidate, None
    return [row for row, method in zip(rows, methods, strict=True) if method in of_both]


def check_pair(champion: Cell, candidate: Cell, *further: Cell) -> None:
    """Check that two cells can be compared.

    Raises:
        DataError: there are several tasks or models, or no run of the champion trained.
    """
    if further or champion.task != candidate.task:
        raise DataError(
            f"{champion.method} and {candidate.method} have rows of several tasks or models.",
            remedy="A decision is about one task and model: give the files of one.",
        )
    if champion.run_scores is None:
        what = f"every run of {champion.method} gives all examples the same answer."
        raise DataError(what, where=champion.task, remedy="Name a champion that trained.")


def decide_candidate(
    champion: Cell, candidate: Cell, gain_points: float = 0.0, ledger: Ledger | None = None
) -> Decision:
    """Whether to keep a candidate, to drop it, or to train two more seeds of it.

    Args:
        champion: with a score.
        candidate: on the same rows.
        gain_points: the smallest gain worth having.
        ledger: of the stream, in which the look is entered; without one the level is that of three
            looks at this candidate alone.

    Raises:
        DataError: runs of an earlier look are missing.
    """
    decision, new, old = _begin(champion, candidate)
    if new is None:
        return replace(decision, answer="drop")
    unknown = _describe_unknown((champion, old), (candidate, new))
    if unknown and not old.run_degrees and not new.run_degrees:
        return replace(decision, answer="two more seeds", reason=unknown)
    estimate, scale = _estimate_alike(new, old), 100 / old.highest
    freedom = min(degrees for _, degrees in estimate.parts)
    error = math.sqrt(estimate.variance)

    def find_limit(level: float) -> float:
        return scale * (estimate.value + float(special.stdtrit(freedom, level)) * error)

    # Three looks, and the one before them at a single run, share 5 % of wrong drops.
    high, points = find_limit(1 - ALPHA / (LOOKS + 1)), scale * estimate.value
    decision = replace(decision, points=points, high_points=high)
    hopeless = f"at most {high:.1f} points better"
    hopeless = f"at least {-high:.1f} points worse" if high < 0 else hopeless
    hopeless = f"it is {hopeless} than {champion.method}" if high <= gain_points else ""
    if unknown:
        answer: Answer = "drop" if hopeless else "two more seeds"
        return replace(decision, answer=answer, reason=hopeless or unknown)
    p = float(special.stdtr(freedom, -estimate.value / error)) if error > 0 else 1.0
    p = float(f"{p:.9g}")  # the order of rows changes the last digits, and is no new look
    number, look, level = None, None, level_of_look(None)
    if ledger is not None:
        number = ledger.number(champion.method, candidate.method)
        level = level_of_look(number)
        entry = Look(
            champion=champion.method,
            candidate=candidate.method,
            champion_runs=_list_runs(champion),
            candidate_runs=_list_runs(candidate),
            p=p,
            level=level,
        )
        look = ledger.enter(entry)
    decision = replace(
        decision, low_points=find_limit(level), p=p, level=level, number=number, look=look
    )
    gap, proof = f"{points:+.1f} points on {champion.method}", f"p {p:.2g}, level {level:.2g}"
    if hopeless:
        return replace(decision, answer="drop", reason=hopeless)
    if look is not None and look > LOOKS:
        return replace(decision, answer="drop", reason=f"it has had its {LOOKS} looks")
    if p <= level:
        return replace(decision, answer="keep", reason=f"it is better, {gap} ({proof})")
    reason = f"{gap} is not proven ({proof})"
    if look == LOOKS:
        return replace(decision, answer="drop", reason=f"{reason} at the last of {LOOKS} looks")
    return replace(decision, answer="two more seeds", reason=reason)


def decide_gate(champion: Cell, candidate: Cell, margin_points: float) -> Decision:
    """Whether a candidate is at most ``margin_points`` worse than the champion.

    Args:
        champion: with a score.
        candidate: on the same rows.
        margin_points: in hundredths of the highest score.
    """
    decision, new, old = _begin(champion, candidate)
    if new is None:
        return replace(decision, answer="fails")
    if old.credit is not None and new.credit is not None and len(old.credit) == len(old.uid):
        of_rows = list(zip(old.uid, old.credit, new.credit, strict=True))
        losses = tuple(uid for uid, before, after in of_rows if before > 0.5 > after)
        gains = tuple(uid for uid, before, after in of_rows if before < 0.5 < after)
        decision = replace(decision, losses=losses, gains=gains)
    models_only = champion.judged == "models"
    unknown = _describe_unknown((champion, old), (candidate, new))
    if unknown and not models_only:
        return replace(decision, answer="undecided", reason=unknown)
    sides = {"new": new, "old": old}
    scatters = moderate_scatters(sides, sides)
    estimate = estimate_variances(new, old, [scatters.get(name) for name in sides])
    crossed, scale = old.design.is_cross_validation, 100 / old.highest
    half = (estimate.half_width if crossed else estimate.weighted_half_width)(2 * ALPHA)
    low, high = scale * (estimate.value - half), scale * (estimate.value + half)
    answer: Answer = "undecided"
    limits = [f"{abs(end):.1f} points {'better' if end > 0 else 'worse'}" for end in (low, high)]
    reason = f"{limits[0]} to {limits[1]}"
    if low > -margin_points:
        answer, reason = "passes", f"at {'least' if low > 0 else 'most'} {limits[0]}"
    elif high < -margin_points:
        answer, reason = "fails", f"at least {limits[1]}"
    reason = f"it is {reason} than {champion.method} ({margin_points:g} allowed)"
    if models_only:
        reason += "; this is about these very models, of which each was trained once"
    points = scale * estimate.value
    return replace(
        decision, answer=answer, reason=reason, points=points, low_points=low, high_points=high
    )


def _begin(champion: Cell, candidate: Cell) -> tuple[Decision, RunScores | None, RunScores]:
    """The common part of every decision, and scores of candidate and champion on the same rows.

    If a run of the candidate failed, it has no scores, and the decision has the reason.
    """
    old, new = champion.run_scores, candidate.run_scores
    assert old is not None  # noqa: S101  (check_pair refuses it)
    failures, reason = candidate.failures, ""
    scores = old.estimate, None if new is None else new.estimate
    if failures is not None and failures.failed:
        runs = pluralise(failures.runs, "run")
        reason = f"{failures.failed} of {runs} failed: the same answer to every example"
        new = None
    if new is not None:
        new, old = on_common_rows(new, old)
    decision = Decision(
        answer="undecided",
        reason=reason,
        champion=champion.method,
        candidate=candidate.method,
        task=champion.task,
        metric=metrics.get(champion.metric).title,
        scores=scores,
        runs=(len(champion.final), len(candidate.final)),
        rows=len(old.uid),
    )
    return decision, new, old


def _describe_unknown(*sides: tuple[Cell, RunScores]) -> str:
    """Name the methods with too few runs or folds to tell how much they differ; mostly empty."""
    names = [
        cell.method
        for cell, scores in sides
        if (scores.run_degrees == 0 and not cell.deterministic)
        or (scores.folds is not None and scores.runs < MIN_FOLDS)
    ]
    few = f"of {' and '.join(names)} there are too few runs to tell how much training runs differ"
    return few if names else ""


def _estimate_alike(candidate: RunScores, champion: RunScores) -> Estimate:
    """The difference of sides that scatter alike, but for a candidate that is seen to do more."""
    sides = {"candidate": candidate, "champion": champion}
    scatters = moderate_scatters(sides, sides)
    degrees = candidate.run_degrees + champion.run_degrees
    if degrees and not champion.design.is_cross_validation:
        pooled = sum(side.run_degrees * side.run_variance for side in sides.values()) / degrees
        scatters = {
            "candidate": RunScatter(max(pooled, candidate.run_variance), degrees),
            "champion": RunScatter(pooled, degrees),
        }
    return estimate_variances(candidate, champion, [scatters.get(name) for name in sides])


def _list_runs(cell: Cell) -> list[str]:
    """The seeds of a cell's runs, in cross-validation with their folds: ``3``, ``3 fold 1``."""
    runs = [record.run for record in cell.final]
    return [f"{r.seed} fold {r.outer.index}" if r.outer else str(r.seed) for r in runs]
