"""How sure a score is: seeds and examples, both.

A cell's score is the mean over its seeds. It would come out differently with other seeds and with
other test examples, so its variance is the sum of both parts::

    se^2 = s_seeds^2 / S + v_examples

``v_examples`` is a bootstrap over examples of the mean over seeds, and never less than what four
imagined examples, two right and two wrong, would leave (Agresti and Coull 1998): eight right of
eight is not certainty. Numbers and translations are never just right: there it is the bootstrap
alone, and what no draw and no seed moves has no width (a model that answers nothing scores 0 in
every draw). The quantile is Cochran and Cox's (:mod:`paretune.analysis.statistics.cochran_cox`).

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

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from paretune import metrics
from paretune.analysis.statistics.bootstrap import (
    MAX_UNITS,
    Resample,
    bootstrap_weights,
    resample_metric,
    resample_sums,
    sum_by_unit,
)
from paretune.analysis.statistics.cochran_cox import cochran_cox_half_width
from paretune.errors import StoreError
from paretune.metrics import Array
from paretune.store.record import Predictions
from paretune.study import Answer

LEVEL = 0.95


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
class BootstrapScore:
    """Scores of some seeds on the same examples, resampled once and compared often.

    Shapes: ``seeds`` (seeds,) scores; ``draws`` (DRAWS,) resampled mean over seeds; ``credit``
    (examples,) share of seeds that answer rightly, None for numbers and texts; for the metrics of
    answer sets (questions,), how well seeds answer each. ``cluster`` and ``question`` as in
    :class:`Predictions`.
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


def bootstrap_score(predictions: Sequence[Predictions], metric: str) -> BootstrapScore:
    """Score every seed and resample the examples, or whole clusters of them.

    Equal numbers of units are resampled equally, so draws of two cells are paired.

    Raises:
        StoreError: the predictions are of different examples, or there are none.

    """
    _check_seeds(predictions)
    value = metrics.get(metric)
    return _resample(
        predictions, *resample_metric(predictions, value), (value.lowest, value.highest)
    )


def bootstrap_segment_scores(predictions: Sequence[Predictions], name: str) -> BootstrapScore:
    """As :func:`bootstrap_score`, of what the predictions hold segment by segment: its mean, 0 to
    1.

    Raises:
        StoreError: as there, or a seed has no such scores.

    """
    if any(name not in one.segment for one in predictions):
        raise StoreError(f"not every seed has {name} of its segments.")
    return bootstrap_means(predictions, [np.array(one.segment[name]) for one in predictions])


def bootstrap_means(predictions: Sequence[Predictions], values: Sequence[Array]) -> BootstrapScore:
    """As :func:`bootstrap_score`, of the mean of each seed's ``values``, (examples,), 0 to 1."""
    tables = [np.stack([given, np.ones(len(given))], axis=1) for given in values]
    return bootstrap_sums(predictions, tables, lambda sums: sums[..., 0] / sums[..., 1])


def bootstrap_sums(
    predictions: Sequence[Predictions],
    tables: Sequence[Array],
    from_sums: Callable[[Array], Array],
) -> BootstrapScore:
    """As :func:`bootstrap_score`, of any score, 0 to 1, that is a function of sums over examples.

    Args:
        predictions: one for each seed.
        tables: what is summed, (examples, columns), for each of them.
        from_sums: the scores of sums, whose last axis is the columns.

    Raises:
        StoreError: the predictions are of different examples, or there are none.

    """
    _check_seeds(predictions)
    parts = [sum_by_unit(*pair) for pair in zip(tables, predictions, strict=True)]
    return _resample(
        predictions,
        lambda weights: from_sums(np.stack([resample_sums(part, weights) for part in parts])),
        None,
        (0.0, 1.0),
    )


def _check_seeds(predictions: Sequence[Predictions]) -> None:
    if not predictions or not predictions[0].uid:
        raise StoreError("there are no predictions to score.")
    first = predictions[0]
    for other in predictions[1:]:
        _check_same_examples(first.uid, first.label, other.uid, other.label)


def _resample(
    predictions: Sequence[Predictions],
    scores: Resample,
    right: Array | None,
    bounds: tuple[float, float],
) -> BootstrapScore:
    first = predictions[0]
    cell = BootstrapScore(
        uid=first.uid,
        label=first.label,
        seeds=scores(None)[:, 0],
        draws=np.empty(0),
        credit=right,
        lowest=bounds[0],
        highest=bounds[1],
        cluster=first.cluster,
        question=first.question,
    )
    weights = bootstrap_weights(min(cell.units, MAX_UNITS))
    return replace(cell, draws=scores(weights).mean(axis=0))


def score_interval(predictions: Sequence[Predictions], metric: str) -> Interval:
    """The mean score of the seeds (one :class:`Predictions` each, same examples), 95 %."""
    return confidence_interval(bootstrap_score(predictions, metric))


def confidence_interval(cell: BootstrapScore) -> Interval:
    """The interval of a cell that is scored already."""
    v_examples = example_variance(cell)
    found = student_interval(cell.estimate, [cell], v_examples, (cell.lowest, cell.highest))
    if cell.units < 2:
        return found
    half = float(
        cochran_cox_half_width(cell.seed_variance, len(cell.seeds), v_examples, cell.units, LEVEL)
    )
    low, high = max(cell.lowest, found.estimate - half), min(cell.highest, found.estimate + half)
    return replace(found, low=low, high=high)


def example_variance(cell: BootstrapScore) -> float:
    """The variance of a score that comes from the examples: bootstrap, and never less than the
    least that so many examples leave.
    """
    v_examples = bootstrap_variance(cell, cell.draws)
    if cell.credit is None:
        return v_examples
    return max(v_examples, float(plus_four_variance(cell.credit)))


def plus_four_variance(right: Array) -> Array:
    """What four imagined examples more, two right and two wrong, leave; (...,).

    Shapes: ``right`` (..., examples), the share of seeds that answer rightly.
    """
    n = right.shape[-1] + 4
    mean = (right.sum(axis=-1) + 2) / n
    return np.asarray((((right**2).sum(axis=-1) + 2) / n - mean**2) / n)


def bootstrap_variance(cell: BootstrapScore, draws: Array) -> float:
    """The variance of draws over the units of a cell; few clusters would make it too small."""
    variance = float(draws.var(ddof=1))
    if not cell.cluster and not cell.question:
        return variance
    return variance * cell.units / max(cell.units - 1, 1)


def student_interval(
    estimate: float, cells: Sequence[BootstrapScore], v_examples: float, bounds: tuple[float, float]
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


def check_paired(a: BootstrapScore, b: BootstrapScore) -> None:
    """Raises StoreError unless both cells answered the same examples, in the same clusters."""
    _check_same_examples(a.uid, a.label, b.uid, b.label)
    if a.units != b.units:
        raise StoreError(
            "answers that name their clusters and answers that do not cannot be compared.",
            remedy="An older version made one of them; run the study again in a new store.",
        )
