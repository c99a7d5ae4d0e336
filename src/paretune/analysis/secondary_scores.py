"""Scores beside the primary one: forgetting, and scores on a shifted test part.

Nothing here enters the verdicts, ranks and recommendations of the scores.

**Forgetting**: what fine-tuning costs a language model, the change of its mean token loss on a
text. A run's forgetting is the loss of all scored tokens after training, minus that before, divided
by their number: nats a token, above 0 where the model has become worse at the text. A cell's is the
mean over its runs that trained; its interval is that of every score: the scatter of the runs and
that of the blocks of the text, each with its tokens (a ratio of sums). Both losses are of the
same blocks. In cross-validation the runs of all folds count as runs.

**The shifted part** (``test_shifted``) is a second test part, from elsewhere than the first. Every
final run answers all of it: in cross-validation the runs of all folds, whose training sets
overlap, so that the interval there is of the runs as they are, not of new training sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.statistics.differences import Estimate, estimate_variances
from paretune.analysis.statistics.intervals import (
    Interval,
    confidence_interval,
    difference_interval,
)
from paretune.analysis.statistics.scores import ratio_of_sums, score_runs, score_sums
from paretune.store.record import Predictions


@dataclass(frozen=True)
class CellForgetting:
    """Forgetting of one cell.

    Attributes:
        change: change of the mean token loss, in nats; its ``n_examples`` are blocks of the text.
        before: mean token loss of the model without the method.
        standard_error: standard error of the change.
        tokens: tokens scored in each run.
    """

    change: Interval
    before: float
    standard_error: float
    tokens: int

    @property
    def after(self) -> float:
        """The mean token loss after training, the mean over the runs."""
        return self.before + self.change.estimate


def measure_forgetting(cell: Cell) -> CellForgetting | None:
    """Measure a cell's forgetting; None where no run that trained has measured it.

    If runs have several texts, the most frequent one counts. The runs are those of the cell's
    score, so that forgetting and score describe the same runs.
    """
    stored = [run for record in cell.trained if (run := record.result.get("forgetting"))]
    if not stored:
        return None
    texts = [tuple(run["tokens"]) for run in stored]
    tokens = max(texts, key=texts.count)
    runs = [run for run, text in zip(stored, texts, strict=True) if text == tokens]
    # The blocks are examples without answers.
    nothing = (0,) * len(tokens)
    uids = tuple(map(str, range(len(tokens))))
    blocks = Predictions(uids, nothing, nothing, ((),) * len(tokens))
    weights = np.asarray(tokens, float)
    tables = [np.stack([np.subtract(r["after"], r["before"]), weights], axis=1) for r in runs]
    score = score_sums([blocks] * len(runs), tables, ratio_of_sums, (-np.inf, np.inf))
    before = float(np.mean([sum(run["before"]) / sum(tokens) for run in runs]))
    error = estimate_variances(score).variance ** 0.5
    return CellForgetting(confidence_interval(score), before, error, sum(tokens))


PART = "test_shifted"


@dataclass(frozen=True)
class ShiftedScore:
    """A cell's score on the shifted part.

    Attributes:
        score: mean score over its runs that trained.
        change: that score minus the score on the test part, by the same runs; None in
            cross-validation, where no run has answered the whole test.
    """

    score: Interval
    change: Interval | None


def score_shifted(cell: Cell) -> ShiftedScore | None:
    """Score a cell on the shifted part; None where no run that trained has answered it."""
    answers = [
        (record.run.seed, record.predictions[PART])
        for record in cell.trained
        if record.predictions.get(PART) and record.predictions[PART].uid
    ]
    # Use answers to the rows that most runs answered: the file may have changed between runs.
    uids = [part.uid for _, part in answers]
    common = max(uids, key=uids.count, default=())
    comparable = {seed: part for seed, part in answers if part.uid == common}
    if not comparable:
        return None
    shifted = score_runs([*comparable.values()], cell.metric)
    change = None
    if not cell.design.is_cross_validation and comparable.keys() == cell.answers_by_seed.keys():
        answered = [cell.answers_by_seed[seed].predictions for seed in comparable]
        test = score_runs(answered, cell.metric)
        # Seeds are paired, examples are not: their variances are of two independent samples.
        by_seed = shifted.seeds - test.seeds
        rows = [estimate_variances(score).parts[0] for score in (shifted, test)]
        variances = [(sum(v for v, _ in rows), sum(degrees for _, degrees in rows))]
        if len(by_seed) > 1:
            variances.append((float(by_seed.var(ddof=1)) / len(by_seed), len(by_seed) - 1.0))
        variance = sum(v for v, _ in variances)
        share = 1 - variances[0][0] / variance if variance > 0 else 0.0
        estimate = Estimate(float(by_seed.mean()), variance, tuple(variances), share)
        change = difference_interval(estimate, shifted, test)
    return ShiftedScore(confidence_interval(shifted), change)
