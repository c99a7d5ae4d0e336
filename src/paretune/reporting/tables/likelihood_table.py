"""The block on likelihood: how probable each method made the right answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.comparisons import describe_withheld
from paretune.analysis.pairs import Pair, flip
from paretune.analysis.secondary_scores import CellLikelihood, LikelihoodComparisons
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.methods.core.titles import title_of
from paretune.objectives.likelihood import ExampleLikelihood
from paretune.reporting.rows import Grid, ModelPairs, Row
from paretune.reporting.text.formatting import (
    format_interval,
    format_n_by_seeds,
    join_names,
)
from paretune.terminal.sanitise import sanitise_line

MEASURES = ("log-likelihood", "Brier score")
DIGITS = 3

_TITLE = "How probable the right answers were"
_ABOVE = (
    "A verdict of its own: how probable each method made the right answers, not how often it was "
    "right. It enters no verdict, rank or recommendation on scores; methods of equal score may "
    "differ in it, and it may point the other way."
)


@dataclass(frozen=True)
class LikelihoodReport:
    """The block of one task.

    Attributes:
        grid: a line for each row; intervals of :data:`MEASURES` first.
        pairs: every pair by log-likelihood.
        unit: of log-likelihoods.
    """

    grid: Grid
    pairs: tuple[ModelPairs, ...]
    runs: Mapping[str, ExampleLikelihood]
    unit: str


def build_likelihood(rows: Sequence[Row]) -> LikelihoodReport | None:
    """The block of a task; None where no run that trained has left answers.

    Where none of them has a likelihood it has no rows and says why.
    """
    comparisons = LikelihoodComparisons([row.cell for row in rows])
    likelihoods = comparisons.likelihoods
    if not any(one.log_likelihood for one in likelihoods):
        reasons = {one.reason for one in likelihoods if one.cell.answers_by_seed}
        notes = tuple(f"Not known: {reason}." for reason in sorted(reasons))
        return LikelihoodReport(Grid(_TITLE, _ABOVE, (), (), notes), (), {}, "") if notes else None
    ended = [(row, one) for row, one in zip(rows, likelihoods, strict=True) if row.cell.final]
    intervals = [tuple(_intervals(one)) for _, one in ended]
    generates = rows[0].cell.objective.generates
    grid = Grid(
        title=_TITLE,
        above=_ABOVE,
        titles=(*(f"{measure} [95 %]" for measure in MEASURES), "n x seeds", "fitted", "verdict"),
        rows=tuple(
            (row, _format_row(one, scores, comparisons.pairs))
            for (row, one), scores in zip(ended, intervals, strict=True)
        ),
        notes=tuple(_write_notes([one for _, one in ended], generates)),
        intervals=tuple((*scores, None, None, None) for scores in intervals),
    )
    return LikelihoodReport(
        grid=grid,
        pairs=tuple(
            ModelPairs(sanitise_line(model), pairs)
            for model, pairs in comparisons.pairs.items()
            if pairs
        ),
        runs={run_id: run for one in likelihoods for run_id, run in one.runs.items()},
        unit="nats a reference token" if generates else "nats an example",
    )


def _intervals(one: CellLikelihood) -> Iterable[Interval | None]:
    for score in (one.log_likelihood, one.brier):
        yield None if score is None else confidence_interval(score)


def _format_row(
    one: CellLikelihood,
    scores: Sequence[Interval | None],
    pairs: Mapping[str, Sequence[Pair]],
) -> tuple[str, ...]:
    first = scores[0]
    texts = ["–" if score is None else format_interval(score, DIGITS) for score in scores]
    if first is None:
        return (*texts, "", "–", f"none: {one.reason}")
    basis = format_n_by_seeds(first)
    verdict = _format_verdict(one, pairs.get(one.cell.model, ()))
    return (*texts, basis, _format_fitted(one.runs.values()), verdict)


def _format_fitted(runs: Iterable[ExampleLikelihood]) -> str:
    """``T 1.8 to 2.4``, ``sd 0.31``: what was fitted on the selection parts."""
    for sign, values in (
        ("T", [one.temperature for one in runs if one.temperature is not None]),
        ("sd", [one.deviation for one in runs if one.deviation is not None]),
    ):
        if values:
            ends = dict.fromkeys(f"{value:.3g}" for value in (min(values), max(values)))
            return f"{sign} {' to '.join(ends)}".replace("inf", "infinite")
    return "–"


def _format_verdict(one: CellLikelihood, pairs: Sequence[Pair]) -> str:
    """``better than LoRA; undecided against BitFit``."""
    if one.cell.model == NO_MODEL:
        return "baseline"
    name = one.cell.method
    of_row = [pair if pair.a == name else flip(pair) for pair in pairs if name in (pair.a, pair.b)]
    phrases = []
    for words, standing in (
        ("better than", "above"),
        ("worse than", "below"),
        ("undecided against", "unclear"),
    ):
        others = [sanitise_line(title_of(pair.b)) for pair in of_row if pair.standing == standing]
        if others:
            phrases.append(f"{words} {join_names(others)}")
    withheld = describe_withheld(pair.withheld for pair in of_row)
    return "; ".join([*phrases, *([withheld] if withheld else [])]) or "nothing to compare with"


def _write_notes(likelihoods: Sequence[CellLikelihood], generates: bool) -> Iterable[str]:
    runs = [run for one in likelihoods for run in one.runs.values()]
    if generates:
        yield (
            "Log-likelihood: mean over the tokens of the references, each given those before it, "
            "in nats; higher is better. No temperature is fitted: logits are not kept. It is "
            "comparable between methods on one model, whose tokens are the same."
        )
    elif any(run.deviation is not None for run in runs):
        yield (
            "Log-likelihood: mean over the test examples of the logarithm of the density of the "
            "right number, in nats; higher is better. Errors are taken as Gaussian, with the "
            "standard deviation (sd) that they have on each run's selection part. Its level "
            "depends on the unit of the numbers, differences do not."
        )
    else:
        yield (
            "Log-likelihood: mean over the test examples of the logarithm of the probability of "
            "the right answer, in nats; 0 is the highest. Brier score: squared distance of the "
            "probabilities from the right answer, summed over the labels, 0 to 2; lower is better. "
            "Logits are divided by a temperature (T) fitted on each run's selection part; an "
            "infinite one makes all answers equally probable."
        )
    yield (
        "Verdicts compare log-likelihoods, paired on the same examples, and are corrected "
        "over all pairs on a model, baselines included."
    )
