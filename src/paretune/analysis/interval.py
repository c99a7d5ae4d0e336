"""How sure a score is: seeds and examples, both.

A cell's score is the mean over its seeds. It would come out differently with other seeds and with
other test examples, so its variance is the sum of both parts::

    se^2 = s_seeds^2 / S + v_examples

``v_examples`` is a bootstrap over examples of the mean over seeds, and never less than what four
imagined examples, two right and two wrong, would leave (Agresti and Coull 1998): eight right of
eight is not certainty. Numbers and translations are never just right: there it is the bootstrap
alone, and what no draw and no seed moves has no width (a model that answers nothing scores 0 in
every draw). The quantile is Student's, its degrees of freedom by Welch and Satterthwaite.

Examples that depend on one another are resampled together. The unit is the cluster where the
answers name one (all answers to all questions on one passage, all span pairs of one text), the
question where they name questions only, otherwise the example. A passage and not a question,
because a model that misreads a passage fails at many of its questions: by questions the interval
would be too narrow, by answers more so. The unit decides what is drawn and how many degrees of
freedom there are; the bootstrap's variance is k/(k - 1) times as large for k clusters, since k may
be 3 and not 300. The least variance of the four imagined examples remains that of single examples
(of F1a and EM: of questions), as if they were independent: a lower bound, whatever the clusters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from scipy import special

from paretune.analysis import answer_sets, numbers, translations
from paretune.analysis.scores import HIGHEST, LOWEST, Array, from_counts
from paretune.errors import StoreError
from paretune.metrics.translation import Name
from paretune.store.record import Predictions
from paretune.study import OF_NUMBERS, OF_SETS, OF_TEXTS, Answer, Metric

Shown = Metric | Literal["ter"]
"""What can be scored: the metrics that may be primary, and TER, which is shown beside them."""

DRAWS = 2000
LEVEL = 0.95
_BLOCKS = 4000
_SEED = 20_241_124


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval.

    ``share_seeds`` is the part of the variance that comes from seeds, and 0 where one seed leaves
    it unknown: then the interval speaks of examples only (:attr:`examples_only`). ``p`` is the
    two-sided p-value against 0, meant for differences. ``n_clusters`` and ``n_questions`` are 0
    where examples belong to none. ``highest`` is what the score can come up to: it says how the
    number is written.
    """

    estimate: float
    low: float
    high: float
    n_examples: int
    n_seeds: int
    share_seeds: float
    p: float = 0.0
    n_clusters: int = 0
    n_questions: int = 0
    highest: float = 1.0

    @property
    def examples_only(self) -> bool:
        """One seed: how much seeds would move the score is not known."""
        return self.n_seeds == 1


@dataclass(frozen=True)
class Scored:
    """Scores of some seeds on the same examples, resampled once and compared often.

    Shapes: ``seeds`` (seeds,) scores; ``draws`` (DRAWS,) resampled mean over seeds; ``right``
    (examples,) share of seeds that answer rightly, None for numbers and texts; for the metrics of
    answer sets (questions,), how well seeds answer each. ``cluster`` and ``question`` as in
    :class:`Predictions`.
    """

    uid: tuple[str, ...]
    label: tuple[Answer, ...]
    seeds: Array
    draws: Array
    right: Array | None
    lowest: float = 0.0
    highest: float = 1.0
    cluster: tuple[int, ...] = ()
    question: tuple[int, ...] = ()

    @property
    def units(self) -> int:
        """How many independent units were resampled: clusters, questions or examples."""
        return len(set(self.cluster or self.question)) or len(self.uid)

    @property
    def estimate(self) -> float:
        """The mean over seeds."""
        return float(self.seeds.mean())

    @property
    def seed_variance(self) -> float:
        """Variance of the mean that comes from seeds; 0 for one seed."""
        count = len(self.seeds)
        return float(self.seeds.var(ddof=1)) / count if count > 1 else 0.0


def scored(predictions: Sequence[Predictions], metric: Shown) -> Scored:
    """Score every seed and resample the examples, or whole clusters of them.

    Equal numbers of units are resampled equally, so draws of two cells are paired.

    Raises:
        StoreError: the predictions are of different examples, or there are none.

    """
    _check(predictions)
    bounds = LOWEST.get(metric, 0.0), HIGHEST.get(metric, 1.0)
    return _resampled(predictions, *_scorer(metric)(predictions, metric), bounds)


def scored_segments(predictions: Sequence[Predictions], name: str) -> Scored:
    """As :func:`scored`, of what the predictions hold segment by segment: its mean, 0 to 1.

    Raises:
        StoreError: as there, or a seed has no such scores.

    """
    if any(name not in one.segment for one in predictions):
        raise StoreError(f"not every seed has {name} of its segments.")
    return scored_means(predictions, [np.array(one.segment[name]) for one in predictions])


def scored_means(predictions: Sequence[Predictions], values: Sequence[Array]) -> Scored:
    """As :func:`scored`, of the mean of each seed's ``values``, (examples,), 0 to 1."""
    tables = [np.stack([given, np.ones(len(given))], axis=1) for given in values]
    return scored_sums(predictions, tables, lambda sums: sums[..., 0] / sums[..., 1])


def scored_sums(
    predictions: Sequence[Predictions],
    tables: Sequence[Array],
    from_sums: Callable[[Array], Array],
) -> Scored:
    """As :func:`scored`, of any score, 0 to 1, that is a function of sums over examples.

    Args:
        predictions: one for each seed.
        tables: what is summed, (examples, columns), for each of them.
        from_sums: the scores of sums, whose last axis is the columns.

    Raises:
        StoreError: the predictions are of different examples, or there are none.

    """
    _check(predictions)
    parts = [_pooled(*pair) for pair in zip(tables, predictions, strict=True)]
    return _resampled(
        predictions,
        lambda weights: from_sums(np.stack([_counted(part, weights) for part in parts])),
        None,
        (0.0, 1.0),
    )


def _check(predictions: Sequence[Predictions]) -> None:
    if not predictions or not predictions[0].uid:
        raise StoreError("there are no predictions to score.")
    first = predictions[0]
    for other in predictions[1:]:
        _same_examples(first.uid, first.label, other.uid, other.label)


def _resampled(
    predictions: Sequence[Predictions],
    scores: Resample,
    right: Array | None,
    bounds: tuple[float, float],
) -> Scored:
    first = predictions[0]
    cell = Scored(
        uid=first.uid,
        label=first.label,
        seeds=scores(None)[:, 0],
        draws=np.empty(0),
        right=right,
        lowest=bounds[0],
        highest=bounds[1],
        cluster=first.cluster,
        question=first.question,
    )
    weights = _resampling(min(cell.units, _BLOCKS))
    return replace(cell, draws=scores(weights).mean(axis=0))


Resample = Callable[[Array | None], Array]
"""Scores of the examples as they are (None) or resampled with these weights; (seeds, draws)."""


def _scorer(
    metric: Shown,
) -> Callable[[Sequence[Predictions], Shown], tuple[Resample, Array | None]]:
    if metric in OF_SETS:
        return _of_sets
    if metric in (*OF_TEXTS, "ter"):
        return _of_texts
    return _of_numbers if metric in OF_NUMBERS else _of_classes


def _of_classes(predictions: Sequence[Predictions], metric: Shown) -> tuple[Resample, Array]:
    label = np.array(predictions[0].label)
    answer = np.array([p.prediction for p in predictions])
    size = 1 + max(int(label.max()), int(answer.max()))
    eye = np.eye(size, dtype=np.float32)
    true, given = eye[label], eye[answer]
    hit = given * true
    pooled = [_pooled(part, predictions[0]) for part in (*hit, *given, true)]

    def scores(weights: Array | None) -> Array:
        # A column of counts for every seed and label; examples first, for one product each.
        counted = [_counted(part, weights) for part in pooled]
        seeds = len(predictions)
        return from_counts(
            cast(Metric, metric),
            np.stack(counted[:seeds]),
            np.stack(counted[seeds:-1]),
            counted[-1],
        )

    return scores, (answer == label).mean(axis=0)


def _of_numbers(predictions: Sequence[Predictions], metric: Shown) -> tuple[Resample, None]:
    label = np.array(predictions[0].label, dtype=float)
    parts = [
        _pooled(numbers.columns(metric, label, np.array(p.prediction, dtype=float)), p)
        for p in predictions
    ]
    return (
        lambda weights: numbers.from_sums(
            metric, np.stack([_counted(part, weights) for part in parts])
        ),
        None,
    )


def _of_sets(predictions: Sequence[Predictions], metric: Shown) -> tuple[Resample, Array]:
    label = np.array(predictions[0].label)
    # Without questions every answer is one of its own.
    question = predictions[0].question or range(len(label))
    answers = [np.array(p.prediction) for p in predictions]
    parts = [
        _pooled(answer_sets.columns(label, answer, question), predictions[0]) for answer in answers
    ]
    credit = [answer_sets.credit(label, answer, question) for answer in answers]
    return (
        lambda weights: answer_sets.from_sums(
            np.stack([_counted(part, weights) for part in parts])
        ),
        np.mean(credit, axis=0),
    )


def _of_texts(predictions: Sequence[Predictions], metric: Shown) -> tuple[Resample, None]:
    name = cast(Name, metric)
    references = tuple(str(label) for label in predictions[0].label)
    parts = [
        _pooled(translations.columns(name, tuple(str(t) for t in p.prediction), references), p)
        for p in predictions
    ]
    return (
        lambda weights: translations.from_sums(
            name, np.stack([_counted(part, weights) for part in parts])
        ),
        None,
    )


def _pooled(part: Array, given: Predictions) -> Array:
    """Sums of rows (examples, columns) over what is resampled together: (units, columns)."""
    units = given.cluster or given.question
    if not units:
        return part
    _, member = np.unique(np.asarray(units), return_inverse=True)
    summed = np.zeros((int(member.max()) + 1, part.shape[1]), dtype=part.dtype)
    np.add.at(summed, member, part)
    return summed


def score_interval(predictions: Sequence[Predictions], metric: Metric) -> Interval:
    """The mean score of the seeds (one :class:`Predictions` each, same examples), 95 %."""
    return interval_of(scored(predictions, metric))


def interval_of(cell: Scored) -> Interval:
    """The interval of a cell that is scored already."""
    v_examples = bootstrap_variance(cell, cell.draws)
    if cell.right is not None:
        imagined = np.concatenate([cell.right, [0.0, 0.0, 1.0, 1.0]])
        v_examples = max(v_examples, float(imagined.var()) / len(imagined))
    return student(cell.estimate, [cell], v_examples, (cell.lowest, cell.highest))


def bootstrap_variance(cell: Scored, draws: Array) -> float:
    """The variance of draws over the units of a cell; few clusters would make it too small."""
    variance = float(draws.var(ddof=1))
    if not cell.cluster and not cell.question:
        return variance
    return variance * cell.units / max(cell.units - 1, 1)


def student(
    estimate: float, cells: Sequence[Scored], v_examples: float, bounds: tuple[float, float]
) -> Interval:
    """Student's interval from the seeds of one or two cells and the examples they share.

    Where neither moves anything, the interval is the estimate; of one unit nothing is known.
    """
    parts = [(c.seed_variance, len(c.seeds) - 1) for c in cells if len(c.seeds) > 1]
    v_seeds = sum(v for v, _ in parts)
    shared = cells[0]
    parts.append((v_examples, max(shared.units - 1, 1)))
    total = v_seeds + v_examples
    half, p = (0.0, float(estimate == 0)) if shared.units > 1 else (math.inf, 1.0)
    if total > 0:
        freedom = total**2 / sum(v**2 / df for v, df in parts)
        error = total**0.5
        half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
        p = 2 * float(special.stdtr(freedom, -abs(estimate) / error))
    return Interval(
        estimate=estimate,
        low=max(bounds[0], estimate - half),
        high=min(bounds[1], estimate + half),
        n_examples=len(shared.uid),
        n_seeds=min(len(c.seeds) for c in cells),
        share_seeds=v_seeds / total if total > 0 else 0.0,
        p=p,
        n_clusters=len(set(shared.cluster)),
        n_questions=len(set(shared.question)),
        highest=shared.highest,
    )


def _same_examples(
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


def check_paired(a: Scored, b: Scored) -> None:
    """Raises StoreError unless both cells answered the same examples, in the same clusters."""
    _same_examples(a.uid, a.label, b.uid, b.label)
    if a.units != b.units:
        raise StoreError(
            "answers that name their clusters and answers that do not cannot be compared.",
            remedy="An older version made one of them; run the study again in a new store.",
        )


def _counted(part: Array, weights: Array | None) -> Array:
    """Label counts (draws, labels) of one-hot rows (examples, labels)."""
    if weights is None:
        return np.asarray(part.sum(axis=0, keepdims=True, dtype=np.float64))
    n = len(part)
    if n > weights.shape[1]:
        # Very many examples: resample blocks of examples drawn at random instead of examples.
        # With 4,000 blocks that costs the standard error about 1 % of its precision.
        order = np.random.default_rng([_SEED, n]).permutation(n)
        starts = np.linspace(0, n, weights.shape[1], endpoint=False).astype(np.int64)
        part = np.add.reduceat(part[order], starts, axis=0)
    counts: Array = (weights @ part).astype(np.float64)
    return counts


@functools.lru_cache(maxsize=6)
def _resampling(n: int) -> Array:
    """How often each of n units is drawn; (DRAWS, n), single precision, always the same."""
    drawn = np.random.default_rng([_SEED, n, 1]).integers(0, n, size=(DRAWS, n))
    flat = (drawn + np.arange(DRAWS)[:, None] * n).ravel()
    return np.bincount(flat, minlength=DRAWS * n).reshape(DRAWS, n).astype(np.float32)
