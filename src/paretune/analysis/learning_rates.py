"""Chooses the learning rate at which a method is reported, and when it tries further rates.

**On evidence** (``preset: passes``). A method begins at the middle rate of its list. When its first
pass has ended and at least half of its runs have a :data:`Sign`, every neighbouring rate that a
sign asks for (:data:`FURTHER_RATES`) is trained in the same folds with the same seeds; where the
study asks for trials, all rates are. The method goes on with the rate that has the best mean score
on the selection parts of all folds together. Test answers are in no decision. Trials by fold do not
choose better (bench/learning_rates.py).

**By trials** (``preset: trials``). Every fold takes the rate with the highest score on its trials.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from paretune import metrics
from paretune.analysis.statistics.differences import row_variance
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import score_runs
from paretune.store.record import Record


def find_primary_metric(records: Iterable[Record]) -> str | None:
    """Find the primary metric's name from one task's records; None where no metric fits.

    A study file may name it; otherwise it is the metric whose recorded value equals ``primary`` in
    every record. So a report needs no task definitions, which may have changed or gone since.
    """
    possible = [metric for metric in metrics.built_in() if metric.selectable]
    recorded = False
    for record in records:
        if record.run.task.metric is not None:
            return record.run.task.metric
        for scores in record.result.get("scores", {}).values():
            if scores and scores.get("primary") is not None:
                recorded = True
                primary = float(scores["primary"])
                values = [(metric, metric.read(scores)) for metric in possible]
                possible = [m for m, v in values if v is not None and abs(v - primary) < 1e-9]
    return possible[0].name if possible and recorded else None


def assume_primary_metric(records: Iterable[Record]) -> str:
    """Find the primary metric (:func:`find_primary_metric`); accuracy where no metric fits."""
    return find_primary_metric(records) or "accuracy"


Sign = Literal[
    "diverged",
    "did not learn",
    "did not fit its training rows",
    "still improving at its end",
    "best at its start",
]
"""Evidence of a run against its learning rate."""
FURTHER_RATES: Mapping[Sign, tuple[int, ...]] = {
    "diverged": (-1,),
    "did not learn": (-1, 1),
    "did not fit its training rows": (1,),
    "still improving at its end": (1,),
    "best at its start": (-1,),
}
"""Steps in the list from the middle rate to the rates that a sign asks for."""
FITTED_SHARE = 1 / 3
"""Share of the loss of a constant answer. Runs that end above it in training did not fit their
rows. Without this sign short trainings lost 2.2 points, with it 0.2 (dev/log.md)."""
MIN_EVALUATIONS = 3
"""With fewer evaluations it is not known whether a run was still improving."""

RateEdge = Literal["", "lowest", "highest"]
"""Whether a rate is the lowest or highest of several that were tried."""


@dataclass(frozen=True)
class Trial:
    """One learning rate that was tried.

    Attributes:
        score: mean primary score on the selection parts.
        loss: mean loss on the selection parts.
        runs: runs that count as evidence on the rate, one for each part.
    """

    rate: float
    score: float
    loss: float
    runs: tuple[Record, ...] = field(repr=False)

    @property
    def failed(self) -> int:
        """The number of runs that diverged or did not fit."""
        return sum(record.is_lost for record in self.runs)

    def interval(self, metric: str) -> Interval | None:
        """Return the score over the rows of the selection parts, with one tuning seed.

        A run that failed has the metric's lowest score. The result is None without stored answers,
        where every run failed, and where the lowest score is minus infinity.
        """
        lowest, failed, count = metrics.get(metric).lowest, self.failed, len(self.runs)
        scored = [record for record in self.runs if not record.is_lost]
        answers = [r.predictions["selection"] for r in scored if "selection" in r.predictions]
        if not answers or len(answers) + failed < count or (failed and math.isinf(lowest)):
            return None
        parts = [confidence_interval(score_runs([part], metric)) for part in answers]
        estimate = (sum(part.estimate for part in parts) + failed * lowest) / count
        half = math.hypot(*((part.high - part.low) / 2 for part in parts)) / count
        return replace(
            parts[0],
            estimate=estimate,
            low=max(lowest, estimate - half),
            high=min(parts[0].highest, estimate + half),
            n_examples=sum(part.n_examples for part in parts),
        )


@dataclass(frozen=True)
class RateSelection:
    """The selected learning rate and all trials.

    Attributes:
        rate: selected rate; None if nothing was tried, or if every trial diverged or did not fit.
        undecided: whether the best two differ by less than a paired standard error, or not at all.
        edge: whether the best is lowest or highest of several that differ: better may lie outside.
        table: trials by rate.
        begun: rate that the method has moved from on evidence; None where it has not moved.
        reason: evidence that asked for further rates; "" where none did.
    """

    rate: float | None = None
    undecided: bool = False
    edge: RateEdge = ""
    table: tuple[Trial, ...] = ()
    begun: float | None = None
    reason: Sign | Literal[""] = ""


def read_sign(result: Mapping[str, Any], constant: float | None) -> Sign | Literal[""]:
    """Return the evidence of a run against its learning rate; "" where there is none.

    Args:
        result: a :class:`~paretune.store.record.StoredResult`.
        constant: loss of a constant answer, in nats; None where there is none.
    """
    if result["outcome"] == "diverged":
        return "diverged"
    curve = result.get("curve") or []
    if curve and constant is not None:
        if curve[-1]["loss"] > constant:
            return "did not learn"
        if curve[-1]["loss"] > FITTED_SHARE * constant:
            return "did not fit its training rows"
    if len(curve) < MIN_EVALUATIONS:
        return ""
    best_step = result.get("best_step")
    if best_step == result.get("steps"):
        return "still improving at its end"
    return "best at its start" if best_step == curve[0]["step"] else ""


def constant_loss(record: Record) -> float | None:
    """Return the cross-entropy, in nats, of a constant answer to the selection part's labels.

    The result is None where answers are not one label of several.
    """
    answers = record.predictions.get("selection")
    if answers is None or not answers.label or not all(type(x) is int for x in answers.label):
        return None
    shares = np.array([*Counter(answers.label).values()]) / len(answers.label)
    return float(-(shares * np.log(shares)).sum()) if len(shares) > 1 else None


def find_signs(records: Sequence[Record]) -> Counter[Sign]:
    """Count the signs of a first pass; empty where fewer than half of its runs have one."""
    results = [
        ({**record.result, "outcome": record.outcome}, constant_loss(record)) for record in records
    ]
    signs = Counter(sign for result in results if (sign := read_sign(*result)))
    return signs if 2 * signs.total() >= len(records) else Counter()


def list_further_rates(rates: Sequence[float], signs: Iterable[Sign]) -> tuple[float, ...]:
    """List the rates of a method's rising list that are tried beside its middle rate.

    Args:
        signs: signs against the middle rate; none where the study asks for trials of all.
    """
    middle = len(rates) // 2
    neighbours = {middle + step for sign in signs for step in FURTHER_RATES[sign]}
    tried = neighbours or {*range(len(rates))}
    return tuple(rate for place, rate in enumerate(rates) if place in tried - {middle})


def judge_rates(first: Sequence[Record], further: Sequence[Record]) -> RateSelection:
    """Select the rate with which a method continues, on evidence.

    Args:
        first: final runs of its first pass, at the rate that it began with.
        further: final runs at further rates in the same folds. Rates that have not ended in all of
            these folds are not judged yet.
    """
    begun = first[0].run.learning_rate if first else None
    if begun is None:
        return RateSelection()
    places = Counter(_place_of(record) for record in first)
    tried: dict[float | None, list[Record]] = {}
    for record in further:
        if _place_of(record) in places:
            tried.setdefault(record.run.learning_rate, []).append(record)
    complete = [r for records in tried.values() if len(records) >= len(places) for r in records]
    metric = metrics.get(assume_primary_metric([*first, *further]))
    table = _score_trials([*first, *complete], metric.lowest)
    signs = find_signs(first).most_common(1)
    reason = signs[0][0] if signs else ""
    best = min(table, key=_rank, default=None)
    if best is None or best.failed == len(best.runs):
        return RateSelection(begun, table=table, reason=reason)
    rate = best.rate
    ends: dict[float, RateEdge] = {table[-1].rate: "highest", table[0].rate: "lowest"}
    return RateSelection(
        rate,
        edge=ends.get(rate, "") if rate != begun else "",
        table=table,
        begun=None if rate == begun else begun,
        reason=reason,
    )


def _place_of(record: Record) -> tuple[int, int]:
    """Return the fold and the seed of a run, by which rates are compared."""
    return -1 if record.run.outer is None else record.run.outer.position, record.run.seed


def select_learning_rate(tuning: Sequence[Record]) -> RateSelection:
    """Select the rate with the highest mean primary score on the selection parts.

    A trial that diverged or did not fit counts with the metric's lowest score; one that stopped
    with an unexpected error says nothing about its rate and does not count. Ties go to the lower
    mean selection loss, then to the smaller rate.

    Args:
        tuning: ended trials of one cell.
    """
    table = _score_trials(tuning, metrics.get(assume_primary_metric(tuning)).lowest)
    if not table:
        return RateSelection()
    ranked = sorted(table, key=_rank)
    best, *rest = ranked
    if best.failed == len(best.runs):
        return RateSelection(table=table)
    undecided = False
    if rest:
        second = rest[0]
        metric = assume_primary_metric([*best.runs, *second.runs])
        answers = [
            {
                (*_place_of(r), r.run.fold): r.predictions["selection"]
                for r in trial.runs
                if "selection" in r.predictions
            }
            for trial in (best, second)
        ]
        errors = []  # standard errors of the difference, on each part that both were tried on
        for fold in sorted(answers[0].keys() & answers[1].keys()):
            pair = (score_runs([part[fold]], metric) for part in answers)
            errors.append(math.sqrt(row_variance(*pair)))
        gap = best.score - second.score
        # With nothing to pair it is clear only if every trial of the runner-up failed.
        undecided = gap <= 0 or second.failed < len(second.runs)
        if gap > 0 and errors:
            undecided = gap < math.sqrt(sum(error**2 for error in errors)) / len(errors)
    ends: dict[float, RateEdge] = {table[-1].rate: "highest", table[0].rate: "lowest"}
    edge = ends.get(best.rate, "") if best.score > min(trial.score for trial in table) else ""
    return RateSelection(best.rate, undecided, edge, table)


def _rank(trial: Trial) -> tuple[float, float, float]:
    return -trial.score, trial.loss, trial.rate


def _score_trials(tuning: Sequence[Record], lowest: float) -> tuple[Trial, ...]:
    """Return the trial of each rate, rising. Runs that are no evidence are left out."""
    by_rate: dict[float, list[tuple[Record, float, float]]] = {}
    for record in tuning:
        score = (lowest, -math.inf) if record.is_lost else record.selection_score
        if record.run.learning_rate is not None and score is not None:
            by_rate.setdefault(record.run.learning_rate, []).append((record, *score))
    trials = []
    for rate, scored in sorted(by_rate.items()):
        runs, scores, minus_losses = zip(*scored, strict=True)
        loss = float(np.mean(np.negative(minus_losses)))
        trials.append(Trial(rate, float(np.mean(scores)), loss, runs))
    return tuple(trials)
