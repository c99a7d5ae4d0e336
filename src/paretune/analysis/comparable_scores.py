"""Which scores can be compared: those of the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.statistics.bootstrap_score import BootstrapScore, restrict_rows

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


def scores_on_model(cells: Sequence[Cell], model: str) -> dict[str, BootstrapScore]:
    """By method key: comparable scores of one model's methods and of baselines without a model."""
    on_model = [c for c in cells if c.model in (model, NO_MODEL)]
    return keep_comparable((c.method, c.bootstrap) for c in on_model)


def _rows_key(score: BootstrapScore) -> object:
    # Folds that failed or wait leave rows out, so cross-validated scores may differ in rows.
    return "folds" if score.design.is_cross_validation else (score.uid, score.units)
