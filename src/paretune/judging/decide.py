"""Decisions about two methods: keep one of many candidates, or let a new model take over.

**A stream of candidates.** The chance that any candidate that equals the champion (the same method
under other seeds) is kept in a whole stream is at most 5 %. The stream may have any length and
order, and candidates may share rows, and the champion's runs: all that is used is Bonferroni's
inequality. The k-th candidate has the level ``0.05 k^-1.25 / zeta(1.25)``, of which the sum over
all k is 0.05, and each of at most three looks at it has a third of that
(:mod:`paretune.judging.ledger`).

Such levels are small, and Satterthwaite's degrees of freedom do not hold there: two seeds a side
agree by chance, and p-values under 1e-4 of equal methods came 57 times too often
(``bench/candidates.py``). So the p-value is Student's with the degrees of the least known part of
the variance, an upper bound at every level (Mickey and Brown 1966, Annals of Mathematical
Statistics 37); it came up at most 0.8 times as often as its level. The scatter of runs is pooled over both sides, which are alike where they are equal;
a candidate that scatters more counts with that. One that equals the champion in the mean only, with
twice the scatter, exceeded small levels three to seven times: of such the 5 % do not speak.

**A gate.** The new one passes where a lower limit of its difference (one-sided, 95 %) is above the
margin, and fails where the upper limit is below. Nothing makes the two alike, so each side has its
own scatter, with Cochran and Cox's quantile: one that is worse by the whole margin passed in 1 to
5 % of simulations; in 7 % with two seeds that scatter twice as much as six of the old one. With one
run each the limits are about these very models: only rows are in them.

A candidate of which a run failed is neither kept nor passed: the score of those that trained is
none of the method's.
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
from paretune.judging.ledger import LOOKS, Turn
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
        answer: keep, drop or two more seeds; of a gate passes, fails or undecided.
        reason: why, as the rest of a sentence.
        champion: the old method.
        candidate: the new one.
        task: its key.
        metric: title of what is compared.
        scores: of the champion and the candidate; None of a side without a run that trained.
        runs: how many each has.
        rows: test examples.
        points: candidate minus champion, in hundredths of the highest score; as the limits None
            where nothing can be compared.
        low_points: lower limit of it: of a stream at ``level``, of a gate at 5 %, one-sided.
        high_points: upper limit; of a stream at the level at which candidates are dropped.
        p: one-sided, of a candidate that is no better; of a gate None.
        level: that the p-value may not exceed.
        number: of the candidate in its stream; None without a ledger, and before its first look.
        look: at this candidate, 1 to 3; 0 where none was taken.
        threshold_points: the smallest gain worth having, or the loss that a gate lets pass.
        models_only: whether the answer is about these very models, since each has one run.
        losses: ids of examples that the champion has right and the candidate wrong, by the majority
            of runs; None where answers are neither.
        gains: of those that the candidate has right and the champion wrong.
        notes: on how rows were read.
    """

    answer: Answer
    reason: str
    champion: str
    candidate: str
    task: str
    metric: str
    scores: tuple[float | None, float | None]
    runs: tuple[int, int]
    rows: int
    points: float | None = None
    low_points: float | None = None
    high_points: float | None = None
    p: float | None = None
    level: float = ALPHA
    number: int | None = None
    look: int = 0
    threshold_points: float = 0.0
    models_only: bool = False
    losses: tuple[str, ...] | None = None
    gains: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def take_methods(rows: Sequence[Row], champion: str, candidate: str) -> list[Row]:
    """The rows of two methods alone: what others lack is nobody's business.

    Raises:
        StudyError: there is no such method, or both are one.
    """
    names = dict.fromkeys(str(cell_text(row.values.get("method"))) for row in rows)
    for name in (champion, candidate):
        require_name("method", name, names, rows[0].file)
    if champion == candidate:
        raise StudyError(f'"{champion}" cannot be its own candidate.', where=rows[0].file)
    return [row for row in rows if cell_text(row.values.get("method")) in (champion, candidate)]


def pair_cells(cells: Sequence[Cell], champion: str, candidate: str) -> tuple[Cell, Cell]:
    """The cells of the two methods, of which the champion has a score.

    Raises:
        DataError: they are of several tasks or models, or no run of the champion trained.
    """
    tasks = {cell.task for cell in cells}
    if len(tasks) > 1 or len(cells) > 2:
        what, count = ("task", len(tasks)) if len(tasks) > 1 else ("model", len(cells) - 1)
        raise DataError(
            f"{champion} and {candidate} have rows of {pluralise(count, what)}.",
            remedy=f"A decision is about one {what}: give the files of one.",
        )
    by_name = {cell.method: cell for cell in cells}
    old, new = by_name[champion], by_name[candidate]
    if old.run_scores is None:
        raise DataError(
            f"every run of {champion} gives all examples the same answer.",
            where=old.task,
            remedy="Name a champion that trained.",
        )
    return old, new


def decide_candidate(
    champion: Cell, candidate: Cell, gain_points: float = 0.0, turn: Turn | None = None
) -> Decision:
    """Whether to keep a candidate, to drop it, or to train two more seeds of it.

    Args:
        champion: as of :func:`pair_cells`.
        candidate: the other.
        gain_points: the smallest gain worth having.
        turn: of the candidate in its stream; without one its level is that of one alone.

    Raises:
        DataError: runs of an earlier look are missing.
    """
    turn = turn or Turn()
    comparison = _Comparison(champion, candidate)
    decision = replace(comparison.decision, threshold_points=gain_points)
    if comparison.failures:
        return replace(decision, answer="drop", reason=comparison.failures)
    estimate, scale = comparison.estimate(pooled=True), comparison.scale
    if comparison.unknown and not any(side.run_degrees for side in comparison.sides):
        return replace(decision, answer="two more seeds", reason=comparison.describe_unknown())
    freedom = min(degrees for _, degrees in estimate.parts)
    error = math.sqrt(estimate.variance)
    # A share of it for each look, and one for what is dropped before the first.
    high = estimate.value + float(special.stdtrit(freedom, 1 - ALPHA / (LOOKS + 1))) * error
    decision = replace(decision, points=scale * estimate.value, high_points=scale * high)
    hopeless = scale * high <= gain_points
    at_most = f"it is at most {max(scale * high, 0):.1f} points better than {champion.method}"
    if scale * high < 0:
        at_most = f"it is at least {-scale * high:.1f} points worse than {champion.method}"
    if comparison.unknown:
        answer: Answer = "drop" if hopeless else "two more seeds"
        reason = at_most if hopeless else comparison.describe_unknown()
        return replace(decision, answer=answer, reason=reason)
    p = float(special.stdtr(freedom, -estimate.value / error)) if error > 0 else 1.0
    p = float(f"{p:.9g}")  # the order of rows changes the last digits, and is no new look
    look = turn.look([_list_runs(cell) for cell in (champion, candidate)], p)
    low = estimate.value - float(special.stdtrit(freedom, 1 - turn.level)) * error
    decision = replace(
        decision,
        low_points=scale * low,
        p=p,
        level=turn.level,
        number=turn.number,
        look=look,
    )
    margin = f"{scale * estimate.value:+.1f} points on {champion.method}"
    proof = f"p {p:.2g}, level {turn.level:.2g}"
    if hopeless:
        return replace(decision, answer="drop", reason=at_most)
    if look > LOOKS:
        reason = f"it has had its {LOOKS} looks"
        return replace(decision, answer="drop", reason=reason, look=LOOKS)
    if p <= turn.level:
        return replace(decision, answer="keep", reason=f"it is better, {margin} ({proof})")
    reason = f"{margin} is not proven ({proof})"
    if look == LOOKS:
        return replace(decision, answer="drop", reason=f"{reason} at the last of {LOOKS} looks")
    return replace(decision, answer="two more seeds", reason=reason)


def decide_gate(old: Cell, new: Cell, margin_points: float) -> Decision:
    """Whether the new one is at most ``margin_points`` worse than the old one.

    Args:
        old: as of :func:`pair_cells`.
        new: the other.
        margin_points: in hundredths of the highest score.
    """
    comparison = _Comparison(old, new)
    decision = replace(comparison.decision, threshold_points=margin_points)
    if comparison.failures:
        return replace(decision, answer="fails", reason=comparison.failures)
    losses, gains = comparison.list_flips()
    decision = replace(decision, losses=losses, gains=gains)
    if comparison.unknown and not decision.models_only:
        return replace(decision, answer="undecided", reason=comparison.describe_unknown())
    estimate, scale = comparison.estimate(pooled=False), comparison.scale
    crossed = comparison.sides[0].design.is_cross_validation
    half = (estimate.half_width if crossed else estimate.weighted_half_width)(2 * ALPHA)
    low, high = scale * (estimate.value - half), scale * (estimate.value + half)
    answer: Answer = (
        "passes" if low > -margin_points else "fails" if high < -margin_points else "undecided"
    )
    allowed = f"{margin_points:g} allowed"
    if low >= 0:
        reason = f"it is at least {low:.1f} points better than {old.method}"
    elif answer == "passes":
        reason = f"it is at most {-low:.1f} points worse than {old.method} ({allowed})"
    elif answer == "fails":
        reason = f"it is at least {-high:.1f} points worse than {old.method} ({allowed})"
    else:
        reason = (
            f"it is between {-low:.1f} points worse than {old.method} ({allowed}) and "
            f"{abs(high):.1f} points {'better' if high > 0 else 'worse'}"
        )
    if decision.models_only:
        reason += "; this is about these very models, of which each was trained once"
    return replace(
        decision,
        answer=answer,
        reason=reason,
        points=scale * estimate.value,
        low_points=low,
        high_points=high,
    )


class _Comparison:
    """Two cells on the rows that both answered.

    Attributes:
        unknown: cells of which one run, or too few folds, do not tell how much runs differ.
        failures: why no score of the candidate counts; empty where all of its runs trained.
        decision: what every decision says of them.
        scale: from scores to points.
    """

    def __init__(self, champion: Cell, candidate: Cell) -> None:
        self.cells = champion, candidate
        scores = [cell.run_scores for cell in self.cells]
        self.failures = ""
        rate = candidate.failures
        if rate is not None and rate.failed:
            runs = pluralise(rate.runs, "run")
            self.failures = f"{rate.failed} of {runs} failed: the same answer to every example"
        first, second = (score or champion.run_scores for score in scores)
        assert first is not None  # noqa: S101  (pair_cells checks it)
        assert second is not None  # noqa: S101
        self.sides = on_common_rows(first, second)
        self.unknown = [
            cell
            for cell, side in zip(self.cells, self.sides, strict=True)
            if (side.run_degrees == 0 and not cell.deterministic)
            or (side.folds is not None and side.runs < MIN_FOLDS)
        ]
        self.scale = 100 / first.highest
        self.decision = Decision(
            answer="undecided",
            reason="",
            champion=champion.method,
            candidate=candidate.method,
            task=champion.task,
            metric=metrics.get(champion.metric).title,
            scores=(first.estimate, None if scores[1] is None else scores[1].estimate),
            runs=(len(champion.final), len(candidate.final)),
            rows=len(first.uid),
            models_only=any(cell.judged == "models" for cell in self.cells),
        )

    def describe_unknown(self) -> str:
        """Which side needs runs."""
        names = " and ".join(cell.method for cell in self.unknown)
        few = "fold" if self.sides[0].design.is_cross_validation else "run"
        return f"of {names} there are too few {few}s to tell how much training runs differ"

    def estimate(self, *, pooled: bool) -> Estimate:
        """Candidate minus champion, with its variance.

        Args:
            pooled: both scatter alike, but for a candidate that is seen to scatter more.
        """
        champion, candidate = self.sides
        scores = dict(zip(("champion", "candidate"), self.sides, strict=True))
        scatters = moderate_scatters(scores, scores)
        if pooled and not champion.design.is_cross_validation:
            scatters = _pool_scatters(champion, candidate)
        return estimate_variances(
            candidate, champion, [scatters.get("candidate"), scatters.get("champion")]
        )

    def list_flips(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """What the champion alone has right by most of its runs, and what the candidate alone."""
        old, new = (side.credit for side in self.sides)
        uids = self.sides[0].uid
        if old is None or new is None or len(old) != len(uids):
            return None, None
        losses = (old > 0.5) & (new < 0.5)
        gains = (new > 0.5) & (old < 0.5)
        return tuple(
            tuple(uid for uid, flipped in zip(uids, flips, strict=True) if flipped)
            for flips in (losses, gains)
        )  # type: ignore[return-value]


def _pool_scatters(champion: RunScores, candidate: RunScores) -> dict[str, RunScatter]:
    """One scatter of both, and of the candidate no less than its own."""
    degrees = champion.run_degrees + candidate.run_degrees
    if not degrees:
        return {}
    squares = sum(side.run_degrees * side.run_variance for side in (champion, candidate))
    pooled = squares / degrees
    return {
        "champion": RunScatter(pooled, degrees),
        "candidate": RunScatter(max(pooled, candidate.run_variance), degrees),
    }


def _list_runs(cell: Cell) -> list[str]:
    """The runs of a cell for a ledger: ``3``, in cross-validation ``3, fold 1``."""
    return [
        str(record.run.seed)
        if record.run.outer is None
        else f"{record.run.seed}, fold {record.run.outer.index}"
        for record in cell.final
    ]
