"""The difference of two lists of answers, seed by seed, as tests ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paretune.analysis.statistics.differences import score_difference
from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.scores import bootstrap_score
from paretune.store.record import Predictions


def difference(a: Sequence[Predictions], b: Sequence[Predictions], metric: Any) -> Interval:
    """Score of ``a`` minus score of ``b``, each with one :class:`Predictions` per seed."""
    return score_difference(bootstrap_score(a, metric), bootstrap_score(b, metric))
