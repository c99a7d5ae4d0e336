"""Scores of seeds on the same examples, with bootstrap draws.

Which examples are resampled together, and why, is in
:mod:`paretune.analysis.statistics.score_interval`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from paretune import metrics
from paretune.analysis.statistics.bootstrap import (
    MAX_UNITS,
    Resample,
    bootstrap_weights,
    resample_metric,
    resample_sums,
    score_folds,
    sum_by_unit,
)
from paretune.analysis.test_design import SPLIT, TestDesign
from paretune.errors import StoreError
from paretune.metrics import Array
from paretune.store.record import Predictions
from paretune.study import Answer


@dataclass(frozen=True)
class BootstrapScore:
    """Scores of some seeds on the same examples, with bootstrap draws.

    Under outer cross-validation "seeds" are repeats: each has answered every row once.

    Attributes:
        uid: (examples,)
        label: (examples,)
        seeds: (seeds,) score of each seed.
        draws: (DRAWS,) bootstrap draws of the mean over seeds.
        credit: (examples,) share of seeds that answer correctly; of answer sets (questions,), how
            well seeds answer each; None for numbers and texts.
        lowest: of the metric.
        highest: of the metric.
        cluster: as in :class:`Predictions`.
        question: as in :class:`Predictions`.
        design: how the answers came about.
        residual_variance: variance of the mean over seeds that is noise of single answers: what
            neither the seed nor the example explains. Both other variances contain it.
        folds: (repeats, examples): the outer fold whose run answered; None under one split, and of
            what draws nothing, whose runs do not scatter.
        fold_scores: (repeats, folds): of each fold's rows; NaN where a fold has none.
        rescore: the same of some of the examples, by their places; None where they are fixed.
    """

    uid: tuple[str, ...]
    label: tuple[Answer, ...]
    seeds: Array
    draws: Array
    credit: Array | None
    lowest: float = 0.0
    highest: float = 1.0
    cluster: tuple[int, ...] = ()
    question: tuple[int, ...] = ()
    design: TestDesign = SPLIT
    residual_variance: float = 0.0
    folds: Array | None = None
    fold_scores: Array | None = None
    rescore: Callable[[Sequence[int]], BootstrapScore] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def units(self) -> int:
        """Number of resampled units: clusters, questions or examples."""
        return len(set(self.cluster or self.question)) or len(self.uid)

    @property
    def estimate(self) -> float:
        """The mean over seeds."""
        return float(self.seeds.mean())

    @property
    def runs(self) -> int:
        """Number of runs whose scatter is in the estimate: seeds, or folds of all repeats."""
        if self.fold_scores is None:
            return len(self.seeds)
        return int(np.isfinite(self.fold_scores).sum())

    @property
    def run_degrees(self) -> int:
        """Degrees of freedom of :attr:`run_variance`; 0: it is unknown."""
        if self.fold_scores is not None:
            return int(np.maximum(np.isfinite(self.fold_scores).sum(axis=1) - 1, 0).sum())
        return 0 if self.design.is_cross_validation else len(self.seeds) - 1

    @property
    def run_variance(self) -> float:
        """Variance of single runs' scores; 0 if it is unknown.

        Under cross-validation the variance between folds of a repeat, less what their rows explain:
        unbiased, so it may be negative. A fold has 1/K of the rows, so K times their variance.
        """
        if self.run_degrees < 1:
            return 0.0
        if self.fold_scores is None:
            return float(self.seeds.var(ddof=1))
        by_repeat = np.nanvar(self.fold_scores, axis=1) * np.isfinite(self.fold_scores).sum(axis=1)
        return float(by_repeat.sum()) / self.run_degrees - self.row_noise

    @property
    def row_noise(self) -> float:
        """Variance of one fold's score that comes from its rows; 0 under one split."""
        if self.fold_scores is None:
            return 0.0
        # Of one repeat: the noise of single answers is averaged over repeats in the draws.
        rows = bootstrap_variance(self, self.draws) + (len(self.seeds) - 1) * self.residual_variance
        return rows * self.runs / len(self.seeds)

    @property
    def seed_variance(self) -> float:
        """Variance of the estimate that comes from the scatter of runs; 0 if it is unknown."""
        return max(self.run_variance, 0.0) / max(self.runs, 1)


def bootstrap_score(
    predictions: Sequence[Predictions],
    metric: str,
    design: TestDesign = SPLIT,
    folds: Array | None = None,
) -> BootstrapScore:
    """Score every seed, and resample the examples or their clusters.

    The same weights resample equal numbers of units, so draws of two cells are paired.

    Args:
        predictions: of each seed, on the same examples; under cross-validation of each repeat.
        metric: its name.
        design: how the answers came about.
        folds: (repeats, examples): the outer fold whose run answered, where runs scatter.

    Raises:
        StoreError: the predictions are on different examples, or there are none.
    """
    value = metrics.get(metric)
    _check_seeds(predictions)
    score = _resample(
        predictions, *resample_metric(predictions, value), (value.lowest, value.highest)
    )
    fold_scores = None
    if folds is not None:
        first, runs = predictions[0], [run.prediction for run in predictions]
        tables = value.statistics(first.label, runs, first.question)
        fold_scores = score_folds(tables, value.from_sums, folds)

    def rescore(rows: Sequence[int]) -> BootstrapScore:
        answers = [_take(seed, rows) for seed in predictions]
        return bootstrap_score(answers, metric, design, None if folds is None else folds[:, rows])

    return replace(score, design=design, folds=folds, fold_scores=fold_scores, rescore=rescore)


def bootstrap_segment_scores(predictions: Sequence[Predictions], name: str) -> BootstrapScore:
    """As :func:`bootstrap_score`, of the mean of stored scores by segment, 0 to 1.

    Raises:
        StoreError: as there, or a seed has no such scores.
    """
    if any(name not in seed.segment for seed in predictions):
        raise StoreError(f"not every seed has {name} of its segments.")
    return bootstrap_means(predictions, [np.array(seed.segment[name]) for seed in predictions])


def bootstrap_means(predictions: Sequence[Predictions], values: Sequence[Array]) -> BootstrapScore:
    """As :func:`bootstrap_score`, of the mean of each seed's ``values``, (examples,), 0 to 1."""
    tables = [np.stack([column, np.ones(len(column))], axis=1) for column in values]
    return bootstrap_sums(predictions, tables, lambda sums: sums[..., 0] / sums[..., 1])


def bootstrap_sums(
    predictions: Sequence[Predictions],
    tables: Sequence[Array],
    from_sums: Callable[[Array], Array],
    bounds: tuple[float, float] = (0.0, 1.0),
    design: TestDesign = SPLIT,
    folds: Array | None = None,
) -> BootstrapScore:
    """As :func:`bootstrap_score`, of any score that is a function of sums over examples.

    Args:
        predictions: of each seed, on the same examples.
        tables: (examples, columns) to be summed, of each seed.
        from_sums: from sums (..., columns) to scores (...).
        bounds: lowest and highest possible score.
        design: how the answers came about.
        folds: as there.

    Raises:
        StoreError: the predictions are on different examples, or there are none.
    """
    _check_seeds(predictions)
    units = [sum_by_unit(*pair) for pair in zip(tables, predictions, strict=True)]
    score = _resample(
        predictions,
        lambda weights: from_sums(np.stack([resample_sums(table, weights) for table in units])),
        None,
        bounds,
    )

    def rescore(rows: Sequence[int]) -> BootstrapScore:
        answers = [_take(seed, rows) for seed in predictions]
        part = [table[[*rows]] for table in tables]
        own_folds = None if folds is None else folds[:, rows]
        return bootstrap_sums(answers, part, from_sums, bounds, design, own_folds)

    fold_scores = None if folds is None else score_folds(np.stack(tables), from_sums, folds)
    return replace(score, design=design, folds=folds, fold_scores=fold_scores, rescore=rescore)


def _check_seeds(predictions: Sequence[Predictions]) -> None:
    if not predictions or not predictions[0].uid:
        raise StoreError("there are no predictions to score.")
    first = predictions[0]
    for other in predictions[1:]:
        _check_same_examples(first.uid, first.label, other.uid, other.label)


def _resample(
    predictions: Sequence[Predictions],
    scores: Resample,
    credit: Array | None,
    bounds: tuple[float, float],
) -> BootstrapScore:
    first = predictions[0]
    score = BootstrapScore(
        uid=first.uid,
        label=first.label,
        seeds=scores(None)[:, 0],
        draws=np.empty(0),
        credit=credit,
        lowest=bounds[0],
        highest=bounds[1],
        cluster=first.cluster,
        question=first.question,
    )
    drawn = scores(bootstrap_weights(min(score.units, MAX_UNITS)))
    count = len(drawn)
    residual = 0.0
    if count > 1:
        # What moves one seed's score but not the mean's when examples are resampled.
        spread = (drawn - drawn.mean(axis=0)).var(axis=1, ddof=1).sum()
        residual = float(spread) / (count * (count - 1)) * _cluster_factor(score)
    return replace(score, draws=drawn.mean(axis=0), residual_variance=residual)


def bootstrap_variance(score: BootstrapScore, draws: Array) -> float:
    """The variance of draws over the units of a score, corrected for few clusters."""
    return float(draws.var(ddof=1)) * _cluster_factor(score)


def _cluster_factor(score: BootstrapScore) -> float:
    if not score.cluster and not score.question:
        return 1.0
    return score.units / max(score.units - 1, 1)


def _check_same_examples(
    uid: tuple[str, ...],
    label: tuple[Answer, ...],
    other: tuple[str, ...],
    others: tuple[Answer, ...],
) -> None:
    if uid != other or label != others:
        raise StoreError(
            f"answers to different examples cannot be compared ({len(uid)} and {len(other)} "
            "examples, or others, or in another order).",
            remedy="The data of the task changed between runs; run the study again.",
        )


def restrict_rows(score: BootstrapScore, uids: Collection[str]) -> BootstrapScore:
    """The score of the rows with these identifiers alone.

    Raises:
        StoreError: it has none of them.
    """
    shared = [i for i, uid in enumerate(score.uid) if uid in uids]
    if len(shared) == len(score.uid):
        return score
    if score.rescore is None:
        raise ValueError("this score is of fixed examples")
    return score.rescore(shared)


def _take(predictions: Predictions, rows: Sequence[int]) -> Predictions:
    return replace(
        predictions,
        uid=tuple(predictions.uid[i] for i in rows),
        label=tuple(predictions.label[i] for i in rows),
        prediction=tuple(predictions.prediction[i] for i in rows),
        scores=(),
        cluster=tuple(predictions.cluster[i] for i in rows if predictions.cluster),
        question=tuple(predictions.question[i] for i in rows if predictions.question),
        segment={},
    )


def check_paired(a: BootstrapScore, b: BootstrapScore) -> None:
    """Raise StoreError unless both scores are on the same examples, in the same clusters."""
    _check_same_examples(a.uid, a.label, b.uid, b.label)
    if a.units != b.units:
        raise StoreError(
            f"answers in {a.units} and in {b.units} groups cannot be compared.",
            remedy="The groups of the examples changed between runs; run the study again.",
        )
