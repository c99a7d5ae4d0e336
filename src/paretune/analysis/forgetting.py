"""What fine-tuning costs a language model: the change of its mean token loss on a text.

A run's forgetting is the loss of all scored tokens after training, minus that before, divided by
their number: nats a token, above 0 where the model has become worse at the text. A cell's is the
mean over its runs that trained; its interval is that of every score: the scatter of the runs, and a
bootstrap over blocks of the text, each with its tokens (a ratio of sums). Both losses are of the
same blocks. In cross-validation the runs of all folds count as runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.statistics.bootstrap_score import bootstrap_sums
from paretune.analysis.statistics.score_interval import Interval, confidence_interval
from paretune.metrics import Array
from paretune.store.record import Predictions, Record


@dataclass(frozen=True)
class CellForgetting:
    """Forgetting of one cell.

    Attributes:
        change: of the mean token loss, in nats; its ``n_examples`` are blocks of the text.
        before: mean token loss of the model without the method.
        standard_error: of the change.
        tokens: scored in each run.
    """

    change: Interval
    before: float
    standard_error: float
    tokens: int

    @property
    def after(self) -> float:
        """Mean token loss after training, the mean over the runs."""
        return self.before + self.change.estimate


@lru_cache(maxsize=4096)
def _of_records(records: tuple[_Measured, ...]) -> CellForgetting:
    blocks = [f"{i}" for i in range(len(records[0].tokens))]
    answers = [_as_predictions(tuple(blocks)) for _ in records]
    tables = [
        np.stack([np.subtract(one.after, one.before), np.asarray(one.tokens, float)], axis=1)
        for one in records
    ]
    score = bootstrap_sums(answers, tables, _ratio, (-np.inf, np.inf))
    before = float(np.mean([sum(one.before) / sum(one.tokens) for one in records]))
    variance = score.seed_variance + float(np.var(score.draws, ddof=1))
    return CellForgetting(confidence_interval(score), before, variance**0.5, sum(records[0].tokens))


@dataclass(frozen=True)
class _Measured:
    """What one run left; hashable."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    tokens: tuple[int, ...]


def measure_forgetting(cell: Cell) -> CellForgetting | None:
    """None where no run that trained has measured it; of runs on several texts the most frequent.

    Runs are those of the cell's score, so that what forgetting costs and what it bought are of the
    same runs.
    """
    measured = [one for record in cell.trained if (one := _read(record)) is not None]
    if not measured:
        return None
    tokens = [one.tokens for one in measured]
    common = max(tokens, key=tokens.count)
    return _of_records(tuple(one for one in measured if one.tokens == common))


def _read(record: Record) -> _Measured | None:
    stored = record.result.get("forgetting")
    if stored is None:
        return None
    losses = tuple(stored["before"]), tuple(stored["after"])
    return _Measured(*losses, tuple(stored["tokens"]))


def _as_predictions(blocks: tuple[str, ...]) -> Predictions:
    """The blocks as examples, for the bootstrap; they have no answers."""
    nothing = (0,) * len(blocks)
    return Predictions(blocks, nothing, nothing, ((),) * len(blocks))


def _ratio(sums: Array) -> Array:
    """Of sums of changes and tokens, (..., 2)."""
    return np.asarray(sums[..., 0] / sums[..., 1])
