"""Scores on a second test part, from elsewhere than the first (``test_shifted``).

Every final run answers all of it: in cross-validation the runs of all folds, whose training sets
overlap, so that the interval there is of the runs as they are, not of new training sets. Nothing
here enters a verdict, rank or recommendation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from paretune.analysis.cell import Cell
from paretune.analysis.statistics.bootstrap_score import BootstrapScore, bootstrap_score
from paretune.analysis.statistics.score_difference import DifferenceTerms
from paretune.analysis.statistics.score_interval import (
    LEVEL,
    Interval,
    build_interval,
    confidence_interval,
    example_variance,
)

PART = "test_shifted"


@dataclass(frozen=True)
class ShiftedScore:
    """A cell's score on the shifted part.

    Attributes:
        score: the mean over its runs that trained.
        change: that score minus the one on the test part, by the same runs; None in
            cross-validation, where no run has answered the whole of the test.
    """

    score: Interval
    change: Interval | None


def score_shifted(cell: Cell) -> ShiftedScore | None:
    """None where no run that trained has answered the shifted part."""
    answers = [
        (record.run.seed, record.predictions[PART])
        for record in cell.trained
        if record.predictions.get(PART) and record.predictions[PART].uid
    ]
    # Answers to the rows that most runs answered: the file may have changed between runs.
    uids = [part.uid for _, part in answers]
    common = max(uids, key=uids.count, default=())
    comparable = {seed: part for seed, part in answers if part.uid == common}
    if not comparable:
        return None
    shifted = bootstrap_score([*comparable.values()], cell.metric)
    change = None
    if not cell.design.is_cross_validation and comparable.keys() == cell.answers_by_seed.keys():
        test = [cell.answers_by_seed[seed] for seed in comparable]
        change = _change(shifted, bootstrap_score(test, cell.metric))
    return ShiftedScore(confidence_interval(shifted), change)


def _change(shifted: BootstrapScore, test: BootstrapScore) -> Interval:
    """Seeds are paired, examples are not: their variances are those of two independent samples."""
    seeds = len(shifted.seeds)
    by_seed = shifted.seeds - test.seeds
    variance = float(by_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    examples = example_variance(shifted) + example_variance(test)
    terms = DifferenceTerms(
        float(by_seed.mean()),
        ((variance, seeds - 1),) if seeds > 1 else (),
        (examples, shifted.units + test.units - 2),
    )
    interval = build_interval(
        terms.estimate, terms.half_width(1 - LEVEL), (shifted, test), variance, examples
    )
    return replace(interval, p=terms.p_value())
