"""Scores of seeds on the same examples, with bootstrap draws.

Any metric that is a function of sums over examples is resampled. The resampled unit is a cluster, a
question or an example (:mod:`paretune.analysis.statistics.intervals` says which and why). 2,000
draws are one matrix product.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from paretune import metrics
from paretune.errors import StoreError
from paretune.metrics import Array
from paretune.store.record import Predictions
from paretune.study import Answer

DRAWS = 2000
MAX_UNITS = 4000
_SEED = 20_241_124
_PHI = 1.5
_PHI_OF_REPEATS_OF_FEW_ROWS = 2.0
_FEW_ROWS = 250
_ROWS_OF_SHARED_VARIANCE = 6000.0
"""So many rows have, together, as much variance of their own as what all folds share: about half a
point of each method from the training set."""


@dataclass(frozen=True)
class TestDesign:
    """The design of the answers that scores are computed from.

    Attributes:
        folds: outer folds, each answered by a run that was trained on the others; 0: every seed
            answers one test part.
        repeats: times that all rows were divided into folds anew.
    """

    __test__ = False  # not a test class for pytest

    folds: int = 0
    repeats: int = 1

    @property
    def is_cross_validation(self) -> bool:
        """Whether rows were answered by runs trained on the other folds."""
        return self.folds > 0

    @property
    def runs(self) -> int:
        """Runs that answer all rows ``repeats`` times; 1 of a split, whatever its seeds."""
        return max(self.folds, 1) * self.repeats

    def phi(self, rows: int) -> float:
        """By how much the variance of ``rows`` independent rows is multiplied; 1 of a split.

        Training sets of folds overlap, and their rows are the test rows of other folds, so errors
        of different rows depend on one another. No unbiased estimate of that variance exists
        (Bengio and Grandvalet 2004). What differs between folds is in the variance of runs
        (:attr:`BootstrapScore.run_variance`); these factors are for what all folds share: 1.5 is
        what real runs needed on average. More repeats average the noise of
        single runs but not what they share, of which small training sets have more. What is shared
        does not shrink with the rows as their own variance does, so its share grows with them.
        """
        if not self.is_cross_validation:
            return 1.0
        few = self.repeats > 1 and rows < _FEW_ROWS
        least = _PHI_OF_REPEATS_OF_FEW_ROWS if few else _PHI
        return max(least, 1 + rows / _ROWS_OF_SHARED_VARIANCE)


SPLIT = TestDesign()
"""One test part that every seed answers."""


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
    def cluster_factor(self) -> float:
        """K / (k - 1) of k clusters or questions, which corrects a variance for few; else 1."""
        if not self.cluster and not self.question:
            return 1.0
        return self.units / max(self.units - 1, 1)

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
    _check_seeds(predictions)
    scored, first = metrics.get(metric), predictions[0]
    compared = first.label, [seed.prediction for seed in predictions], first.question
    score = bootstrap_sums(
        predictions,
        scored.statistics(*compared),
        scored.from_sums,
        (scored.lowest, scored.highest),
        design,
        folds,
    )

    def rescore(rows: Sequence[int]) -> BootstrapScore:
        answers = [_take(seed, rows) for seed in predictions]
        return bootstrap_score(answers, metric, design, None if folds is None else folds[:, rows])

    credit = None if scored.credit is None else scored.credit(*compared).mean(axis=0)
    return replace(score, credit=credit, rescore=rescore)


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
    return bootstrap_sums(predictions, tables, ratio_of_sums)


def ratio_of_sums(sums: Array) -> Array:
    """The mean of sums of values and of their weights, (..., 2)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def bootstrap_sums(
    predictions: Sequence[Predictions],
    tables: Sequence[Array] | Array,
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
    first = predictions[0]
    units = [_sum_by_unit(table, first) for table in tables]

    def resample(weights: Array | None) -> Array:
        return from_sums(np.stack([_resample_sums(table, weights) for table in units]))

    def rescore(rows: Sequence[int]) -> BootstrapScore:
        answers = [_take(seed, rows) for seed in predictions]
        part = [table[[*rows]] for table in tables]
        part_folds = None if folds is None else folds[:, rows]
        return bootstrap_sums(answers, part, from_sums, bounds, design, part_folds)

    score = BootstrapScore(
        uid=first.uid,
        label=first.label,
        seeds=resample(None)[:, 0],
        draws=np.empty(0),
        credit=None,
        lowest=bounds[0],
        highest=bounds[1],
        cluster=first.cluster,
        question=first.question,
        design=design,
        folds=folds,
        fold_scores=None if folds is None else _score_folds(np.asarray(tables), from_sums, folds),
        rescore=rescore,
    )
    drawn = resample(bootstrap_weights(min(score.units, MAX_UNITS)))
    count, residual = len(drawn), 0.0
    if count > 1:
        # What moves one seed's score but not the mean's when examples are resampled.
        spread = (drawn - drawn.mean(axis=0)).var(axis=1, ddof=1).sum()
        residual = float(spread) / (count * (count - 1)) * score.cluster_factor
    return replace(score, draws=drawn.mean(axis=0), residual_variance=residual)


def bootstrap_variance(score: BootstrapScore, draws: Array) -> float:
    """The variance of draws over the units of a score, corrected for few clusters."""
    return float(draws.var(ddof=1)) * score.cluster_factor


def _score_folds(tables: Array, from_sums: Callable[[Array], Array], folds: Array) -> Array:
    """The score of each fold's rows in each run: (runs, folds), NaN where a fold has no rows.

    Shapes: ``tables`` (runs, examples, columns), ``folds`` (runs, examples), the index of the fold
    that answered, or -1: such a row counts in no fold.
    """
    count = int(folds.max()) + 1
    members = np.eye(count + 1)[folds][..., :count]
    sums = np.einsum("ref,rec->rfc", members, tables.astype(np.float64))
    scores = np.full(sums.shape[:2], np.nan)
    filled = members.any(axis=1)
    scores[filled] = from_sums(sums[filled])
    return scores


def _sum_by_unit(table: Array, predictions: Predictions) -> Array:
    """Sums of rows (examples, columns) by resampled unit: (units, columns)."""
    units = predictions.cluster or predictions.question
    if not units:
        return table
    _, member = np.unique(np.asarray(units), return_inverse=True)
    sums = np.zeros((int(member.max()) + 1, table.shape[1]), dtype=table.dtype)
    np.add.at(sums, member, table)
    return sums


def _resample_sums(table: Array, weights: Array | None) -> Array:
    """Sums (draws, columns) of resampled rows (units, columns); one plain sum without weights."""
    if weights is None:
        return np.asarray(table.sum(axis=0, keepdims=True, dtype=np.float64))
    n = len(table)
    if n > weights.shape[1]:
        # Very many examples: resample blocks of examples drawn at random instead of examples.
        # With 4,000 blocks that costs the standard error about 1 % of its precision.
        order = np.random.default_rng([_SEED, n]).permutation(n)
        starts = np.linspace(0, n, weights.shape[1], endpoint=False).astype(np.int64)
        table = np.add.reduceat(table[order], starts, axis=0)
    sums: Array = (weights @ table).astype(np.float64)
    return sums


@functools.lru_cache(maxsize=6)
def bootstrap_weights(n: int) -> Array:
    """How often each of n units is drawn: (DRAWS, n), single precision, always the same."""
    drawn = np.random.default_rng([_SEED, n, 1]).integers(0, n, size=(DRAWS, n))
    flat = (drawn + np.arange(DRAWS)[:, None] * n).ravel()
    return np.bincount(flat, minlength=DRAWS * n).reshape(DRAWS, n).astype(np.float32)


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
    """Some rows, with what scores need."""

    def pick(column: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(column[i] for i in rows) if column else ()

    names = ("uid", "label", "prediction", "cluster", "question")
    columns = {name: pick(getattr(predictions, name)) for name in names}
    return replace(predictions, **columns, scores=(), segment={})


def _check_seeds(predictions: Sequence[Predictions]) -> None:
    if not predictions or not predictions[0].uid:
        raise StoreError("there are no predictions to score.")
    for seed in predictions[1:]:
        _check_same_examples(predictions[0], seed)


def check_paired(a: BootstrapScore, b: BootstrapScore) -> None:
    """Raise StoreError unless both scores are on the same examples, in the same clusters."""
    _check_same_examples(a, b)
    if a.units != b.units:
        raise StoreError(
            f"answers in {a.units} and in {b.units} groups cannot be compared.",
            remedy="The groups of the examples changed between runs; run the study again.",
        )


def _check_same_examples(a: Predictions | BootstrapScore, b: Predictions | BootstrapScore) -> None:
    if a.uid != b.uid or a.label != b.label:
        raise StoreError(
            f"answers to different examples cannot be compared ({len(a.uid)} and {len(b.uid)} "
            "examples, or others, or in another order).",
            remedy="The data of the task changed between runs; run the study again.",
        )


Key = TypeVar("Key", bound=Hashable)


def keep_comparable(
    scores: Iterable[tuple[Key, BootstrapScore | None]],
) -> dict[Key, BootstrapScore]:
    """The largest group of scores of the same examples or, cross-validated, of the same data."""
    by_name = {name: score for name, score in scores if score is not None}
    counts = Counter(map(_rows_key, by_name.values()))
    if not counts:
        return {}
    ((most_common, _),) = counts.most_common(1)
    return {name: s for name, s in by_name.items() if _rows_key(s) == most_common}


def align_rows(scores: Mapping[Key, BootstrapScore]) -> dict[Key, BootstrapScore]:
    """Comparable scores on the rows that all of them answered, so that draws are joint draws.

    Scores of fewer than half as many rows as the largest are left out, so that a configuration most
    of whose folds failed or wait takes nothing from the others. Where no row is common, those with
    as many rows as the largest.
    """
    if not scores:
        return {}
    most = max(len(score.uid) for score in scores.values())
    scores = {name: s for name, s in scores.items() if 2 * len(s.uid) >= most}
    common = frozenset.intersection(*(frozenset(score.uid) for score in scores.values()))
    if not common:
        largest = max(len(score.uid) for score in scores.values())
        complete = {name: s for name, s in scores.items() if len(s.uid) == largest}
        return complete if len(complete) == len(scores) else align_rows(complete)
    return {name: restrict_rows(score, common) for name, score in scores.items()}


def _rows_key(score: BootstrapScore) -> object:
    # Folds that failed or wait leave rows out, so cross-validated scores may differ in rows.
    return "folds" if score.design.is_cross_validation else (score.uid, score.units)
