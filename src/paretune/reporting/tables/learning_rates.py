"""How a rate on trial is written: with its interval, or without a number."""

from __future__ import annotations

from collections.abc import Mapping

from paretune.analysis.lr_selection import Trial
from paretune.analysis.pareto.expected_best import RateScore
from paretune.analysis.statistics.score_interval import Interval
from paretune.reporting.build import Row
from paretune.reporting.text.formatting import format_interval, format_rate, format_units, pluralise


def tried_interval(
    trial: Trial, known: Mapping[float, RateScore | None], row: Row
) -> Interval | None:
    """Of one rate's selection score; None where its answers are not stored, or all was lost."""
    found = known.get(trial.rate)
    return None if found is None else found.interval(row.cell.metric)


def format_trial(trial: Trial, known: Mapping[float, RateScore | None], row: Row) -> str:
    """``1e-3: 0.71 [0.60, 0.82] (40 × 1, 1 fold)``."""
    found = tried_interval(trial, known, row)
    folds = pluralise(trial.folds, "fold")
    lost = f", {trial.failed} lost" if trial.failed else ""
    if found is None:
        score = "lost" if trial.failed == trial.folds else "no answers stored"
        return f"{format_rate(trial.rate)}: {score} ({folds}{lost})"
    return (
        f"{format_rate(trial.rate)}: {format_interval(found)} "
        f"({format_units(found)} × 1, {folds}{lost})"
    )
