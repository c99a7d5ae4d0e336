"""Scores of runs on the same rows, and the part of each row in them.

A metric is a function of sums over rows. What a row contributes is its jackknife value (Tukey
1958)::

    k theta - (k - 1) theta without the row,     centred at theta

For accuracy and other means that is the row's value itself; for F1, correlation or BLEU it is how
the score depends on the row. So one formula for the mean of rows serves every metric. Dependent
rows are left out together: the unit is the cluster if the predictions have clusters (all answers to
all questions on one passage, all span pairs of one text), the question if they have questions only,
and the row otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from paretune import metrics
from paretune.analysis.design import SPLIT, TestDesign
from paretune.answers import Answer
from paretune.errors import StoreError
from paretune.metrics import Array
from paretune.store.record import Predictions

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class RunScores:
    """Scores of some runs on the same rows.

    Under outer cross-validation "runs" of a shape are repeats: each has answered every row once.

    Attributes:
        uid: (rows,) identifiers.
        label: (rows,) correct answers.
        tables: (runs, rows, columns) whose sums over rows give the score.
        from_sums: from sums (..., columns) to scores (...).
        credits: (runs, rows): whether a run answers correctly; of answer sets (runs, questions),
            how well it answers each; None for numbers and texts.
        lowest: lowest value of the metric.
        highest: highest value of the metric.
        cluster: clusters as in :class:`Predictions`.
        question: questions as in :class:`Predictions`.
        design: how the answers came about.
        folds: (repeats, rows): the outer fold whose run answered, -1 where a run of another repeat
            did; None under one split, and for cells that draw nothing, whose runs do not scatter.
    """

    uid: tuple[str, ...]
    label: tuple[Answer, ...]
    tables: Array = field(repr=False)
    from_sums: Callable[[Array], Array]
    credits: Array | None = None
    lowest: float = 0.0
    highest: float = 1.0
    cluster: tuple[int, ...] = ()
    question: tuple[int, ...] = ()
    design: TestDesign = SPLIT
    folds: Array | None = None

    @property
    def credit(self) -> Array | None:
        """Mean over runs of :attr:`credits`, (rows,) or (questions,)."""
        return None if self.credits is None else np.asarray(self.credits.mean(axis=0))

    @cached_property
    def seeds(self) -> Array:
        """The score of each run, (runs,)."""
        return np.asarray(self.from_sums(self.tables.sum(axis=1, dtype=np.float64)))

    @property
    def estimate(self) -> float:
        """The mean score over runs."""
        return float(self.seeds.mean())

    @cached_property
    def _groups(self) -> tuple[Array, Array]:
        """The first row of each unit, (units,), and the unit of each row, (rows,)."""
        groups = np.asarray(self.cluster or self.question or range(len(self.uid)))
        _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
        return first, unit

    @property
    def units(self) -> int:
        """The number of independent units: clusters, questions or rows."""
        return len(self._groups[0])

    @property
    def unit_uids(self) -> list[str]:
        """The identifier of the first row of each unit."""
        return [self.uid[row] for row in self._groups[0]]

    @cached_property
    def values(self) -> Array:
        """The jackknife values of each run, whose mean is its score, (runs, units)."""
        if self.units < 2:
            return np.asarray(self.seeds[:, None])
        sums = self.tables.astype(np.float64)
        if self.units < len(self.uid):
            _, unit = self._groups
            order = np.argsort(unit, kind="stable")
            starts = np.searchsorted(unit[order], np.arange(self.units))
            sums = np.add.reduceat(sums[:, order], starts, axis=1)
        rest = self.from_sums(sums.sum(axis=1, keepdims=True) - sums)
        drops = (self.units - 1) * (self.seeds[:, None] - rest)
        return np.asarray(self.seeds[:, None] + drops - drops.mean(axis=1, keepdims=True))

    @cached_property
    def fold_scores(self) -> Array | None:
        """The mean value of each fold's units, (repeats, folds), NaN where it has none."""
        return None if self.folds is None else self.fold_means(self.values)

    def fold_means(self, values: Array) -> Array:
        """Return the mean of each fold's units, (repeats, folds), NaN where it has none.

        Args:
            values: (repeats, units) values, or those of the first repeats alone.
        """
        assert self.folds is not None  # noqa: S101  (asked only of what scatters)
        first, _ = self._groups  # the rows of a unit lie in one fold
        folds = self.folds[: len(values), first]
        members = np.eye(self.design.folds + 1)[folds][..., :-1]
        counts = members.sum(axis=1)
        sums = np.einsum("ruf,ru->rf", members, values)
        return np.asarray(
            np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
        )

    @property
    def runs(self) -> int:
        """The number of runs whose scatter is in the estimate: seeds, or folds of all repeats."""
        if self.fold_scores is None:
            return len(self.seeds)
        return int(np.isfinite(self.fold_scores).sum())

    @property
    def run_degrees(self) -> int:
        """The degrees of freedom of the scatter of runs; 0 where it is unknown."""
        if self.fold_scores is not None:
            return int(np.maximum(np.isfinite(self.fold_scores).sum(axis=1) - 1, 0).sum())
        return 0 if self.design.is_cross_validation else len(self.seeds) - 1

    @property
    def run_variance(self) -> float:
        """The variance of single seeds' scores under one split; 0 if it is unknown."""
        return float(self.seeds.var(ddof=1)) if len(self.seeds) > 1 else 0.0

    @property
    def noise_variance(self) -> float:
        """The variance of the mean over seeds that neither the seed nor the row explains.

        It is part of the variance of the seeds and of that of the rows.
        """
        count, units = self.values.shape
        if count < 2 or units < 2:
            return 0.0
        of_row = self.values - self.values.mean(axis=0) - self.seeds[:, None] + self.estimate
        squares = float((of_row**2).sum())
        return squares / float((count - 1) * (units - 1) * count * units)

    def take_passes(self, passes: int) -> RunScores:
        """Return the scores of the first passes of cross-validation alone."""
        if passes >= len(self.tables):
            return self
        folds = None if self.folds is None else self.folds[:passes]
        design = replace(self.design, repeats=passes)
        credits = None if self.credits is None else self.credits[:passes]
        tables = self.tables[:passes]
        return replace(self, tables=tables, credits=credits, folds=folds, design=design)

    def restrict(self, uids: Collection[str]) -> RunScores:
        """Return the scores of the rows with these identifiers alone.

        Raises:
            StoreError: it has none of these rows.
        """
        places = [i for i, uid in enumerate(self.uid) if uid in uids]
        if not places:
            raise StoreError("there are no predictions to score.")
        if len(places) == len(self.uid):
            return self

        def take(column: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(column[place] for place in places) if column else ()

        by_row = self.credits is not None and self.credits.shape[1] == len(self.uid)
        credits = self.credits[:, places] if self.credits is not None and by_row else None
        return replace(
            self,
            uid=take(self.uid),
            label=take(self.label),
            cluster=take(self.cluster),
            question=take(self.question),
            tables=self.tables[:, places],
            credits=credits,
            folds=None if self.folds is None else self.folds[:, places],
        )


def score_runs(
    predictions: Sequence[Predictions],
    metric: str,
    design: TestDesign = SPLIT,
    folds: Array | None = None,
) -> RunScores:
    """Compute the scores of runs by a metric.

    Args:
        predictions: predictions of each seed on the same rows; under cross-validation of each
            repeat.
        metric: name of the metric.
        design: how the answers came about.
        folds: (repeats, rows): the outer fold whose run answered, where runs scatter.

    Raises:
        StoreError: the predictions are on different rows, or there are none.
    """
    _check_runs(predictions)
    scored, first = metrics.get(metric), predictions[0]
    answers = [getattr(run, scored.reads) for run in predictions]
    compared = first.label, answers, first.question
    bounds = scored.lowest, scored.highest
    tables = scored.statistics(*compared)
    scores = score_sums(predictions, tables, scored.from_sums, bounds, design, folds)
    credits = None if scored.credit is None else scored.credit(*compared)
    return replace(scores, credits=credits)


def score_segments(predictions: Sequence[Predictions], name: str) -> RunScores:
    """Compute the means of stored scores by segment, 0 to 1.

    Raises:
        StoreError: :func:`score_runs` would raise it, or a run has no such scores.
    """
    if any(name not in run.segment for run in predictions):
        raise StoreError(f"not every seed has {name} of its segments.")
    return score_means(predictions, [np.array(run.segment[name]) for run in predictions])


def score_means(predictions: Sequence[Predictions], values: Sequence[Array]) -> RunScores:
    """Compute the means of each run's ``values``, (rows,), 0 to 1."""
    tables = [np.stack([column, np.ones(len(column))], axis=1) for column in values]
    return score_sums(predictions, tables, ratio_of_sums)


def ratio_of_sums(sums: Array) -> Array:
    """Return the ratio of sums of values and sums of their weights, (..., 2)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def score_sums(
    predictions: Sequence[Predictions],
    tables: Sequence[Array] | Array,
    from_sums: Callable[[Array], Array],
    bounds: tuple[float, float] = (0.0, 1.0),
    design: TestDesign = SPLIT,
    folds: Array | None = None,
) -> RunScores:
    """Compute the scores of runs by any function of sums over rows.

    Args:
        predictions: predictions of each run, on the same rows.
        tables: (rows, columns) to be summed, for each run.
        from_sums: from sums (..., columns) to scores (...).
        bounds: lowest and highest possible score.
        design: how the answers came about.
        folds: outer folds as in :func:`score_runs`.

    Raises:
        StoreError: the predictions are on different rows, or there are none.
    """
    _check_runs(predictions)
    first = predictions[0]
    return RunScores(
        uid=first.uid,
        label=first.label,
        tables=np.asarray(tables),
        from_sums=from_sums,
        lowest=bounds[0],
        highest=bounds[1],
        cluster=first.cluster,
        question=first.question,
        design=design,
        folds=folds,
    )


def _check_runs(predictions: Sequence[Predictions]) -> None:
    if not predictions or not predictions[0].uid:
        raise StoreError("there are no predictions to score.")
    for run in predictions[1:]:
        _check_same_rows(predictions[0], run)


def check_paired(a: RunScores, b: RunScores) -> None:
    """Raise StoreError unless both scores are on the same rows, in the same clusters."""
    _check_same_rows(a, b)
    if a.units != b.units:
        raise StoreError(
            f"answers in {a.units} and in {b.units} groups cannot be compared.",
            remedy="The groups of the examples changed between runs; run the study again.",
        )


def _check_same_rows(a: Predictions | RunScores, b: Predictions | RunScores) -> None:
    if a.uid != b.uid or a.label != b.label:
        raise StoreError(
            f"answers to different examples cannot be compared ({len(a.uid)} and {len(b.uid)} "
            "examples, or others, or in another order).",
            remedy="The data of the task changed between runs; run the study again.",
        )


def keep_comparable(scores: Iterable[tuple[Key, RunScores | None]]) -> dict[Key, RunScores]:
    """Return the largest group of scores of the same rows or, cross-validated, of the same data."""
    groups: dict[object, dict[Key, RunScores]] = {}
    for name, score in scores:
        if score is not None:
            # Folds that failed or wait leave rows out, so cross-validated scores may differ in it.
            crossed = score.design.is_cross_validation
            rows = "folds" if crossed else (score.uid, score.units)
            groups.setdefault(rows, {})[name] = score
    return max(groups.values(), key=len, default={})
